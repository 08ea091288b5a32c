"""Pipelines on their way: asked for once, waited for by many, and going on when who asked has gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lora_lab.errors import DeviceError
from lora_lab.gpu.device import Device, PipelineKey, Progress
from lora_lab.gpu.kernel import Kernel
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


def keys(names: str) -> list[PipelineKey]:
    return [(KERNELS[name], ("x", "y")) for name in names]


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
