"""Token accuracy and perplexity: against numpy and against transformers in float64, and training does without them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.examples import Example
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from lora_lab.ops.cross_entropy import chunk_rows, cross_entropy
from lora_lab.ops.step import StepValues
from lora_lab.train import StepDone, ValidationDone
from lora_lab.train.plans import TrainPlans
from tests import torch_reference
from tests.close import run_op
from tests.engine_runs import adapter_with, events, random_examples, random_tensors, run, trainer_for
from tests.gpu.conftest import Tiny, TinyModels
from tests.gpu.test_families import TinyFamilies, lora_for
from tests.gpu.test_op_linear import weight_on, width
from tests.gpu.test_op_loss import GARBAGE
from tests.tiny_families import FAMILIES

LORA = LoraConfig(rank=4, alpha=8)


def count_hits(
    device: Device, rows: int, trained: int, vocab: int, *, equal: tuple[int, int] | None = None,
    nan_row: int | None = None, cap: float = 0.0,
) -> tuple[int, int]:  # fmt: skip
    """Return the hits as counted on the GPU, and by numpy in float64. `equal`: two tokens that are always as likely."""
    rng = np.random.default_rng(rows + trained)
    x = rng.normal(size=(rows, width("f32"))).astype(np.float32)
    lists = {name: np.full(rows, GARBAGE, np.uint32) for name in ("rows", "targets")}
    lists["rows"][:trained] = np.sort(rng.choice(rows, trained, replace=False))
    with weight_on(device, "f32", (vocab, width("f32")), 0) as (weight, values):
        if equal is not None:
            values = values.copy()
            values[list(equal)] = 5 * np.abs(values).max() * np.sign(values[equal[0]])
            device.write(weight.tensor.buffer, 0, values.astype(np.float32))
        chosen = x[lists["rows"][:trained]].astype(np.float64) @ values.T
        likeliest = chosen.argmax(1)  # the lowest among equals
        if equal is not None:
            assert (likeliest == min(equal)).any() and not (likeliest == max(equal)).any()
        wrong = np.arange(trained) % 3 == 1
        lists["targets"][:trained] = np.where(wrong, (likeliest + 1 + rng.integers(0, 3, trained)) % vocab, likeliest)
        if equal is not None:  # as likely as the target, and not it: the higher of the two
            lists["targets"][:trained][likeliest == min(equal)] = max(equal)
        wanted = int((lists["targets"][:trained] == likeliest).sum())
        if nan_row is not None:
            x[lists["rows"][nan_row]] = np.nan
            wanted -= int(lists["targets"][nan_row] == likeliest[nan_row])

        def build(tape, t):
            cross_entropy(tape, t["x"], weight, t["rows"], t["targets"], t["total"], cap, t["hits"])
            return t["total"]

        inputs = {"x": x, **lists, "total": np.zeros(1), "hits": np.array([7], np.uint32)}
        step = StepValues(inv_tokens=1 / max(1, trained), loss_rows=trained)
        found = run_op(device, build, inputs, outputs=("hits",), step=step)
    return int(found["hits"].view(np.uint32)[0]) - 7, wanted  # added to what was there


@pytest.mark.parametrize(
    ("rows", "trained", "vocab"),
    [
        (1, 1, 7),
        (5, 0, 65),
        (33, 20, 384),
        (128, 128, 65),
        (300, 1, 65),
        (300, 200, 65),
        (1100, 700, 65),
        (5, 4, 49152),
    ],
)
def test_hits_are_numpys(each_device: Device, rows: int, trained: int, vocab: int) -> None:
    found, wanted = count_hits(each_device, rows, trained, vocab)
    assert found == wanted
    assert trained < 4 or 0 < wanted < trained, "a count that says something"


def test_a_capped_logit_is_as_likely_as_before(each_device: Device) -> None:
    found, wanted = count_hits(each_device, chunk_rows(1) + 9, chunk_rows(1) + 2, 65, cap=30.0)
    assert found == wanted > 0


@pytest.mark.parametrize("equal", [(3, 60), (64, 0), (11, 12)])
def test_of_equally_likely_ones_the_lowest_counts(each_device: Device, equal: tuple[int, int]) -> None:
    found, wanted = count_hits(each_device, 90, 80, 65, equal=equal)
    assert found == wanted


def test_a_row_that_is_no_number_hits_nothing(each_device: Device) -> None:
    hits = [count_hits(each_device, 40, 30, 65, nan_row=row) for row in range(4)]
    assert all(found == wanted for found, wanted in hits)
    assert len({wanted for _, wanted in hits}) == 2, "a row that hit before, and one that did not"


# ---------------------------------------------------------------------------------------------------- whole models


@pytest.fixture(scope="module")
def families(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyFamilies]:
    models = TinyFamilies(device, tmp_path_factory.mktemp("families"))
    yield models
    for tiny in models.made.values():
        tiny.model.release()


def check_validation(tiny: Tiny, lora: LoraConfig, packing: bool) -> None:
    """A validation's numbers are transformers' and PEFT's in float64, and those of other rows are not."""
    tensors = random_tensors(tiny.model, lora)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), lora, tensors)
    vocab = tiny.model.config.vocab_size
    held = torch_reference.half_greedy(peft, (9, 30, 21, 12, 44), vocab, seed=5)
    wanted, loss = torch_reference.accuracy(peft, held), torch_reference.loss(peft, held).item()
    config = TrainConfig(steps=1, batch=2, accumulate=1, packing=packing)
    with adapter_with(tiny.model, lora, tensors) as adapter, trainer_for(
        tiny.model, adapter, random_examples((20, 33), vocab), config, held
    ) as trainer:  # fmt: skip
        found = run(trainer.validate())
        again = run(trainer.validate())
        spoilt = [Example(held[0].tokens[::-1].copy(), held[0].trained), *held[1:]]
        other = run(trainer.validate(trainer.layout.groups(spoilt)))
    assert found == again
    assert found is not None and other is not None
    assert found.tokens == sum(example.trained_tokens for example in held)
    assert 0.2 < wanted < 0.8
    assert found.accuracy == wanted
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert other.accuracy != wanted, "the control"


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_accuracy_and_perplexity_are_transformers(
    each_device: Device, families: TinyFamilies, family: str, packing: bool
) -> None:
    check_validation(families[family], lora_for(families[family]), packing)


@pytest.mark.parametrize("name", ["tied f32", "untied f16"])
def test_of_a_llama_too(each_device: Device, tiny_models: TinyModels, name: str) -> None:
    check_validation(tiny_models[name], LORA, packing=False)


# ---------------------------------------------------------------------------------------------------- what it costs


def test_a_training_step_has_none_of_it(device: Device, tiny: Tiny) -> None:
    """The very dispatches of before: accuracy is counted where there is no gradient, and nowhere else."""
    adapter = Adapter(device, tiny.model.config, LORA, planned=True)
    plans = TrainPlans(tiny.model, adapter, TrainConfig(), (2, 64))
    training, held = plans.trace_batch((2, 64)), plans.trace_batch((2, 64), grad_enabled=False)
    every = [plans._trace_zero(), plans._trace_update(), training]
    assert not [one.kernel for trace in every for one in trace.dispatches if one.kernel.name.startswith("accuracy")]
    bound = [tensor.label for trace in every for one in trace.dispatches for tensor in one.tensors.values()]
    assert "loss" in bound and "hits" not in bound
    counted = [one.kernel.entry for one in held.dispatches if one.kernel.name.startswith("accuracy")]
    assert counted == ["hit", "total"]


def test_what_is_measured_on_the_way_changes_no_bit(each_device: Device, tiny: Tiny) -> None:
    vocab = tiny.model.config.vocab_size
    examples, held = random_examples((20, 33, 17, 40), vocab), random_examples((9, 50), vocab, seed=8)
    config = TrainConfig(steps=8, batch=2, accumulate=1, learning_rate=1e-2)
    found = []
    for rows in ([], held):
        adapter = Adapter.create(each_device, tiny.model.config, LORA, 1)
        with trainer_for(tiny.model, adapter, examples, config, rows) as trainer:
            told = events(trainer)
        tensors = run(adapter.to_tensors())
        adapter.release()
        steps = [(e.loss, e.grad_norm) for e in told if isinstance(e, StepDone)]
        found.append((steps, {key: values.tobytes() for key, values in tensors.items()}))
        assert bool([e for e in told if isinstance(e, ValidationDone)]) is bool(rows)
    assert found[0] == found[1]
