"""A checkpoint's file: every byte of it counts; what differs between two runs is named; when one is due."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.cli import checkpoints
from lora_lab.cli.checkpoints import CheckpointFile, checkpoint_path, load_checkpoint
from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.errors import CheckpointError, DivergedError
from lora_lab.formats import safetensors
from lora_lab.train import Best, Checkpoint, CheckpointTimes, RunState, ValidationPoint
from lora_lab.train.checkpoint import DIGEST, METADATA, Arithmetic, RunIdentity, checkpoint_bytes, read_checkpoint
from lora_lab.train.divergence import Divergence

ROWS = [Example(np.arange(n, dtype=np.int32), np.arange(n) > 1) for n in (5, 9, 3)]
RUN: dict[str, Any] = {
    "model": "tiny", "weights": "w", "examples": ROWS, "held": ROWS[:1], "lora": LoraConfig(rank=2),
    "config": TrainConfig(steps=10), "total_steps": 10,
}  # fmt: skip
HERE = Arithmetic("gpu", "Vulkan", "native", "k", "1.0")


def state(step: int = 3) -> RunState:
    rng = np.random.default_rng(step)
    matrices = [{"a.lora_A.weight": rng.normal(size=(2, 5)).astype(np.float32)} for _ in range(3)]
    matrices[2]["a.lora_A.weight"][0, 0] = np.inf  # of a moment: it is what it is
    losses = rng.normal(size=(step, 2)).astype(np.float32)
    points = (ValidationPoint(0, 0.4), ValidationPoint(2, 0.1 + 0.2, 0.7), ValidationPoint(3, np.nan, 0.0))
    best = Best(2, 0.1 + 0.2, {"a.lora_A.weight": rng.normal(size=(2, 5)).astype(np.float32)})
    watched = {"samples": [["é\ud800", None, [[2, '"yes"']]]]}
    return RunState(step, *matrices, losses, points, best, watched)  # type: ignore[arg-type]


def checkpoint(step: int = 3) -> Checkpoint:
    return Checkpoint(RunIdentity.of(**RUN), HERE, state(step), {"where": "here", "é\ud800": [1]})


def test_what_is_written_is_read() -> None:
    found = read_checkpoint(checkpoint_bytes(checkpoint()), "x")
    wanted = checkpoint()
    assert (found.identity, found.arithmetic, found.notes) == (wanted.identity, wanted.arithmetic, wanted.notes)
    assert (found.state.step, found.state.watched) == (3, wanted.state.watched)
    assert found.state.validation[:2] == wanted.state.validation[:2]
    assert np.isnan(found.state.validation[2].loss) and found.state.validation[2].step == 3
    best, wanted_best = found.state.best, wanted.state.best
    assert best is not None and wanted_best is not None
    assert (best.step, best.loss) == (wanted_best.step, wanted_best.loss)
    assert best.adapter["a.lora_A.weight"].tobytes() == wanted_best.adapter["a.lora_A.weight"].tobytes()
    for part in ("adapter", "m", "v"):
        ours, theirs = getattr(found.state, part), getattr(wanted.state, part)
        assert {key: value.tobytes() for key, value in ours.items()} == {
            key: value.tobytes() for key, value in theirs.items()
        }
    assert found.state.losses.tobytes() == wanted.state.losses.tobytes()


def test_the_safetensors_package_reads_it() -> None:
    from safetensors.numpy import load

    arrays = load(checkpoint_bytes(checkpoint()))
    assert set(arrays) == {"losses", *(f"{part}/a.lora_A.weight" for part in ("adapter", "adamw.m", "adamw.v", "best"))}


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    data = checkpoint_bytes(checkpoint())
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        with pytest.raises(CheckpointError):
            read_checkpoint(bytes(spoilt), "x")
        with pytest.raises(CheckpointError):
            read_checkpoint(data[:at], "x")
    read_checkpoint(data, "x")  # the control


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1}',
        '{"format": 3}',
        '{"format": true}',
        "[" * 10_000,
        '{"format": 1, "step": 1e999}',
    ],
)
def test_metadata_of_others(text: str) -> None:
    from lora_lab.train.checkpoint import _digest

    arrays = {"losses": np.zeros((0, 2), np.float32)}
    with pytest.raises(CheckpointError):
        read_checkpoint(safetensors.write(arrays, {METADATA: text, DIGEST: _digest(text, arrays)}), "x")


def rewritten(data: bytes, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> bytes:
    """A whole checkpoint of other content."""
    from lora_lab.train.checkpoint import _digest

    arrays, metadata = safetensors.read_arrays(data, "x")
    about = json.loads(metadata[METADATA])
    change(about, arrays)
    text = json.dumps(about)
    return safetensors.write(arrays, {METADATA: text, DIGEST: _digest(text, arrays)})


def as_first_form(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """What version 1 wrote: no accuracies, no best adapter, nothing watched."""
    about["format"], about["validation"] = 1, [[2, 0.1 + 0.2]]
    del about["best"], about["watched"]
    for name in [name for name in arrays if name.startswith("best/")]:
        del arrays[name]


def test_a_checkpoint_of_the_first_form_is_read() -> None:
    found = read_checkpoint(rewritten(checkpoint_bytes(checkpoint()), as_first_form), "x")
    assert found.state.validation == (ValidationPoint(2, 0.1 + 0.2, None),)
    assert (found.state.best, found.state.watched) == (None, {})
    assert found.identity.differences(checkpoint().identity) == [], "it is the same run"
    assert found.state.losses.tobytes() == state().losses.tobytes()


def test_a_form_to_come_is_refused_by_its_number() -> None:
    with pytest.raises(CheckpointError, match="a checkpoint of form 3; this version reads forms 1 and 2"):
        read_checkpoint(rewritten(checkpoint_bytes(checkpoint()), lambda about, _: about.update(format=3)), "x")


@pytest.mark.parametrize("fault", ["no step of it", "no matrices", "first form with a best"])
def test_a_best_adapter_that_is_half_there_is_refused(fault: str) -> None:
    def spoil(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if fault == "no step of it":
            about["best"] = None
        elif fault == "no matrices":
            del arrays["best/a.lora_A.weight"]
        else:
            best = arrays["best/a.lora_A.weight"]
            as_first_form(about, arrays)
            arrays["best/a.lora_A.weight"] = best

    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        read_checkpoint(rewritten(checkpoint_bytes(checkpoint()), spoil), "x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"config": TrainConfig(steps=10, recompute=True, activation_budget_bytes=5)}, []),  # the same numbers
        ({"weights": "x"}, ["other weights of tiny"]),
        ({"weights": "x", "model": "large"}, ["the model is large, the checkpoint's tiny"]),
        ({"examples": ROWS[:2]}, ["there are 2 training rows, the checkpoint has 3"]),
        ({"examples": ROWS[::-1]}, ["the training rows are others, or in another order"]),
        ({"examples": [ROWS[0], ROWS[1], Example(ROWS[2].tokens, ROWS[2].trained ^ True)]},
         ["the training rows are others, or in another order"]),
        ({"held": []}, ["there are 0 validation rows, the checkpoint has 1"]),
        ({"held": ROWS[1:2]}, ["the validation rows are others, or in another order"]),
        ({"lora": LoraConfig(rank=4, targets=("q_proj",))},
         ["rank is 4, in the checkpoint 2", "targets is q_proj, in"]),
        ({"config": TrainConfig(steps=11, seed=1), "total_steps": 11},
         ["seed is 1, in the checkpoint 0", "steps is 11, in the checkpoint 10"]),
        ({"config": TrainConfig(steps=10, warmup_steps=1)}, ["warmup_steps is 1, in the checkpoint not set"]),
        ({"total_steps": 12}, ["it has 12 steps, the checkpoint's 10"]),
        ({"start": {"a": np.ones((1, 2), np.float32)}}, ["it began from another adapter"]),
    ],
)  # fmt: skip
def test_what_differs_is_named(changes: dict[str, Any], words: list[str]) -> None:
    found = RunIdentity.of(**RUN).differences(RunIdentity.of(**{**RUN, **changes}))
    assert len(found) == len(words)
    assert all(line.startswith(wanted) for line, wanted in zip(found, words, strict=True)), found


def test_settings_come_back_from_a_file_as_they_were() -> None:
    """A tuple that became a list, or a float that became a whole number, would make every checkpoint another run's."""
    found = read_checkpoint(checkpoint_bytes(checkpoint()), "x")
    assert found.identity.differences(RunIdentity.of(**RUN)) == []
    found.refuse_other(RunIdentity.of(**RUN), "x")
    with pytest.raises(CheckpointError, match=r"^x is of another run: there are 1 training rows"):
        found.refuse_other(RunIdentity.of(**{**RUN, "examples": ROWS[:1]}), "x")


def test_another_device_is_named() -> None:
    assert HERE.differences(HERE) == HERE.differences(replace(HERE, version="2.0")) == []
    assert "this is gpu (D3D12, native)" in HERE.differences(replace(HERE, backend="D3D12"))[0]
    assert "kernels or their tiles" in HERE.differences(replace(HERE, kernels="other"))[0]


# ---------------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize("cost_s", [0.001, 0.2, 3.0])
def test_by_time_they_cost_a_hundredth_of_the_run_at_most(cost_s: float) -> None:
    now = 0.0
    times = CheckpointTimes(None, 58_000_000, lambda: now)
    times.begin(0)
    taken: list[float] = []
    for step in range(1, 40_000):
        now += 0.1
        if times.is_due(step):
            now += cost_s
            times.taken(step, cost_s)
            taken.append(now)
            assert len(taken) * cost_s <= 0.01 * now * 1.05 or len(taken) == 1
    gaps = np.diff([0.0, *taken])
    assert gaps.min() >= 30
    assert gaps[2:].max(initial=0) <= max(30, 100 * cost_s) + 4 * cost_s + 0.2, "oftener would have been allowed"


@pytest.mark.parametrize(("every", "wanted"), [(3, [3, 6, 9]), (1, list(range(1, 11))), (0, [])])
def test_by_steps(every: int, wanted: list[int]) -> None:
    times = CheckpointTimes(every, 0)
    times.begin(0)
    found = []
    for step in range(1, 11):
        if times.is_due(step):
            times.taken(step, 0.0)
            found.append(step)
    assert found == wanted
    assert times.is_missing(10, 11) is (every == 3)
    assert not times.is_missing(10, 10)


# ---------------------------------------------------------------------------------------------------- falling apart


@pytest.mark.parametrize(
    ("steps", "at"),
    [
        ([(2.0, 1.0), (float("nan"), 1.0)], 2),
        ([(2.0, 1.0), (2.0, float("inf"))], 2),
        ([(5.9, 0.0)] * 5, 3),
        ([(5.9, 0.0), (5.9, 0.0), (5.9, 1e-9), (5.9, 0.0), (5.9, 0.0), (3.0, 0.1)], None),
        ([(2.0, 1.0)] * 9 + [(5.9, 0.0)], 10),  # the run ends so
        ([(1e-5, 0.0)] * 10, None),  # everything is known by heart
    ],
)
def test_when_a_run_has_fallen_apart(steps: list[tuple[float, float]], at: int | None) -> None:
    divergence, found = Divergence(10), None
    for number, (loss, norm) in enumerate(steps, 1):
        try:
            divergence.check(number, loss, norm, 1e-3)
        except DivergedError as error:
            found = number
            dead = np.isfinite(loss) and np.isfinite(norm)
            without = next(n for n, (_, norm) in enumerate(steps, 1) if norm == 0) if dead else number + 1
            assert error.good_until == max(0, without - 2)
            assert "The learning rate is 0.001: try a tenth of it." in str(error)
            break
    assert found == at


# ---------------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(checkpoint_path(tmp_path / "out"), RunIdentity.of(**RUN), HERE)


def test_a_file_is_kept_gone_on_from_and_forgotten(file: CheckpointFile, tmp_path: Path) -> None:
    assert file.how_to_go_on(10) == ""
    for step in (3, 4):
        file.keep(state(step))
        assert load_checkpoint(tmp_path / "out.checkpoint").state.step == step == file.kept
    assert file.how_to_go_on(10) == "The run stands at step 4 of 10: the same command with --resume goes on there."
    assert [path.name for path in tmp_path.iterdir()] == ["out.checkpoint"]
    file.forget()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="does not exist: no run was stopped there"):
        load_checkpoint(tmp_path / "out.checkpoint")


def test_another_runs_checkpoint_is_moved_aside(file: CheckpointFile, tmp_path: Path) -> None:
    (tmp_path / "out.checkpoint").write_bytes(b"another run's")
    file.keep(state())
    file.keep(state(4))
    assert (tmp_path / "out.checkpoint.before").read_bytes() == b"another run's"
    assert load_checkpoint(tmp_path / "out.checkpoint").state.step == 4


@pytest.mark.parametrize("fault", ["full", "damaged", "cut"])
def test_a_disk_that_does_not_take_it_leaves_the_one_before(
    file: CheckpointFile,
    tmp_path: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.keep(state(3))
    real = checkpoints.write_synced

    def write(path: Path, data: bytes) -> None:
        if fault == "full":
            path.write_bytes(data[:100])
            raise OSError(28, "No space left on device")
        real(path, data[:-1] if fault == "cut" else data[:-1] + bytes([data[-1] ^ 1]))

    monkeypatch.setattr(checkpoints, "write_synced", write)
    file.keep(state(4))
    file.keep(state(5))
    assert capsys.readouterr().err.count("that of step 3 stays. The run goes on.") == 1
    assert load_checkpoint(file.path).state.step == 3 == file.kept
    assert [path.name for path in tmp_path.iterdir()] == ["out.checkpoint"]
    monkeypatch.undo()
    file.keep(state(6))
    assert load_checkpoint(file.path).state.step == 6
