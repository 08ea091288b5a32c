"""OLMo 2 (OLMo team 2025): norms behind the branches instead of before them, and over the whole width of q and k."""

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

NAME = "olmo2"
TITLE = "OLMo 2"
MODEL_TYPES = ("olmo2",)
GGUF_ARCHITECTURES = ("olmo2",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("tulu",)


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Olmo2Config gives them."""
    config.refuse_other_class("Olmo2ForCausalLM")
    config.refuse_biases("attention_bias")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, eps=1e-5)
    return None if config.problems else shared.make_config(NAME, **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """All of it is what GGUF says of every architecture."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    return None if settings.problems else shared.make_config(NAME, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """All of it is what every family has."""
    return shared.write_hf_fields(config, "Olmo2ForCausalLM", "olmo2")


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """All of it is what GGUF says of every architecture."""
    return shared.write_gguf_fields(config)


def gguf_names(config: ModelConfig) -> GgufNames:
    """Nothing is permuted."""
    norms = {
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    return GgufNames(whole=shared.GGUF_WHOLE, layer={**shared.GGUF_LINEARS, **norms})


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The gains; those of q and k span all heads."""
    return {
        "self_attn.q_norm.weight": (config.query_size,),
        "self_attn.k_norm.weight": (config.kv_size,),
        "post_attention_layernorm.weight": (config.hidden_size,),
        "post_feedforward_layernorm.weight": (config.hidden_size,),
    }


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """Each norm behind what it is of."""
    attention = ("q_proj", "self_attn.q_norm.weight", "k_proj", "self_attn.k_norm.weight", "v_proj", *ATTENTION_OUT)
    mlp = (*MLP_IN, *MLP_OUT, "post_feedforward_layernorm.weight")
    return (*attention, "post_attention_layernorm.weight", *mlp)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """x + norm(o(attention(rope(norm(q), norm(k)), v))), then x + norm(down(silu(gate) * up))."""
    q, k, v = run.linears(layer, ATTENTION_IN, x)
    q, k = run.norm(layer, "self_attn.q_norm", q), run.norm(layer, "self_attn.k_norm", k)
    q, k = run.rope(layer, q, k)
    (branch,) = run.linears(layer, ATTENTION_OUT, run.attend(layer, q, k, v))
    x = run.add(x, run.norm(layer, "post_attention_layernorm", branch))
    gate, up = run.linears(layer, MLP_IN, x)
    (branch,) = run.linears(layer, MLP_OUT, run.glu(gate, up))
    return run.add(x, run.norm(layer, "post_feedforward_layernorm", branch))
