"""Mistral 7B and its like (Jiang et al. 2023): a Llama, some with a sliding window. Its GGUF says "llama"."""

from __future__ import annotations

from typing import Any

from ...config import ModelConfig
from ...formats.gguf_model import GgufSettings
from ...formats.hf_config import HfConfig
from . import llama, shared
from .family import DecodeRoles

NAME = "mistral"
TITLE = "Mistral"
MODEL_TYPES = ("mistral",)
GGUF_ARCHITECTURES: tuple[str, ...] = ()
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = llama.DECODE
NORMS_ADD_ONE = False
CHAT_FORMATS = ("mistral",)

gguf_names, write_gguf, block_vectors, block_order, block = (
    llama.gguf_names, llama.write_gguf, llama.block_vectors, llama.block_order, llama.block,
)  # fmt: skip


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' MistralConfig gives them."""
    config.refuse_other_class("MistralForCausalLM")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, max_positions=4096 * 32)
    window = shared.read_window(config, 4096)
    layers = shared.sliding_layers(["sliding_attention"] * fields["num_layers"], window)
    return None if config.problems else shared.make_config(NAME, layers=layers, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """The window is for all layers."""
    return shared.write_hf_fields(config, "MistralForCausalLM", "mistral", sliding_window=shared.window_of(config))


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """No GGUF says that it is a Mistral: it is read as the Llama that it is."""
    return llama.read_gguf(settings, eos_token_ids, name)
