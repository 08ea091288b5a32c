"""Llama (Touvron et al. 2023; Dubey et al. 2024), and what is built like it: SmolLM, TinyLlama, Mistral in GGUF."""

from __future__ import annotations

from typing import Any

from ...config import ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import shared
from .family import DecodeRoles
from .shared import ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT

NAME = "llama"
TITLE = "Llama"
MODEL_TYPES = ("llama",)
GGUF_ARCHITECTURES = ("llama",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = DecodeRoles(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm")
NORMS_ADD_ONE = False
CHAT_FORMATS = ("llama3", "chatml", "mistral")  # Llama 3; SmolLM; Llama 2, and Mistral in GGUF


def make_config(**fields: Any) -> ModelConfig:
    """Return the settings of a Llama of these dimensions."""
    return shared.make_config(NAME, **fields)


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' LlamaConfig gives them."""
    config.refuse_other_class("LlamaForCausalLM")
    config.refuse_biases("attention_bias", "mlp_bias")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name)
    return None if config.problems else make_config(**fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """All of it is what GGUF says of every architecture."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    return None if settings.problems else make_config(**fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """All of it is what every family has."""
    return shared.write_hf_fields(config, "LlamaForCausalLM", "llama", mlp_bias=False)


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """All of it is what GGUF says of every architecture."""
    return shared.write_gguf_fields(config)


def gguf_names(config: ModelConfig) -> GgufNames:
    """llama.cpp rotates neighbouring channels, so its files hold the rows of q and k head by head interleaved."""
    return GgufNames(
        whole=shared.GGUF_WHOLE,
        layer={**shared.GGUF_LINEARS, "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
        permuted={"attn_q": config.num_heads, "attn_k": config.num_kv_heads},
    )


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The two gains."""
    return {f"{name}.weight": (config.hidden_size,) for name in ("input_layernorm", "post_attention_layernorm")}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """Attention with its norm, then the MLP with its own."""
    attention = ("input_layernorm.weight", *ATTENTION_IN, *ATTENTION_OUT)
    return (*attention, "post_attention_layernorm.weight", *MLP_IN, *MLP_OUT)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """x + o(attention(rope(q, k), v)), then x + down(silu(gate) * up), each branch behind a norm."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k = run.rope(layer, q, k)
    (x,) = run.linears(layer, ATTENTION_OUT, run.attend(layer, q, k, v), residual=x)
    h = run.norm(layer, "post_attention_layernorm", x)
    gate, up = run.linears(layer, MLP_IN, h)
    (x,) = run.linears(layer, MLP_OUT, run.glu(gate, up), residual=x)
    return x
