"""Ctrl-C at any moment of any command: one line, 130, and nothing of what was on its way is heard of again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wgpu._async import GPUPromise

from build_tools.base import ROOT
from lora_lab.gpu import Device, Tensor, open_device
from lora_lab.gpu.device import pipeline_keys
from lora_lab.gpu.plan import Trace
from lora_lab.ops.elementwise import copy, fill

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send one process a Ctrl-C")

MOMENTS = 6  # of each command, spread from its first line to its end; tried by hand with 40
PATIENCE_S = 60  # a software device on a busy machine
# What the console script does, and a sign that Python has come as far as our first line.
PROGRAM = "import os, lora_lab.cli.__main__ as p; os.write(1, b'up\\n'); raise SystemExit(p.main())"
UNWANTED = ("Traceback", "Exception ignored", "Event loop is closed", "was never", "Error", "Warning")


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start the program and return once its first line has run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for the end; return the exit code and what was said on standard error."""
    said = process.communicate(timeout=PATIENCE_S)[1].decode()
    return process.returncode, said


@pytest.fixture(scope="module")
def commands(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str | Path]]:
    folder = tmp_path_factory.mktemp("interrupts")
    for name, count in (("few", 12), ("many", 800)):
        rows = [{"prompt": f"What is {n}?", "completion": f"It is the number {n}."} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model: list[str | Path] = ["--model", tiny_model_folder]
    return {
        "train": ["train", *model, "--data", folder / "few.jsonl", "--out", folder / "out", "--steps", "12"],
        "generate": ["generate", *model, "--prompt", "1?", "--temperature", "5", "--max-new-tokens", "400"],
        "data check": ["data", "check", folder / "many.jsonl", *model],
        "dry run": ["train", *model, "--data", folder / "few.jsonl", "--out", folder / "none", "--dry-run"],
        "logits": ["logits", *model, "--text", "What is 7?", "--out", folder / "x.npy"],
        "list": ["--list-gpus"],
    }


@pytest.mark.parametrize("name", ["train", "generate", "data check"])
def test_at_any_moment_it_ends_in_one_line(name: str, commands: dict[str, list[str | Path]]) -> None:
    begun = time.monotonic()
    assert outcome(start(*commands[name]))[0] == 0
    whole_s = time.monotonic() - begun
    moments = random.Random(name)
    for part in range(MOMENTS):
        after_s = whole_s * (part + moments.random()) / MOMENTS
        process = start(*commands[name])
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        code, said = outcome(process)
        context = f"{name} after {after_s:.3f} s of {whole_s:.3f}: exit code {code}\n{said}"
        assert not [word for word in UNWANTED if word in said], context
        assert code in (0, 130), context
        if code == 130 and "Stopping after this step" not in said:
            assert said.endswith("\nlora-lab: interrupted\n"), context
            assert said.count("interrupted") == 1, context


@pytest.mark.parametrize("name", ["generate", "logits", "dry run", "list", "data check"])
def test_a_ctrl_c_that_comes_first_of_all(name: str, commands: dict[str, list[str | Path]]) -> None:
    """While numpy and wgpu are being imported, or before: nothing has begun."""
    process = start(*commands[name])
    process.send_signal(signal.SIGINT)
    assert outcome(process) == (130, "\nlora-lab: interrupted\n")


def test_while_a_dry_run_measures(commands: dict[str, list[str | Path]]) -> None:
    process = start(*commands["dry run"])
    assert process.stderr is not None
    said = ""
    while "GPU memory" not in said:
        said = process.stderr.readline().decode()
        assert said, "it ended"
    process.send_signal(signal.SIGINT)
    assert outcome(process) == (130, "\nlora-lab: interrupted\n")


@contextmanager
def slow_callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    """Let the thread that polls the GPU be held up just where it has woken who waits for an answer."""
    held: list[threading.Thread] = []
    original = GPUPromise._set_pending_resolved

    def slow(promise: Any, **named: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            promise._thread_event.set()
            held.append(threading.current_thread())
            time.sleep(0.3)
        original(promise, **named)

    with monkeypatch.context() as patch:
        patch.setattr(GPUPromise, "_set_pending_resolved", slow)
        yield held


def test_an_answer_never_comes_back_into_a_closed_loop(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of it: wgpu-py calls into the loop in which a read was asked for, when that may be closed."""
    buffer = device.create_buffer(16, "read")
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: unheard.append(raised.exc_value))
    with slow_callbacks(monkeypatch) as held:
        assert asyncio.run(device.read(buffer, 0, 16)) == bytes(16)
        asyncio.run(device.finished())
        time.sleep(0.5)
    buffer.destroy()
    assert len(held) == 2
    assert unheard == []


@pytest.mark.parametrize("ask", [lambda device: device.finished(), lambda device: device.read(device.some, 0, 4)])
def test_every_wait_for_the_gpu_lets_a_stop_in(ask: Callable[[Any], Any], device: Any) -> None:
    """A task that was cancelled while it was waiting learns of it there. Control: one that was not goes on."""
    device.some = device.create_buffer(4, "read")

    async def work(cancelled: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if cancelled:
            asyncio.get_running_loop().call_soon_threadsafe(task.cancel)
        await ask(device)

    asyncio.run(work(False))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work(True))
    device.some.destroy()


def test_a_device_that_closes_gives_up_what_it_compiles() -> None:
    """Of two kernels the first is there when it closes; the second is not asked of a device that is gone."""
    compiled: list[int] = []

    async def work() -> set[asyncio.Task[Any]]:
        device = await open_device()
        trace = Trace()
        x, y = (Tensor((64,), device.create_buffer(256, name), 0, name) for name in "xy")
        fill(trace, x, 1.0)
        copy(trace, x, y)
        make = device._device.create_compute_pipeline
        device._device.create_compute_pipeline = lambda **named: (compiled.append(1), make(**named))[1]
        device.start_compiling(pipeline_keys(trace))
        while not compiled:
            await asyncio.sleep(0)
        await device.close()
        assert device._compiling == {}
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(work()) == set()
    assert len(compiled) == 1
