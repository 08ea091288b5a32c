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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_service, "WATCH_EVERY_S", 0.001)
    monkeypatch.setattr(gpu_service, "ASK_EVERY_S", 0.001)
    monkeypatch.setattr(gpu_service, "LOSS_TOLD_S", 0.005)
    monkeypatch.setattr(gpu_service, "ASK_AGAIN_AFTER_S", (0.0, 0.001, 0.001))


def test_a_lost_gpu_is_asked_for_until_there_is_another(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, page = FakeDevice(), FakeDevice(), Page()
    answers: list[FakeDevice | None] = [first, None, first, second]  # none yet; one that is lost at once; another

    async def open_device() -> FakeDevice:
        if (device := answers.pop(0)) is None:
            raise DeviceError("no adapter")
        return device

    monkeypatch.setattr(gpu_service, "open_device", open_device)
    told: list[str] = []

    async def main() -> None:
        gpu = Gpu(page)
        gpu.when_lost(lambda: told.append("lost"))
        gpu.look()
        assert await gpu.device() is first and await gpu.has_gpu()
        while first.asked < 3:
            await asyncio.sleep(0)
        assert [event.state for event in page.all(GpuState)] == ["looking", "found"] and not told
        assert not await gpu.is_lost(first)  # the control
        first.lost_reason = "it was unplugged"
        assert await gpu.is_lost(first) and await gpu.is_lost(first)  # asked twice, lost once
        assert await gpu.device() is second and gpu.losses == 1 and told == ["lost"]
        asked = first.asked
        await asyncio.sleep(0.005)
        assert first.asked == asked, "it is watched no longer"
        assert second.asked > 1, "the new one is"

    asyncio.run(main())
    _, found, again, back = page.all(GpuState)
    assert found == GpuState("found", "Card", "Maker", "Vulkan", False)
    assert (again.state, again.name, again.losses) == ("again", "Card", 1)
    assert "The GPU was lost (it was unplugged; once)" in again.message
    assert (back.state, back.losses, back.message) == ("found", 1, "The GPU was lost (once) and is back.")


def test_where_no_adapter_comes_any_more_everyone_is_told_how_to_go_on(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, page, opened = FakeDevice(), Page(), []

    async def open_device() -> FakeDevice:
        opened.append(1)
        if len(opened) > 1:
            raise DeviceError("no adapter")
        return device

    monkeypatch.setattr(gpu_service, "open_device", open_device)

    async def main() -> None:
        gpu = Gpu(page)
        gpu.look()
        await gpu.device()
        device.lost_reason = "crashed"
        while len(page.events) < 4:  # the watch finds it: nobody uses it
            await asyncio.sleep(0)
        with pytest.raises(DeviceError, match="Close the browser"):
            await gpu.device()
        assert len(opened) == 4

    asyncio.run(main())
    assert [event.state for event in page.all(GpuState)] == ["looking", "found", "again", "lost"]


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
