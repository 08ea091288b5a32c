"""The worker's GPU: looked for once, and watched for being lost."""

from __future__ import annotations

import asyncio

from lora_lab.errors import DeviceError
from lora_lab.gpu import Device, open_device
from lora_lab.workers.protocol import Gpu as GpuState
from lora_lab.workers.wire.dispatch import Host
from lora_lab.workers.wire.host import phase

WATCH_EVERY_S = 1.5


class Gpu:
    """A GPU of the worker's own, perhaps."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._device: asyncio.Task[Device] | None = None
        self._watcher: asyncio.Task[None] | None = None  # the loop holds tasks weakly

    def look(self) -> None:
        """Begin to open the GPU; its events tell the page how that goes."""
        self._device = asyncio.ensure_future(self._open())
        self._device.add_done_callback(lambda task: task.exception())  # told to the page already

    async def device(self) -> Device:
        """Return the GPU as soon as it is open. DeviceError if there is none."""
        if self._device is None:
            raise DeviceError("The GPU was not looked for.")
        return await self._device

    async def has_gpu(self) -> bool:
        """Return whether there is a GPU, as soon as that is known."""
        try:
            await self.device()
        except Exception:
            return False
        return True

    async def _open(self) -> Device:
        self._host.post(GpuState("looking"))
        try:
            with phase("gpu"):
                device = await open_device()
        except Exception as error:
            self._host.post(GpuState("none", message=str(error)))
            raise
        info = device.info
        self._host.post(GpuState("found", info.name, info.vendor, info.backend, info.is_software))
        self._watcher = asyncio.ensure_future(self._watch(device))
        return device

    async def _watch(self, device: Device) -> None:
        """Tell the page when the GPU is lost, also while nothing is going on."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await device.finished()
            except Exception as error:
                self._host.post(GpuState("lost", device.info.name, message=_lost_words(device, error)))
                return


def _lost_words(device: Device, error: Exception) -> str:
    reason = device.lost_reason or str(error)
    return (
        f"The GPU was lost ({reason}). That happens when the computer sleeps, a driver is updated or memory runs out. "
        "Adapters that were saved are safe."
    )
