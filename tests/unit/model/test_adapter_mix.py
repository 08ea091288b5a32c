"""Several adapters as one: what it adds is the sum of what they add, and what PEFT's "cat" makes of them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, tensor_key
from lora_lab.model.adapter_mix import WeightedAdapter, mix
from lora_lab.model.files import open_model
from tests.tiny_families import tiny_config

# One rounding of B to float32, relative to the sum's largest term.
ROUNDING = 2**-23

SHIPS = LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj"))
STARS = LoraConfig(rank=7, alpha=3, targets=("v_proj", "o_proj", "down_proj"), use_rslora=True)
TIDES = LoraConfig(rank=1, alpha=16, targets=("q_proj", "v_proj", "gate_proj"))


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path) -> ModelConfig:
    return asyncio.run(open_model(sources_from_path(tiny_model_folder))).config


def part(config: ModelConfig, lora: LoraConfig, strength: float, seed: int) -> WeightedAdapter:
    rng = np.random.default_rng(seed)
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in expected_shapes(lora, config).items()}
    return WeightedAdapter(f"adapter {seed}", lora, tensors, strength)


def delta(config: ModelConfig, lora: LoraConfig, tensors: Mapping[str, np.ndarray], place: tuple[int, str]) -> Any:
    """What an adapter adds to a weight, in float64; 0 where it has none."""
    if place[1] not in lora.targets or place[1] not in config.names_in(place[0]):
        return 0.0
    a, b = (tensors[tensor_key(config, *place, half)].astype(np.float64) for half in "AB")
    return lora.scale * b @ a


def check_sum(config: ModelConfig, parts: list[WeightedAdapter], mixed: tuple[LoraConfig, dict]) -> None:
    for layer in range(config.num_layers):
        for name in config.names_in(layer):
            shares = [one.strength * delta(config, one.lora, one.tensors, (layer, name)) for one in parts]
            found = delta(config, *mixed, (layer, name))
            most = sum(np.abs(share).max() for share in shares)
            np.testing.assert_allclose(found, sum(shares) + np.zeros_like(found), rtol=0, atol=8 * ROUNDING * most)


@pytest.mark.parametrize("strengths", [(1, 1, 1), (0.5, 2, 0.25), (1, 0, 1.5)])
def test_it_adds_what_all_of_them_add(config: ModelConfig, strengths: tuple[float, ...]) -> None:
    parts = [part(config, lora, strength, i) for i, (lora, strength) in
             enumerate(zip((SHIPS, STARS, TIDES), strengths, strict=True))]  # fmt: skip
    lora, tensors = mix(parts, config)
    assert lora.scale == 1 and tensors.keys() == expected_shapes(lora, config).keys()
    assert lora.rank == (12 if strengths[1] else 5)  # of v_proj, which all of them change
    assert lora.targets == config.chosen_linears({name for one in parts if one.strength for name in one.lora.targets})
    check_sum(config, parts, (lora, tensors))


@pytest.mark.parametrize("family", ["lfm2", "phi3", "gemma3"])
def test_layers_of_other_kinds(family: str) -> None:
    config = tiny_config(family)
    names = config.linear_names
    parts = [part(config, LoraConfig(3, 6, names[:2]), 0.7, 0), part(config, LoraConfig(2, 8, names[1:]), 1.3, 1)]
    check_sum(config, parts, mix(parts, config))


FAULTS = {
    "an adapter's scale is forgotten": lambda one: replace(one, lora=replace(one.lora, alpha=2 * one.lora.alpha)),
    "a strength is forgotten": lambda one: replace(one, strength=1.0),
    "rsLoRA is forgotten": lambda one: replace(one, lora=replace(one.lora, use_rslora=not one.lora.use_rslora)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(config: ModelConfig, fault: str) -> None:
    parts = [part(config, SHIPS, 0.5, 0), part(config, STARS, 2.0, 1)]
    mixed = mix([parts[0], FAULTS[fault](parts[1])], config)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_sum(config, parts, mixed)


def test_it_is_pefts_cat(config: ModelConfig, tiny_model_folder: Path) -> None:
    """PEFT stacks them in the same order: the very matrices, but for where the scales go. And so the same deltas."""
    targets = SHIPS.targets
    parts = [part(config, SHIPS, 0.5, 0), part(config, LoraConfig(7, 3, targets, use_rslora=True), 1.5, 1)]
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    model: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in parts:
            settings = PeftConfig(r=one.lora.rank, lora_alpha=one.lora.alpha, target_modules=list(targets),
                                  use_rslora=one.lora.use_rslora)  # fmt: skip
            if model is None:
                model = get_peft_model(base, settings, adapter_name=one.name).to(torch.float64)
            else:
                model.add_adapter(one.name, settings)
                model.to(torch.float64)
            tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in one.tensors.items()}
            assert not set_peft_model_state_dict(model, tensors, adapter_name=one.name).unexpected_keys
        names, strengths = [one.name for one in parts], [one.strength for one in parts]
        model.add_weighted_adapter(names, strengths, "cat", combination_type="cat")
    mixed = mix(parts, config)
    assert model.peft_config["cat"].r == mixed[0].rank == 11
    for layer in range(config.num_layers):
        for name in targets:
            module = model.base_model.model.get_submodule(config.module_path(layer, name))
            wanted = module.get_delta_weight("cat").detach().numpy()
            found = delta(config, *mixed, (layer, name))
            np.testing.assert_allclose(found, wanted, rtol=0, atol=16 * ROUNDING * np.abs(wanted).max())
            other = delta(config, *mix([replace(parts[0], strength=0.51), parts[1]], config), (layer, name))
            assert np.abs(other - wanted).max() > 1e-3  # the control


def test_one_alone_is_itself(config: ModelConfig) -> None:
    one = part(config, SHIPS, 1.0, 0)
    lora, tensors = mix([one], config)
    assert lora == SHIPS and all(tensors[key] is one.tensors[key] for key in one.tensors)
    check_sum(config, [replace(one, strength=0.3)], mix([replace(one, strength=0.3)], config))
    off = replace(one, strength=0.0)
    check_sum(config, [off], mix([off], config))


def test_what_cannot_be_added_is_refused_by_name(config: ModelConfig) -> None:
    good = part(config, SHIPS, 1.0, 0)
    wide = replace(part(tiny_config("mistral", hidden_size=128), SHIPS, 1.0, 1), name="Stars")
    with pytest.raises(AdapterError, match=r"Stars: .*q_proj.lora_A.weight is \(4, 128\); tiny.* needs \(4, 64\)"):
        mix([good, wide], config)
    fused = replace(part(tiny_config("phi3"), LoraConfig(2, 4, ("qkv_proj",)), 1.0, 2), name="Tides")
    with pytest.raises(AdapterError, match=r"Tides: it changes qkv_proj; tiny.* has q_proj, k_proj"):
        mix([good, fused], config)
    some = dict(list(good.tensors.items())[1:])
    with pytest.raises(AdapterError, match=r"adapter 0: .*lora_A.weight is missing"):
        mix([replace(good, tensors=some)], config)
    with pytest.raises(AdapterError, match="no adapter to apply"):
        mix([], config)
    with pytest.raises(AdapterError, match=r"adapter 0: strength 1e\+38 times its scale 2 is more than float32"):
        mix([replace(good, strength=1e38), good], config)
