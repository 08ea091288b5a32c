"""The worker's GPU: looked for, told of, and watched for being lost."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lora_lab.errors import DeviceError
from lora_lab.workers.protocol import Gpu as GpuState
from lora_lab.workers.services import gpu as gpu_service
from lora_lab.workers.services.gpu import Gpu
from tests.unit.workers.helpers import Page


class FakeDevice:
    info = SimpleNamespace(name="Card", vendor="Maker", backend="Vulkan", is_software=False)

    def __init__(self) -> None:
        self.lost_reason: str | None = None
        self.asked = 0

    async def finished(self) -> None:
        self.asked += 1
        if self.lost_reason:
            raise DeviceError("it does not answer")


def test_a_gpu_is_told_of_and_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    device, page = FakeDevice(), Page()

    async def open_device() -> FakeDevice:
        return device

    monkeypatch.setattr(gpu_service, "open_device", open_device)
    monkeypatch.setattr(gpu_service, "WATCH_EVERY_S", 0.001)

    async def main() -> None:
        gpu = Gpu(page)
        gpu.look()
        assert await gpu.device() is device and await gpu.has_gpu()
        while device.asked < 3:
            await asyncio.sleep(0)
        assert [event.state for event in page.all(GpuState)] == ["looking", "found"]
        device.lost_reason = "it was unplugged"
        while len(page.events) < 3:
            await asyncio.sleep(0)
        asked = device.asked
        await asyncio.sleep(0.005)
        assert device.asked == asked, "it is watched no longer"

    asyncio.run(main())
    _, found, lost = page.all(GpuState)
    assert found == GpuState("found", "Card", "Maker", "Vulkan", False)
    assert (lost.state, lost.name) == ("lost", "Card") and "The GPU was lost (it was unplugged)" in lost.message


def test_none_is_told_of_once_and_refused_to_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    page, opened = Page(), []

    async def open_device() -> None:
        opened.append(1)
        raise DeviceError("This browser has no WebGPU.")

    monkeypatch.setattr(gpu_service, "open_device", open_device)

    async def main() -> None:
        gpu = Gpu(page)
        with pytest.raises(DeviceError, match="was not looked for"):
            await gpu.device()
        assert not await gpu.has_gpu()
        gpu.look()
        for _ in range(2):
            with pytest.raises(DeviceError, match="no WebGPU"):
                await gpu.device()
        assert not await gpu.has_gpu()

    asyncio.run(main())
    assert page.events == [GpuState("looking"), GpuState("none", message="This browser has no WebGPU.")]
    assert len(opened) == 1
