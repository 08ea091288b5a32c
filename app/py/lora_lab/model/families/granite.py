"""Granite 3 and 4, dense (IBM): a Llama with four multipliers, so that one learning rate suits every size."""

from __future__ import annotations

from typing import Any

from ...config import ModelConfig
from ...formats.gguf_model import GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import llama, shared
from .family import DecodeRoles
from .shared import ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT

NAME = "granite"
TITLE = "Granite"
MODEL_TYPES = ("granite",)
GGUF_ARCHITECTURES = ("granite",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("granite",)

gguf_names, block_vectors, block_order = llama.gguf_names, llama.block_vectors, llama.block_order


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' GraniteConfig gives them."""
    config.refuse_other_class("GraniteForCausalLM")
    config.refuse_biases("attention_bias", "mlp_bias")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name)
    multipliers: dict[str, Any] = {
        "embedding_scale": config.positive("embedding_multiplier", 1.0),
        "residual_scale": config.positive("residual_multiplier", 1.0),
        "attention_scale": config.positive("attention_multiplier", 1.0),
        "logit_scale": 1.0 / config.positive("logits_scaling", 1.0),
    }
    return None if config.problems else shared.make_config(NAME, **multipliers, **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """The multipliers stand under names of their own; llama.cpp takes a missing one for 1."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    kinds = (int, float)
    multipliers: dict[str, Any] = {
        "embedding_scale": float(settings.number("embedding_scale", kinds, 1.0)),
        "residual_scale": float(settings.number("residual_scale", kinds, 1.0)),
        "attention_scale": float(settings.number("attention.scale", kinds, fields["head_dim"] ** -0.5)),
        "logit_scale": 1.0 / float(settings.number("logit_scale", kinds, 1.0)),
    }
    return None if settings.problems else shared.make_config(NAME, **multipliers, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """The four multipliers."""
    return shared.write_hf_fields(
        config, "GraniteForCausalLM", "granite", mlp_bias=False, embedding_multiplier=config.embedding_scale,
        residual_multiplier=config.residual_scale, attention_multiplier=config.attention_scale,
        logits_scaling=shared.plain(1 / config.logit_scale),
    )  # fmt: skip


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """The multipliers under GGUF's names."""
    more = {
        "embedding_scale": config.embedding_scale,
        "residual_scale": config.residual_scale,
        "attention.scale": config.attention_scale,
        "logit_scale": float(shared.plain(1 / config.logit_scale)),
    }
    return shared.write_gguf_fields(config, **more)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """A Llama's block. What enters the last layer of a branch is scaled, which is to scale the branch."""
    factor = run.config.residual_scale
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k = run.rope(layer, q, k)
    (x,) = run.linears(layer, ATTENTION_OUT, run.scaled(run.attend(layer, q, k, v), factor), residual=x)
    h = run.norm(layer, "post_attention_layernorm", x)
    gate, up = run.linears(layer, MLP_IN, h)
    (x,) = run.linears(layer, MLP_OUT, run.scaled(run.glu(gate, up), factor), residual=x)
    return x
