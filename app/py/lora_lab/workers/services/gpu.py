"""The worker's GPU: looked for once, watched, and asked for anew when it is lost.

A device is lost when a computer sleeps, a driver is reset or the browser's GPU process dies. What was on it is gone:
services that keep something there say so with `when_lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from lora_lab.errors import DeviceError
from lora_lab.gpu import Device, open_device
from lora_lab.workers.protocol import Gpu as GpuState
from lora_lab.workers.wire.dispatch import Host
from lora_lab.workers.wire.host import phase

WATCH_EVERY_S = 1.5
# Hosts tell that a device is lost a little later than of the error that came of it.
LOSS_TOLD_S, ASK_EVERY_S = 2.0, 0.1
# A browser starts its GPU process anew, and a driver comes back, in seconds; after several losses in a row it waits.
ASK_AGAIN_AFTER_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
GONE = (
    "The browser gives this page no GPU any more. Close the browser with all its windows and open the page again; "
    "adapters that were kept are safe."
)


class Gpu:
    """A GPU of the worker's own, perhaps. `losses` counts how often it was lost."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._device: asyncio.Task[Device] | None = None
        self._watched: Device | None = None
        self._watcher: asyncio.Task[None] | None = None  # the loop holds tasks weakly
        self._listeners: tuple[Callable[[], None], ...] = ()
        self.losses = 0

    def look(self) -> None:
        """Begin to open the GPU; its events tell the page how that goes."""
        self._host.post(GpuState("looking"))
        self._begin(self._open())

    def when_lost(self, *listeners: Callable[[], None]) -> None:
        """Call these when the GPU is lost: all that was on it is gone."""
        self._listeners += listeners

    async def device(self) -> Device:
        """Return the GPU as soon as it is open, also for another time. DeviceError if there is none."""
        if self._device is None:
            raise DeviceError("The GPU was not looked for.")
        return await asyncio.shield(self._device)

    async def has_gpu(self) -> bool:
        """Return whether there is a GPU, as soon as that is known."""
        try:
            await self.device()
        except Exception:
            return False
        return True

    async def is_lost(self, device: Device) -> bool:
        """Return whether an error on this device came of its loss. Then `device` gives another one, or none."""
        for _ in range(int(LOSS_TOLD_S / ASK_EVERY_S)):
            if device is not self._watched:
                return True
            try:
                await device.finished()
            except Exception as error:
                self._lose(device, error)
                return True
            await asyncio.sleep(ASK_EVERY_S)
        return device is not self._watched

    def _begin(self, opening: Coroutine[Any, Any, Device]) -> None:
        self._device = asyncio.ensure_future(opening)
        self._device.add_done_callback(lambda task: task.cancelled() or task.exception())  # told to the page already

    async def _open(self) -> Device:
        try:
            with phase("gpu"):
                device = await open_device()
        except Exception as error:
            self._host.post(GpuState("none", message=str(error)))
            raise
        return self._found(device)

    def _found(self, device: Device) -> Device:
        info, message = device.info, f"The GPU was lost ({_times(self.losses)}) and is back." if self.losses else ""
        self._host.post(GpuState("found", info.name, info.vendor, info.backend, info.is_software, message, self.losses))
        self._watched = device
        self._watcher = asyncio.ensure_future(self._watch(device))
        return device

    async def _watch(self, device: Device) -> None:
        """See that the GPU is lost also while nothing is going on."""
        while device is self._watched:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await device.finished()
            except Exception as error:
                self._lose(device, error)

    def _lose(self, device: Device, error: Exception) -> None:
        """Begin to ask for another device in the place of this one, unless somebody has done so."""
        if device is not self._watched:
            return
        self._watched = None
        self.losses += 1
        reason = device.lost_reason or str(error)
        said = f"The GPU was lost ({reason}; {_times(self.losses)}). It is asked for anew."
        self._host.post(GpuState("again", device.info.name, message=said, losses=self.losses))
        self._begin(self._open_again(device))
        for tell in self._listeners:
            tell()

    async def _open_again(self, lost: Device) -> Device:
        for wait_s in ASK_AGAIN_AFTER_S:
            await asyncio.sleep(wait_s)
            try:
                device = await open_device()
                await device.finished()  # one that is lost at once is none
            except Exception:
                continue
            return self._found(device)
        self._host.post(GpuState("lost", lost.info.name, message=GONE, losses=self.losses))
        raise DeviceError(GONE)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
