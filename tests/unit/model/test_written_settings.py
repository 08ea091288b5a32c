"""What families write of a model's settings, in both formats, is what they read; transformers reads it, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import LayerConfig, ModelConfig
from lora_lab.formats.hf_config import HfConfig
from lora_lab.model.families import FAMILIES, family_of, of_model_type
from tests.tiny_families import tiny_config

NAMES = [family.NAME for family in FAMILIES]
SCALINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32.0,
             "beta_slow": 1.0, "attention_factor": 1.25},
}  # fmt: skip


def config_of(name: str) -> ModelConfig:
    if name != "llama":
        return tiny_config(name)
    mistral = tiny_config("mistral")
    return replace(mistral, architecture="llama", layers=())


def read_back(config: ModelConfig) -> ModelConfig:
    written = HfConfig(family_of(config).write_hf(config), {})
    found = of_model_type(written.get("model_type"))
    assert found is family_of(config)
    again = family_of(config).read_hf(written, config.name)
    assert again is not None, written.problems
    return again


@pytest.mark.parametrize("name", NAMES)
def test_config_json_says_the_same_settings(name: str) -> None:
    config = config_of(name)
    assert read_back(config) == config


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_config_json_says_a_scaled_rope(name: str, kind: str) -> None:
    config = replace(config_of(name), rope_scaling=SCALINGS[kind])
    assert read_back(config) == config


@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_the_same_model(name: str) -> None:
    """Each field that transformers has for what the settings say; a wrong one would be a default there."""
    import transformers

    config = config_of(name)
    fields = family_of(config).write_hf(config)
    read = transformers.AutoConfig.for_model(**fields)
    assert type(transformers.AutoModelForCausalLM.from_config(read)).__name__ == fields["architectures"][0]
    again = family_of(config).read_hf(HfConfig(read.to_dict(), {}), config.name)
    assert again == config


def test_a_setting_that_is_not_written_shows() -> None:
    """The control."""
    config = config_of("granite")
    written = family_of(config).write_hf(config)
    del written["residual_multiplier"]
    assert family_of(config).read_hf(HfConfig(written, {}), config.name) != config


def test_gguf_settings_of_layers_are_arrays() -> None:
    config = config_of("lfm2")
    written = family_of(config).write_gguf(config)
    assert np.array_equal(written["attention.head_count_kv"], [0, 0, 2, 0, 2])
    assert written["shortconv.l_cache"] == 3
    assert LayerConfig() in config.layers
