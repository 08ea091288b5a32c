"""Pipelines on their way: asked for once, waited for by many, going on when who asked has gone; plans given up."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import pytest

from lora_lab.errors import DeviceError
from lora_lab.gpu.device import AdapterInfo, Device, Limits, PipelineKey, Progress
from lora_lab.gpu.kernel import Binding, Kernel
from lora_lab.gpu.plan import Buffer, Trace
from lora_lab.gpu.pool import Pool
from tests.engine_runs import run


class SlowCompiler(Device):
    """A device that does nothing but compile, and that only when `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []
        self.go_on = asyncio.Event()
        self.broken = False

    async def _compile(self, kernels: list[PipelineKey], on_progress: Progress | None) -> list[Any]:
        self.asked.append([kernel.name for kernel, _ in kernels])
        for done in range(len(kernels)):
            await self.go_on.wait()
            if self.broken:
                raise DeviceError("it does not compile")
            if on_progress:
                on_progress(done + 1, len(kernels))
        return [f"pipeline of {kernel.name}" for kernel, _ in kernels]


SlowCompiler.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


class SlowBuilder(SlowCompiler):
    """A device whose plans are made when `assembled` is set, or then turn out to be wrong. Its buffers are nothing."""

    def __init__(self, is_broken: bool) -> None:
        super().__init__()
        self.assembled, self.is_broken, self.is_assembling = asyncio.Event(), is_broken, False
        self.info = AdapterInfo("none", "", "", False)
        self.limits = Limits(**{field.name: 1 << 20 for field in fields(Limits)} | ALIGNMENTS)

    def _new_buffer(self, size_bytes: int, label: str, uniform: bool) -> object:
        return object()

    def _free_buffer(self, handle: object) -> None:
        pass

    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        pass

    async def _assemble(self, pipelines: list[Any], buffers: list[Buffer], table: Any) -> Any:
        self.is_assembling = True
        await self.assembled.wait()
        if self.is_broken:
            raise DeviceError("it is wrong")


def keys(names: str) -> list[PipelineKey]:
    return [(KERNELS[name], ("x", "y")) for name in names]


Y = Binding("y", 2, "read_write")
ALIGNMENTS = {"min_uniform_buffer_offset_alignment": 256, "min_storage_buffer_offset_alignment": 256}
KERNELS = {name: Kernel(name, "main", "", {}, ()) for name in "abcd"}


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    async def body() -> None:
        device, heard = SlowCompiler(), []
        ahead = asyncio.ensure_future(device.compile(keys("abc")))
        await asyncio.sleep(0.01)
        pressed = asyncio.ensure_future(device.compile(keys("bcd"), lambda *progress: heard.append(progress)))
        await asyncio.sleep(0.01)
        assert device.asked == [["a", "b", "c"], ["d"]]
        assert not pressed.done()
        device.go_on.set()
        await asyncio.gather(ahead, pressed)
        assert sorted(kernel.name for kernel, _ in device._pipelines) == list("abcd")
        assert device._pipelines[keys("d")[0]] == "pipeline of d"
        assert heard[-1] == (4, 4)  # those of both questions
        assert [done for done, _ in heard] == sorted(done for done, _ in heard)
        await device.compile(keys("abcd"))
        assert len(device.asked) == 2

    run(body())


def test_giving_up_waiting_does_not_stop_the_compiler() -> None:
    async def body() -> None:
        device = SlowCompiler()
        ahead = asyncio.ensure_future(device.compile(keys("ab")))
        await asyncio.sleep(0.01)
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)
        assert ahead.cancelled()
        device.go_on.set()
        await device.compile(keys("a"))
        assert device.asked == [["a", "b"]]
        assert len(device._pipelines) == 2

    run(body())


def test_an_error_reaches_everyone_who_waits_and_the_next_one_asks_anew() -> None:
    async def body() -> None:
        device = SlowCompiler()
        device.broken = True
        waiting = [asyncio.ensure_future(device.compile(keys("a"))) for _ in range(2)]
        await asyncio.sleep(0.01)
        device.go_on.set()
        for one in waiting:
            with pytest.raises(DeviceError, match="does not compile"):
                await one
        device.broken = False
        await device.compile(keys("a"))
        assert device.asked == [["a"], ["a"]]

    run(body())


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_plan_that_is_not_finished_leaves_no_memory_behind(is_broken: bool) -> None:
    """Broken: the host refuses it. Else who waits for it gives up."""

    async def body() -> None:
        device = SlowBuilder(is_broken)
        pool, trace = Pool(device, "pool"), Trace()
        device.go_on.set()
        kernel = Kernel("k", "main", "", {"params": Binding("params", 0, "uniform"), "y": Y}, (("n", "u32"),))
        trace.dispatch(kernel, {"y": trace.tensor((4,), "y")}, {"n": 4}, (1,))
        building = asyncio.ensure_future(device.build(trace, pool, "plan"))
        while not device.is_assembling:
            await asyncio.sleep(0)
        assert device.num_buffers == 2  # the pool's, and the parameters
        if is_broken:
            device.assembled.set()
        else:
            building.cancel()
        with pytest.raises(DeviceError if is_broken else asyncio.CancelledError):
            await building
        assert device.num_buffers == 1
        pool.close()
        assert (device.num_buffers, device.memory_in_use_bytes) == (0, 0)

    run(body())
