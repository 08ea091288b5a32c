"""Going on from a checkpoint gives the bits of a run that was never interrupted, whatever the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.errors import AdapterError, DivergedError
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from lora_lab.train import CheckpointTaken, CheckpointTimes, RunState, StepDone, Trainer, ValidationDone
from lora_lab.train.checkpoint import Arithmetic, Checkpoint, RunIdentity, checkpoint_bytes, read_checkpoint
from tests.engine_runs import random_examples, run
from tests.gpu.conftest import Tiny

LORA = LoraConfig(rank=4, alpha=8)
LENGTHS = (20, 33, 17, 40, 9, 26, 12, 55, 31)
STEPS = 14
CONFIG = TrainConfig(steps=STEPS, batch=2, accumulate=1, learning_rate=1e-2, seed=3)
KINDS: dict[str, dict[str, Any]] = {
    "one row": {"batch": 1},
    "accumulated, the last one smaller": {"batch": 2, "accumulate": 3},
    "packed": {"batch": 3, "packing": True},
    "in the file's order": {"shuffle": False},
    "linear, warm-up, decay": {"schedule": "linear", "warmup_steps": 9, "weight_decay": 0.1},
    "constant, unclipped": {"schedule": "constant", "max_grad_norm": 0.0},
    "layers computed twice": {"recompute": True},
}


class Run:
    """What came of a run, or of a part of one."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, float, float, float]] = []
        self.validation: list[tuple[int, float]] = []
        self.states: list[RunState] = []
        self.adapter: dict[str, np.ndarray] = {}

    def is_the_same_as(self, other: Run) -> bool:
        same = self.losses == other.losses and self.validation == other.validation
        return same and all(self.adapter[key].tobytes() == other.adapter[key].tobytes() for key in other.adapter)


def train(
    device: Device, tiny: Tiny, examples: Sequence[Example], held: Sequence[Example], config: TrainConfig,
    *parts: int, every: int = 0, start: RunState | None = None, stop: bool = False,
) -> Run:  # fmt: skip
    """Train to the end, going on in a fresh trainer after each of `parts`, where the run is paused (or stopped)."""
    result = Run()

    async def do(ends: int | None, start: RunState | None) -> RunState | None:
        adapter = Adapter.create(device, tiny.model.config, LORA, config.seed)
        trainer = Trainer(tiny.model, adapter, examples, config, held)
        await trainer.prepare()
        if start is not None:
            trainer.restore(start)
        last = None
        async for event in trainer.run(CheckpointTimes(every or 10**6, 0)):
            if isinstance(event, StepDone):
                result.losses.append((event.step, event.loss, event.grad_norm, event.learning_rate))
                if ends is not None and event.step >= ends:
                    (trainer.stop if stop else trainer.pause)()
            elif isinstance(event, ValidationDone):
                if (event.step, event.loss) in trainer.validation_losses:  # else it is a stop's own
                    result.validation.append((event.step, event.loss))
            elif isinstance(event, CheckpointTaken):
                last = event.state
                result.states.append(last)
        if ends is None:
            result.adapter = await adapter.to_tensors()
        trainer.close()
        adapter.release()
        return last

    for ends in parts:
        start = run(do(ends, start))
        assert start is not None
        assert start.step == result.losses[-1][0]
    run(do(None, start))
    return result


def as_file(state: RunState) -> RunState:
    """The state after a way through a file."""
    identity = RunIdentity("m", "w", "d", 1, "h", 0, {}, {}, STEPS)
    data = checkpoint_bytes(Checkpoint(identity, Arithmetic("g", "b", "native", "k", "v"), state, {"a": 1}))
    return read_checkpoint(data, "run.checkpoint").state


@pytest.fixture(scope="module")
def rows(tiny: Tiny) -> tuple[list[Example], list[Example]]:
    vocab = tiny.model.config.vocab_size
    return random_examples(LENGTHS, vocab), random_examples((11, 24, 18), vocab, seed=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_back", [True, False], ids=["validated", "not validated"])
def test_a_run_in_parts_is_the_run_in_one(device: Device, tiny: Tiny, rows: tuple, kind: str, held_back: bool) -> None:
    """Paused in its warm-up, at an epoch's end, in the middle of one, before the last step: several epochs in all."""
    examples, held = rows[0], rows[1] if held_back else []
    config = replace(CONFIG, **KINDS[kind])
    whole = train(device, tiny, examples, held, config)
    parts = train(device, tiny, examples, held, config, 1, 5, STEPS - 4)
    assert len(whole.losses) == STEPS and bool(whole.validation) is held_back
    assert parts.is_the_same_as(whole)


def test_every_step_may_be_the_last(each_device: Device, tiny: Tiny, rows: tuple) -> None:
    """From each of a run's checkpoints, through the file's form."""
    config = replace(CONFIG, steps=6)
    whole = train(each_device, tiny, *rows, config, every=1)
    assert [state.step for state in whole.states] == list(range(1, 6))
    for state in whole.states:
        rest = train(each_device, tiny, *rows, config, start=as_file(state))
        assert rest.losses == whole.losses[state.step :]
        assert rest.validation == [one for one in whole.validation if one[0] > state.step]
        assert all(np.array_equal(rest.adapter[key], whole.adapter[key]) for key in whole.adapter)
        told = [(step, np.float32(loss), np.float32(norm)) for step, loss, norm, _ in whole.losses[: state.step]]
        assert [(i + 1, loss, norm) for i, (loss, norm) in enumerate(state.losses)] == told


def test_a_stop_leaves_a_checkpoint_too_and_its_own_validation_is_no_part_of_the_run(
    device: Device, tiny: Tiny, rows: tuple
) -> None:
    whole = train(device, tiny, *rows, CONFIG)
    parts = train(device, tiny, *rows, CONFIG, 3, 7, stop=True)
    assert parts.is_the_same_as(whole)


def test_checkpoints_change_nothing_themselves(device: Device, tiny: Tiny, rows: tuple) -> None:
    assert train(device, tiny, *rows, CONFIG, every=1).is_the_same_as(train(device, tiny, *rows, CONFIG))


@pytest.mark.parametrize("part", ["adapter", "m", "v"])
def test_a_flipped_bit_shows(device: Device, tiny: Tiny, rows: tuple, part: str) -> None:
    """The control: one bit of one number. (That the lowest ones are as they were, the file's digest says.)"""
    whole = train(device, tiny, *rows, CONFIG, every=10)
    state = as_file(whole.states[0])
    assert train(device, tiny, *rows, CONFIG, start=state).adapter.keys() == whole.adapter.keys()
    matrices = {key: values.copy() for key, values in getattr(state, part).items()}
    key = next(key for key in matrices if ".lora_B." in key)
    bits = matrices[key].reshape(-1).view(np.uint32)
    bits[int(np.abs(matrices[key]).argmax())] ^= 1 << 20
    spoilt = train(device, tiny, *rows, CONFIG, start=replace(state, **{part: matrices}))
    assert any(not np.array_equal(spoilt.adapter[key], whole.adapter[key]) for key in whole.adapter)


def test_rows_in_another_order_show(device: Device, tiny: Tiny, rows: tuple) -> None:
    examples, held = rows
    whole = train(device, tiny, *rows, CONFIG, every=10)
    other = train(device, tiny, [examples[1], examples[0], *examples[2:]], held, CONFIG, start=whole.states[0])
    assert other.losses != whole.losses[10:]


def test_a_state_of_another_adapter_is_refused(device: Device, tiny: Tiny, rows: tuple) -> None:
    state = train(device, tiny, *rows, replace(CONFIG, steps=2), every=1).states[0]
    adapter = Adapter.create(device, tiny.model.config, replace(LORA, rank=8), 0)
    trainer = Trainer(tiny.model, adapter, rows[0], CONFIG)
    run(trainer.prepare())
    with pytest.raises(AdapterError, match="this model needs"):
        trainer.restore(state)
    trainer.close()
    adapter.release()


def test_what_does_the_arithmetic_has_a_name(device: Device, tiny: Tiny, rows: tuple) -> None:
    def name(workgroup_memory: bool, config: TrainConfig) -> str:
        before, device.use_workgroup_memory = device.use_workgroup_memory, workgroup_memory
        adapter = Adapter(device, tiny.model.config, LORA, planned=True)
        found = Trainer(tiny.model, adapter, rows[0], config).plans.fingerprint()
        device.use_workgroup_memory = before
        return found

    assert name(True, CONFIG) == name(True, replace(CONFIG, seed=4, learning_rate=1.0))
    assert name(True, CONFIG) != name(False, CONFIG)
    assert name(True, CONFIG) != name(True, replace(CONFIG, max_grad_norm=0.5))


@pytest.mark.parametrize(("rate", "has_good_step"), [(1e3, False), (1e20, None)])
def test_a_run_that_falls_apart_is_an_error(
    device: Device, tiny: Tiny, rows: tuple, rate: float, has_good_step: bool | None
) -> None:
    with pytest.raises(DivergedError, match="learning rate is") as told:
        train(device, tiny, *rows, replace(CONFIG, learning_rate=rate, warmup_steps=0, schedule="constant"))
    assert has_good_step is None or told.value.has_good_step is has_good_step
