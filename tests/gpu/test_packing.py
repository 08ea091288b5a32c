"""Packed equals unpacked: losses, gradients, whole runs and validation, on a tiny model and on both kernel families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.batches import Batch
from lora_lab.data.tokens.packing import Layout
from lora_lab.gpu import Device
from lora_lab.train import StepDone
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.planner import Planner, train_config
from tests.close import assert_all_close, relative_error
from tests.engine_runs import (
    adapter_with,
    events,
    gradients,
    losses,
    random_examples,
    random_tensors,
    run,
    trainer_for,
    validation_losses,
)
from tests.gpu.conftest import Tiny, TinyModels

TOLERANCE = 1e-5
LORA = LoraConfig(rank=4, alpha=8)
# Borders inside tiles and on them; a row of one token; the second micro-batch leaves much of its sequence empty.
LENGTHS = (20, 33, 70, 2, 17, 65, 129, 9)


def one_step(tiny: Tiny, packing: bool) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and gradients of a step of two micro-batches of four rows."""
    examples = random_examples(LENGTHS, tiny.model.config.vocab_size)
    config = TrainConfig(steps=1, batch=4, accumulate=2, shuffle=False, packing=packing)
    tensors = random_tensors(tiny.model, LORA)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        assert t.layout.packed is packing
        return gradients(t, [[0, 1, 2, 3], [4, 5, 6, 7]])


@pytest.mark.parametrize("name", ["tied f32", "odd"])
def test_one_step_packed_is_the_same_step(each_device: Device, tiny_models: TinyModels, name: str) -> None:
    wanted_loss, wanted = one_step(tiny_models[name], packing=False)
    loss, found = one_step(tiny_models[name], packing=True)
    assert loss == pytest.approx(wanted_loss, rel=TOLERANCE)
    assert_all_close(found, wanted, TOLERANCE)


def test_positions_that_are_not_reset_are_caught(
    each_device: Device, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: rows that see what stands before them in the sequence."""
    wanted_loss, wanted = one_step(tiny, packing=False)
    honest = Layout.make_batch

    def going_on(self: Layout, examples: list) -> Batch:
        batch = honest(self, examples)
        # Within the table of angles, so that nothing but the borders is wrong: the second row goes on after the first.
        first, second = (example.input_length for example in examples[:2])
        positions = batch.positions.copy()
        positions[0, first : first + second] += first
        return replace(batch, positions=positions)

    monkeypatch.setattr(Layout, "make_batch", going_on)
    loss, found = one_step(tiny, packing=True)
    assert abs(loss / wanted_loss - 1) > 10 * TOLERANCE
    assert all(relative_error(found[name], wanted[name]) > 100 * TOLERANCE for name in wanted)


def test_five_steps_and_their_validation_are_the_same(each_device: Device, tiny: Tiny) -> None:
    vocab = tiny.model.config.vocab_size
    examples = random_examples((20, 33, 17, 40, 9, 70, 12, 25, 3), vocab)
    held_back = random_examples((9, 50, 31, 12, 120), vocab, seed=8)  # one is longer than all that are trained on
    config = TrainConfig(steps=5, batch=4, accumulate=2, learning_rate=1e-3, seed=3)  # the last step of a pass: one row
    tensors = random_tensors(tiny.model, LORA)
    seen, results = [], []
    for packing in (False, True):
        with (
            adapter_with(tiny.model, LORA, tensors) as adapter,
            trainer_for(tiny.model, adapter, examples, replace(config, packing=packing), held_back) as trainer,
        ):
            assert trainer.layout.packed is packing
            seen.append(events(trainer))
            results.append(run(adapter.to_tensors()))
    assert losses(seen[1]) == pytest.approx(losses(seen[0]), rel=TOLERANCE)
    assert validation_losses(seen[1]) == pytest.approx(validation_losses(seen[0]), rel=TOLERANCE)
    assert len(validation_losses(seen[1])) == 5
    assert_all_close(results[1], results[0], 1e-4)  # AdamW divides by the root of tiny numbers
    steps = [[event for event in all_events if isinstance(event, StepDone)] for all_events in seen]
    for padded, packed in zip(*steps, strict=True):
        assert (packed.trained_tokens, packed.tokens) == (padded.trained_tokens, padded.tokens)


def test_a_packed_run_has_few_plans_and_the_same_seed_gives_the_same_bits(
    each_device: Device, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_lab.data.tokens.packing.PLAN_COST_TOKENS", 10)  # or so short a run would get one length
    examples = random_examples(tuple(range(5, 95, 3)), tiny.model.config.vocab_size)
    config = TrainConfig(steps=6, batch=4, accumulate=1, learning_rate=1e-2, seed=7)
    curves = []
    for _ in range(2):
        with (
            adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter,
            trainer_for(tiny.model, adapter, examples, config) as trainer,
        ):
            assert trainer.layout.packed  # "auto": rows of such different lengths are worth it
            curves.append(losses(events(trainer)))
            shapes = {shape for shape, _ in trainer.plans._built}
            assert len(shapes) > 1 and shapes <= {(1, length) for length in trainer.layout.lengths}
    assert curves[0] == curves[1]


def test_the_planner_tells_the_memory_of_the_packed_run(tiny: Tiny) -> None:
    examples = random_examples((300, *range(5, 60, 5)), tiny.model.config.vocab_size)
    settings = TrainSettings(6, 4, 1e-3, LORA.rank, LORA.alpha, 512, 0, LORA.targets)
    planner = Planner(tiny.model.device, tiny.model.files)
    packed, padded = (planner.plan(replace(settings, packing=how), examples, []) for how in ("auto", "off"))
    assert packed.packing_saves is not None and packed.packing_saves > 0.2 and padded.packing_saves is None
    assert packed.rows_at_once == padded.rows_at_once == 4
    assert packed.memory.total_bytes < 0.8 * padded.memory.total_bytes
    config = train_config(settings, packed.rows_at_once)
    with (
        adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter,
        trainer_for(tiny.model, adapter, examples, config) as trainer,
    ):
        assert trainer.memory == packed.memory


def test_the_planner_takes_more_rows_at_once_where_packing_makes_room(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = random_examples((300, *range(5, 60, 5)), tiny.model.config.vocab_size)
    settings = TrainSettings(6, 4, 1e-3, LORA.rank, LORA.alpha, 512, 0, LORA.targets)
    planner = Planner(tiny.model.device, tiny.model.files)
    one = planner.plan(replace(settings, rows_at_once=1), examples, []).memory.parts["activations"]
    monkeypatch.setattr("lora_lab.workers.run.planner.ACTIVATION_BUDGET_BYTES", 2 * one)
    packed, padded = (planner.plan(replace(settings, packing=how), examples, []) for how in ("auto", "off"))
    assert (packed.rows_at_once, padded.rows_at_once) == (4, 2)
    assert packed.memory.parts["activations"] <= 2 * one
