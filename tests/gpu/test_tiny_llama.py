"""A tiny random Llama against transformers and PEFT in float64: logits, gradients of every A and B."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.errors import LoraLabError
from lora_lab.generate import logits
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from tests import torch_reference
from tests.close import assert_all_close, assert_close
from tests.engine_runs import (
    adapter_with,
    gradients,
    load,
    random_examples,
    random_tensors,
    run,
    trainer_for,
)
from tests.gpu.conftest import TINY_MODELS, Tiny, TinyModels
from tests.tiny_gguf import write_tiny_gguf

TOLERANCE = 1e-5
LORA = LoraConfig(rank=5, alpha=10)
LENGTHS = (20, 33, 70, 17)


def tokens_for(tiny: Tiny, length: int) -> list[int]:
    return np.random.default_rng(length).integers(0, tiny.model.config.vocab_size, length).tolist()


# --- logits ---


@pytest.mark.parametrize("name", TINY_MODELS)
def test_logits_are_transformers(each_device: Device, tiny_models: TinyModels, name: str) -> None:
    tiny = tiny_models[name]
    base = torch_reference.load_base(tiny.folder)
    for length in (1, 40, 150):  # one row, one chunk, two chunks
        tokens = tokens_for(tiny, length)
        assert_close(run(logits(tiny.model, None, tokens)), torch_reference.logits(base, tokens), TOLERANCE)


@pytest.mark.parametrize("form", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"])
def test_logits_of_a_gguf_are_transformers_on_the_same_file(
    each_device: Device, tiny_models: TinyModels, tmp_path: Path, form: str
) -> None:
    """llama.cpp's order of the rows of q and k is undone in every form."""
    tiny = tiny_models["untied f32"]
    path = write_tiny_gguf(tiny.folder, tmp_path / "tiny.gguf", form=form)
    model = load(each_device, path)
    tokens = tokens_for(tiny, 40)
    wanted = torch_reference.logits(torch_reference.load_base(path), tokens)
    assert_close(run(logits(model, None, tokens)), wanted, TOLERANCE)
    model.release()


@pytest.mark.parametrize("targets", [LORA.targets, ("q_proj", "v_proj"), ("down_proj",)], ids=", ".join)
def test_logits_with_an_adapter_are_pefts(each_device: Device, tiny: Tiny, targets: tuple[str, ...]) -> None:
    config = LoraConfig(rank=3, alpha=8, targets=targets, use_rslora=True)
    tensors = random_tensors(tiny.model, config)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), config, tensors)
    tokens = tokens_for(tiny, 40)
    with adapter_with(tiny.model, config, tensors) as adapter:
        assert_close(run(logits(tiny.model, adapter, tokens)), torch_reference.logits(peft, tokens), TOLERANCE)


def test_merged_equals_unmerged(each_device: Device, tiny: Tiny, tmp_path: Path) -> None:
    """The adapter beside the weights gives what PEFT's merged weights give in the same engine."""
    tensors = random_tensors(tiny.model, LORA)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, tensors)
    peft.merge_and_unload().float().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((tiny.folder / name).read_bytes())
    merged = load(each_device, tmp_path)
    tokens = tokens_for(tiny, 70)
    with adapter_with(tiny.model, LORA, tensors) as adapter:
        assert_close(run(logits(tiny.model, adapter, tokens)), run(logits(merged, None, tokens)), TOLERANCE)
    merged.release()


def test_strength_scales_the_adapter(each_device: Device, tiny: Tiny) -> None:
    tensors, tokens = random_tensors(tiny.model, LORA), tokens_for(tiny, 40)
    base = run(logits(tiny.model, None, tokens))
    with adapter_with(tiny.model, LORA, tensors) as adapter:
        assert np.array_equal(run(logits(tiny.model, adapter, tokens, strength=0.0)), base)
        half = run(logits(tiny.model, adapter, tokens, strength=0.5))
    config = LoraConfig(rank=LORA.rank, alpha=LORA.alpha / 2)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), config, tensors)
    assert_close(half, torch_reference.logits(peft, tokens), TOLERANCE)


def test_a_new_adapter_changes_nothing(each_device: Device, tiny: Tiny) -> None:
    tokens = tokens_for(tiny, 40)
    adapter = Adapter.create(each_device, tiny.model.config, LORA, seed=3)
    assert np.array_equal(run(logits(tiny.model, adapter, tokens)), run(logits(tiny.model, None, tokens)))
    adapter.release()


@pytest.mark.parametrize("length", [0, 2049])
def test_a_text_of_no_or_too_many_tokens_is_refused(tiny: Tiny, length: int) -> None:
    with pytest.raises(LoraLabError, match=f"the text has {length} tokens"):
        run(logits(tiny.model, None, [1] * length))


# --- gradients ---


def compare_gradients(
    tiny: Tiny, config: LoraConfig, batch: int, accumulate: int, lengths: tuple[int, ...] = LENGTHS,
    packing: bool = False,
) -> float:  # fmt: skip
    """Assert that the loss and every dA and dB are PEFT's; return the largest error."""
    examples = random_examples(lengths, tiny.model.config.vocab_size)
    tensors = random_tensors(tiny.model, config)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), config, tensors)
    wanted_loss, wanted = torch_reference.loss_and_gradients(peft, examples)
    train = TrainConfig(steps=1, batch=batch, accumulate=accumulate, shuffle=False, packing=packing)
    groups = [range(i, min(i + batch, len(examples))) for i in range(0, len(examples), batch)]
    with adapter_with(tiny.model, config, tensors) as adapter, trainer_for(tiny.model, adapter, examples, train) as t:
        loss, found = gradients(t, groups)
    assert_close(np.array(loss), np.array(wanted_loss), TOLERANCE, "loss")
    return assert_all_close(found, wanted, TOLERANCE)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_gradient_is_pefts(each_device: Device, tiny_models: TinyModels, name: str, packing: bool) -> None:
    compare_gradients(tiny_models[name], LORA, batch=4, accumulate=1, packing=packing)


@pytest.mark.parametrize(
    ("rank", "targets"),
    [
        (1, ("q_proj",)),
        (16, ("k_proj", "gate_proj")),
        (3, ("o_proj", "v_proj")),
        (16, ("up_proj",)),
        (1, ("down_proj",)),
    ],
)
def test_gradients_of_some_layers_only(each_device: Device, tiny: Tiny, targets: tuple[str, ...], rank: int) -> None:
    compare_gradients(tiny, LoraConfig(rank=rank, alpha=16, targets=targets), batch=4, accumulate=1)


def test_more_trained_tokens_than_a_chunk_of_the_loss(each_device: Device, tiny: Tiny) -> None:
    compare_gradients(tiny, LORA, batch=2, accumulate=1, lengths=(210, 130))


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(("batch", "accumulate"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_accumulated_gradients_are_those_of_one_batch(tiny: Tiny, batch: int, accumulate: int, packing: bool) -> None:
    """The mean is over all trained tokens of all micro-batches, not a mean of their means; 3 and 1 rows also."""
    compare_gradients(tiny, LORA, batch=batch, accumulate=accumulate, packing=packing)


def test_accumulating_1x4_equals_4x1(each_device: Device, tiny: Tiny) -> None:
    examples = random_examples(LENGTHS, tiny.model.config.vocab_size)
    tensors = random_tensors(tiny.model, LORA)
    found = []
    for batch, groups in ((1, [[0], [1], [2], [3]]), (4, [[0, 1, 2, 3]])):
        config = TrainConfig(steps=1, batch=batch, accumulate=len(groups))
        with (
            adapter_with(tiny.model, LORA, tensors) as adapter,
            trainer_for(tiny.model, adapter, examples, config) as t,
        ):
            found.append(gradients(t, groups))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert_all_close(found[0][1], found[1][1], 2e-6)
