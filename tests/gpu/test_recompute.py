"""Recomputed layers: the same bits as layers that are kept, in less memory, and how many is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.gpu import Device, Trace
from lora_lab.gpu.plan import Dispatch, Value
from lora_lab.gpu.recompute import Block, recompute
from lora_lab.model import Adapter, Model
from lora_lab.settings import TARGET_LAYERS
from lora_lab.train import Trainer
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run import planner
from lora_lab.workers.run.planner import Planner, RunPlan
from tests.engine_runs import adapter_with, events, gradients, losses, random_examples, random_tensors, run, trainer_for
from tests.gpu.conftest import Tiny, TinyModels

LENGTHS = (20, 33, 70)
CONFIG = TrainConfig(steps=3, batch=3, accumulate=1, learning_rate=1e-2)


def bits(model: Model, targets: tuple[str, ...], config: TrainConfig) -> tuple[float, dict[str, bytes], Trainer]:
    """Return the loss and gradients of one step over micro-batches of two lengths, and the closed trainer."""
    lora = LoraConfig(rank=4, alpha=8, targets=targets)
    examples = random_examples(LENGTHS, model.config.vocab_size)
    with (
        adapter_with(model, lora, random_tensors(model, lora)) as adapter,
        trainer_for(model, adapter, examples, config) as trainer,
    ):
        loss, found = gradients(trainer, [[0, 1, 2], [0]])
        taken = trainer.plans.pool.size_bytes
    assert taken == trainer.memory.parts["activations"]
    return loss, {name: value.tobytes() for name, value in found.items()}, trainer


@pytest.mark.parametrize(
    "targets", [TARGET_LAYERS, ("q_proj", "v_proj"), ("down_proj",), ("k_proj", "o_proj", "gate_proj")], ids=",".join
)
@pytest.mark.parametrize("name", ["tied f32", "odd"])
def test_gradients_of_recomputed_layers_are_the_same_bits(
    each_device: Device, tiny_models: TinyModels, name: str, targets: tuple[str, ...]
) -> None:
    model = tiny_models[name].model
    loss, wanted, kept = bits(model, targets, replace(CONFIG, recompute=False))
    found_loss, found, recomputed = bits(model, targets, replace(CONFIG, recompute=True))
    assert kept.memory.recomputed_layers == 0
    assert recomputed.memory.recomputed_layers == model.config.num_layers
    assert found_loss == loss and any(np.frombuffer(value, np.float32).any() for value in wanted.values())
    assert found == wanted
    assert recomputed.memory.parts["activations"] < kept.memory.parts["activations"]


def test_recomputing_from_a_wrong_input_is_seen(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: what is compared does depend on the second forward pass."""
    model = tiny_models["odd"].model
    _, wanted, _ = bits(model, TARGET_LAYERS, replace(CONFIG, recompute=True))

    def from_the_block_before(trace: Trace, blocks: Sequence[Block], count: int) -> Trace:
        """Begin the second forward pass of the last block with the input of the block before it."""
        made = recompute(trace, blocks, count)
        before, last = (trace.dispatches[blocks[i].first].tensors["x"].label for i in (-2, -1))
        first = next(i for i in range(blocks[-1].backward, len(made.dispatches)) if reads(made.dispatches[i], last))
        wrong = next(t for d in made.dispatches for t in d.tensors.values() if t.label == before)
        dispatch = made.dispatches[first]
        made.dispatches[first] = replace(dispatch, tensors={**dispatch.tensors, "x": wrong})
        assert isinstance(wrong.storage, Value)
        wrong.storage.last = max(wrong.storage.last, first)
        return made

    def reads(dispatch: Dispatch, label: str) -> bool:
        return "x" in dispatch.tensors and dispatch.tensors["x"].label == label

    monkeypatch.setattr("lora_lab.train.plans.recompute", from_the_block_before)
    _, found, _ = bits(model, TARGET_LAYERS, replace(CONFIG, recompute=True))
    assert found != wanted


def test_a_run_with_recomputed_layers_is_the_same_run(each_device: Device, tiny: Tiny) -> None:
    examples = random_examples((20, 33, 70, 41), tiny.model.config.vocab_size)

    def train(recompute: bool) -> tuple[list[float], dict[str, bytes]]:
        adapter = Adapter.create(each_device, tiny.model.config, LoraConfig(rank=4), seed=3)
        config = replace(CONFIG, batch=2, recompute=recompute)
        with trainer_for(tiny.model, adapter, examples, config, examples[:1]) as trainer:
            curve = losses(events(trainer))
        result = {name: value.tobytes() for name, value in run(adapter.to_tensors()).items()}
        adapter.release()
        return curve, result

    assert train(True) == train(False)


def test_a_pool_told_for_recomputed_layers_serves_every_shape(each_device: Device, tiny_models: TinyModels) -> None:
    model = tiny_models["odd"].model
    examples = random_examples((20, 150, 70, 33), model.config.vocab_size)
    config = TrainConfig(steps=4, batch=1, accumulate=1, recompute=True)
    lora = LoraConfig(rank=4)
    with (
        adapter_with(model, lora, random_tensors(model, lora)) as adapter,
        trainer_for(model, adapter, examples, config, examples) as trainer,
    ):
        events(trainer)
        assert trainer.plans.pool.size_bytes == trainer.memory.parts["activations"]


# --- how many ---


def planned(tiny: Tiny, config: TrainConfig) -> tuple[int, int]:
    """Return the recomputed layers and the activations' bytes of a run, without its memory."""
    examples = random_examples((120, 100, 90), tiny.model.config.vocab_size)
    adapter = Adapter(tiny.model.device, tiny.model.config, LoraConfig(rank=4))
    try:
        trainer = Trainer(tiny.model, adapter, examples, config)
        trainer.close()
    finally:
        adapter.release()
    return trainer.memory.recomputed_layers, trainer.memory.parts["activations"]


def test_as_few_layers_as_the_budget_needs_are_recomputed(tiny_models: TinyModels) -> None:
    tiny = tiny_models["odd"]
    layers = tiny.model.config.num_layers
    _, kept = planned(tiny, replace(CONFIG, recompute=False))
    _, least = planned(tiny, replace(CONFIG, recompute=True))
    assert least < kept

    def chosen(budget: int) -> tuple[int, int]:
        return planned(tiny, replace(CONFIG, recompute="auto", activation_budget_bytes=budget))

    assert planned(tiny, CONFIG) == chosen(kept) == (0, kept)
    count, size = chosen(kept - 1)
    assert count == 1 and least < size < kept
    seen = set()
    for budget in range(least, kept, (kept - least) // 7):
        count, size = chosen(budget)
        assert size <= budget
        seen.add(count)
    assert seen == set(range(1, layers + 1))
    assert chosen(least - 1) == chosen(0) == (layers, least)  # the least there is, though it is too much


def test_the_page_recomputes_where_fewer_rows_at_once_are_not_enough(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_models["odd"].model
    examples = random_examples((120, 100, 90), model.config.vocab_size)
    settings = TrainSettings(3, 4, 1e-3, 4, 8, 128, 0, TARGET_LAYERS)

    def plan(budget: int, rows_at_once: int | None = None) -> RunPlan:
        monkeypatch.setattr(planner, "ACTIVATION_BUDGET_BYTES", budget)
        return Planner(model.device, model.files).plan(replace(settings, rows_at_once=rows_at_once), examples, [])

    at_ease = plan(1 << 30)
    assert (at_ease.rows_at_once, at_ease.memory.recomputed_layers) == (4, 0)
    one_row = plan(1 << 30, rows_at_once=1).memory.parts["activations"]
    fewer = plan(one_row)
    assert (fewer.rows_at_once, fewer.memory.recomputed_layers) == (1, 0)
    tight = plan(one_row - 1)
    assert (tight.rows_at_once, tight.memory.recomputed_layers) == (1, 1)
    asked = plan(one_row, rows_at_once=4)
    assert asked.rows_at_once == 4 and asked.memory.recomputed_layers > 0
    settings = replace(settings, save_memory=True)
    saving = plan(1 << 30)
    assert (saving.rows_at_once, saving.memory.recomputed_layers) == (1, model.config.num_layers)
    assert saving.memory.parts["activations"] < one_row
    assert plan(1 << 30, rows_at_once=2).rows_at_once == 2
