"""Every family, tiny and random, against transformers and PEFT in float64: logits, gradients, training, chat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.generate import logits
from lora_lab.gpu import Device
from lora_lab.model.families import FAMILIES as KNOWN
from tests import torch_reference
from tests.close import assert_close
from tests.converted_gguf import convert
from tests.engine_runs import (
    adapter_with,
    events,
    load,
    losses,
    random_examples,
    random_tensors,
    run,
    trainer_for,
)
from tests.gpu.conftest import Tiny
from tests.gpu.test_tiny_chat import GREEDY, chat_with, complete, complete_without_a_cache, prompt_of
from tests.gpu.test_tiny_llama import TOLERANCE, compare_gradients, tokens_for
from tests.tiny_families import FAMILIES, IN_GGUF, VOCAB_SIZE, write_tiny_family

LENGTHS = (20, 33, 70, 17)


class TinyFamilies:
    """Writes and loads each tiny model once a session."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.made: dict[str, Tiny] = {}

    def __getitem__(self, family: str) -> Tiny:
        if family not in self.made:
            folder = write_tiny_family(self.folder / family, family)
            self.made[family] = Tiny(load(self.device, folder), folder)
        return self.made[family]


@pytest.fixture(scope="module")
def families(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyFamilies]:
    models = TinyFamilies(device, tmp_path_factory.mktemp("families"))
    yield models
    for tiny in models.made.values():
        tiny.model.release()


def lora_for(tiny: Tiny) -> LoraConfig:
    return LoraConfig(rank=5, alpha=10, targets=tiny.model.config.linear_names)


def test_every_family_is_tried() -> None:
    assert {family.NAME for family in KNOWN} == {"llama", *FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_transformers(each_device: Device, families: TinyFamilies, family: str) -> None:
    tiny = families[family]
    base = torch_reference.load_base(tiny.folder)
    for length in (1, 70):
        tokens = tokens_for(tiny, length)
        assert_close(run(logits(tiny.model, None, tokens)), torch_reference.logits(base, tokens), TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_with_an_adapter_are_pefts(device: Device, families: TinyFamilies, family: str) -> None:
    tiny = families[family]
    config = lora_for(tiny)
    tensors = random_tensors(tiny.model, config)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), config, tensors)
    tokens = tokens_for(tiny, 40)
    with adapter_with(tiny.model, config, tensors) as adapter:
        assert_close(run(logits(tiny.model, adapter, tokens)), torch_reference.logits(peft, tokens), TOLERANCE)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_gradient_is_pefts(each_device: Device, families: TinyFamilies, family: str, packing: bool) -> None:
    tiny = families[family]
    compare_gradients(tiny, lora_for(tiny), batch=4, accumulate=1, packing=packing)


def test_longrope_of_a_long_text(device: Device, families: TinyFamilies) -> None:
    """Past the original context the other list of factors applies, to all of the text."""
    tiny = families["phi3"]
    tokens = tokens_for(tiny, 850)
    wanted = torch_reference.logits(torch_reference.load_base(tiny.folder), tokens)
    assert_close(run(logits(tiny.model, None, tokens)), wanted, TOLERANCE)


# --- controls: what is particular to a family, left out, shows ---

FORGOTTEN = {
    "mistral": {"layers": ()},
    "gemma2": {"attention_softcap": 0.0},
    "gemma3": {"other_ropes": (), "layers": ()},
    "smollm3": {"layers": ()},
    "granite": {"residual_scale": 1.0},
    "phi3": {"rotary_dim": None, "rope_scaling": None},
}


@pytest.mark.parametrize("family", FORGOTTEN)
def test_what_is_left_out_shows(device: Device, families: TinyFamilies, family: str) -> None:
    tiny = families[family]
    wrong = replace(tiny.model, config=replace(tiny.model.config, **FORGOTTEN[family]))
    tokens = tokens_for(tiny, 70)
    wanted = torch_reference.logits(torch_reference.load_base(tiny.folder), tokens)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(run(logits(wrong, None, tokens)), wanted, TOLERANCE)


def test_a_window_off_by_one_shows(device: Device, families: TinyFamilies) -> None:
    tiny = families["gemma3"]
    layers = tuple(replace(x, window=x.window and x.window + 1) for x in tiny.model.config.layers)
    wrong = replace(tiny.model, config=replace(tiny.model.config, layers=layers))
    tokens = tokens_for(tiny, 70)
    wanted = torch_reference.logits(torch_reference.load_base(tiny.folder), tokens)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(run(logits(wrong, None, tokens)), wanted, TOLERANCE)


def test_a_missing_one_in_a_norm_shows(device: Device, families: TinyFamilies, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = families["gemma3"]
    monkeypatch.setattr("lora_lab.model.families.gemma3.NORMS_ADD_ONE", False)
    wrong = load(device, tiny.folder)
    tokens = tokens_for(tiny, 20)
    wanted = torch_reference.logits(torch_reference.load_base(tiny.folder), tokens)
    found = run(logits(wrong, None, tokens))
    assert np.linalg.norm(found - wanted) > 0.1 * np.linalg.norm(wanted)
    wrong.release()


# --- GGUF, as llama.cpp's converter writes it ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_converted_gguf_is_the_same_model(device: Device, tmp_path: Path, family: str) -> None:
    """Every setting and every tensor of the folder's, whatever the converter did to them on the way."""
    folder = write_tiny_family(tmp_path / family, family, **IN_GGUF.get(family, {}))
    model, converted = load(device, folder), load(device, convert(folder, tmp_path / f"{family}.gguf"))
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 70).tolist()
    assert_close(run(logits(converted, None, tokens)), run(logits(model, None, tokens)), 1e-6)
    for loaded in (model, converted):
        loaded.release()


def test_yarn_survives_a_gguf(device: Device, tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
    folder = write_tiny_family(tmp_path / "yarn", "qwen2", rope_parameters=rope)
    model, converted = load(device, folder), load(device, convert(folder, tmp_path / "yarn.gguf"))
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 40).tolist()
    assert model.config.rope_scaling is not None
    assert_close(run(logits(converted, None, tokens)), run(logits(model, None, tokens)), 1e-6)
    for loaded in (model, converted):
        loaded.release()


# --- training and chat ---


@pytest.mark.parametrize("family", FAMILIES)
def test_twelve_steps_are_pefts(device: Device, families: TinyFamilies, family: str) -> None:
    tiny = families[family]
    lora, examples = lora_for(tiny), random_examples((20, 33, 28, 17), VOCAB_SIZE)
    config = TrainConfig(steps=12, batch=2, accumulate=2, learning_rate=1e-3, warmup_steps=2, shuffle=False)
    tensors = random_tensors(tiny.model, lora)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), lora, tensors)
    wanted = torch_reference.train(peft, [examples] * 12, config)
    with (
        adapter_with(tiny.model, lora, tensors) as adapter,
        trainer_for(tiny.model, adapter, examples, config) as trainer,
    ):
        found = losses(events(trainer))
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 1e-4
    assert found[-1] < found[0] - 0.01  # Granite scales what a branch adds, and learns more slowly


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_over_the_cache_is_that_of_the_whole_text(
    device: Device, families: TinyFamilies, family: str
) -> None:
    """Prefill in two parts and decode, far past the window, with an adapter."""
    model = families[family].model
    lora, prompt = lora_for(families[family]), prompt_of(90, model)
    tensors = random_tensors(model, lora, b_std=0.3)
    with chat_with(model) as chat, adapter_with(model, lora, tensors) as adapter:
        run(chat.set_adapter(lora, tensors))
        assert complete(chat, prompt, GREEDY) == complete_without_a_cache(model, adapter, prompt, GREEDY)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_equals_unmerged(device: Device, families: TinyFamilies, tmp_path: Path, family: str) -> None:
    tiny = families[family]
    lora = lora_for(tiny)
    tensors = random_tensors(tiny.model, lora)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), lora, tensors)
    peft.merge_and_unload().float().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((tiny.folder / name).read_bytes())
    merged = load(device, tmp_path)
    tokens = tokens_for(tiny, 40)
    with adapter_with(tiny.model, lora, tensors) as adapter:
        assert_close(run(logits(tiny.model, adapter, tokens)), run(logits(merged, None, tokens)), TOLERANCE)
    merged.release()
