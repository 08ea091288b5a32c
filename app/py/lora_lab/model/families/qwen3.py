"""Qwen 3 (Yang et al. 2025): a Llama with a norm over each head of q and k, and heads that are wider than C / H."""

from __future__ import annotations

from typing import Any

from ...config import ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import llama, qwen2, shared
from .family import DecodeRoles
from .shared import ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT

NAME = "qwen3"
TITLE = "Qwen 3"
MODEL_TYPES = ("qwen3",)
GGUF_ARCHITECTURES = ("qwen3",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("chatml",)


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Qwen3Config gives them."""
    config.refuse_other_class("Qwen3ForCausalLM")
    config.refuse_biases("attention_bias")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, head_dim=128, max_positions=32_768)
    layers = qwen2.read_layers(config, fields["num_layers"])
    return None if config.problems else shared.make_config(NAME, layers=layers, **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """All of it is what GGUF says of every architecture."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    return None if settings.problems else shared.make_config(NAME, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """A window, if any, as in Qwen 2."""
    return shared.write_hf_fields(config, "Qwen3ForCausalLM", "qwen3", **qwen2.windows(config))


write_gguf = llama.write_gguf


def gguf_names(config: ModelConfig) -> GgufNames:
    """A Llama's and the two norms; nothing is permuted."""
    norms = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
    return GgufNames(whole=shared.GGUF_WHOLE, layer={**llama.gguf_names(config).layer, **norms})


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The gains; those of q and k are of one head."""
    return {**llama.block_vectors(config, layer), **shared.head_norms(config)}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """q and its norm, k and its norm, and on as in a Llama."""
    return shared.with_head_norms(llama.block_order(config, layer))


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """A Llama's block, each head of q and k normed before it is turned."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k = run.head_norm(layer, "self_attn.q_norm", q), run.head_norm(layer, "self_attn.k_norm", k)
    q, k = run.rope(layer, q, k)
    (x,) = run.linears(layer, ATTENTION_OUT, run.attend(layer, q, k, v), residual=x)
    h = run.norm(layer, "post_attention_layernorm", x)
    gate, up = run.linears(layer, MLP_IN, h)
    (x,) = run.linears(layer, MLP_OUT, run.glu(gate, up), residual=x)
    return x
