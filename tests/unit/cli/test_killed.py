"""A process that is killed at any moment while it writes: a whole checkpoint, a whole adapter, always."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lora_lab.cli.checkpoints import checkpoint_path, load_checkpoint, write_checkpoint
from lora_lab.cli.output import place, prepare_out
from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.train import Checkpoint, RunState
from lora_lab.train.checkpoint import Arithmetic, RunIdentity, checkpoint_bytes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")

SIZE = 20_000
NAMES = ("adapter_config.json", "adapter_model.safetensors", "README.md")


def file_of(step: int) -> bytes:
    identity = RunIdentity.of("m", "w", [], [], LoraConfig(), TrainConfig(), 10**6)
    matrices = {"a": np.full((SIZE,), step, np.float32)}
    state = RunState(step, matrices, matrices, matrices, np.zeros((step, 2), np.float32))
    return checkpoint_bytes(Checkpoint(identity, Arithmetic("g", "b", "native", "k", "v"), state))


def adapter_of(step: int) -> dict[str, bytes]:
    return {name: f"{step} {name} ".encode() * SIZE for name in NAMES}


def killed_in(work: Callable[[], None], after_s: float) -> None:
    """Begin to work in a child and kill it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child had ended by itself"


@pytest.mark.parametrize("kills", [20, pytest.param(500, marks=pytest.mark.long)])
def test_a_checkpoint_is_whole_and_never_older(tmp_path: Path, kills: int) -> None:
    path, rng = checkpoint_path(tmp_path / "out"), random.Random(kills)
    step = 1
    write_checkpoint(path, file_of(step))
    files = {}

    def write() -> None:
        for number in range(step + 1, step + 10_000):
            write_checkpoint(path, files.get(number) or file_of(number % 1000 + 1))

    halves = 0
    for _ in range(kills):
        files = {number: file_of(number) for number in range(step + 1, step + 3)}
        killed_in(write, rng.uniform(0, 0.03))
        found = load_checkpoint(path).state
        assert (found.adapter["a"] == found.step).all()
        halves += path.with_name(f"{path.name}.part").exists()
        step = found.step % 900
    print(f"{kills} kills, {halves} of them in the middle of a file")
    assert halves or kills < 100, "no kill came in the middle of writing: the test proves nothing"


@pytest.mark.parametrize("swaps", [True, False], ids=["one step", "two steps"])
@pytest.mark.parametrize("kills", [20, pytest.param(500, marks=pytest.mark.long)])
def test_an_adapter_is_one_of_two(tmp_path: Path, kills: int, swaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not swaps:
        monkeypatch.setattr("lora_lab.cli.output._swap", lambda first, second: False)
    out, rng = tmp_path / "adapter", random.Random(kills)
    place(out, adapter_of(0))
    (out / "mine.txt").write_text("mine")
    versions = [adapter_of(version) for version in range(4)]

    def write() -> None:
        while True:
            for version in versions:
                place(out, version)

    left = 0
    for _ in range(kills):
        killed_in(write, rng.uniform(0, 0.03))
        left += len(list(tmp_path.iterdir())) > 1
        if swaps:
            assert out.is_dir(), "for a moment there was no adapter"
        prepare_out(out)  # as the next run does
        found = {name: (out / name).read_bytes() for name in NAMES}
        assert found in versions
        assert (out / "mine.txt").read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    print(f"{kills} kills, {left} of them left a folder that was on its way")
    assert left, "no kill came in the middle: the test proves nothing"
