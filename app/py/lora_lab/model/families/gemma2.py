"""Gemma 2 (Gemma team 2024): norms before and behind each branch, GeGLU, capped scores and logits, windows on every
other layer, and an embedding multiplied by sqrt(C).
"""

from __future__ import annotations

import math
from typing import Any

from ...config import ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import shared
from .family import DecodeRoles
from .shared import ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT

NAME = "gemma2"
TITLE = "Gemma 2"
MODEL_TYPES = ("gemma2",)
GGUF_ARCHITECTURES = ("gemma2",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = True  # in safetensors; llama.cpp's converter has added it
CHAT_FORMATS = ("gemma",)
WINDOW = 4096
CAPS = {"attention_softcap": 50.0, "logit_softcap": 30.0}

GGUF_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def read_hf_gemma(config: HfConfig, name: str, with_rope: bool = True) -> dict[str, Any]:
    """Return what make_config needs of a Gemma's config.json, windows and caps aside."""
    config.refuse_biases("attention_bias")
    config.refuse_other_activation("hidden_activation", "gelu_pytorch_tanh")
    config.refuse_quantization()
    if config.get("use_bidirectional_attention"):
        config.problems.append("config.json: use_bidirectional_attention is set; wanted a model that writes text")
    fields = shared.read_hf_fields(config, name, head_dim=256, tied=True, max_positions=8192, with_rope=with_rope)
    scale = config.positive("query_pre_attn_scalar", 256.0) ** -0.5
    return {**fields, "gelu": True, "embedding_scale": math.sqrt(fields["hidden_size"]), "attention_scale": scale}


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Gemma2Config gives them."""
    config.refuse_other_class("Gemma2ForCausalLM")
    fields = read_hf_gemma(config, name)
    caps: dict[str, Any] = {
        "attention_softcap": _cap(config, "attn_logit_softcapping", CAPS["attention_softcap"]),
        "logit_softcap": _cap(config, "final_logit_softcapping", CAPS["logit_softcap"]),
    }
    kinds = shared.read_layer_types(config, fields["num_layers"], _alternating(fields["num_layers"]))
    layers = shared.sliding_layers(kinds, shared.read_window(config, WINDOW))
    return None if config.problems else shared.make_config(NAME, layers=layers, **caps, **fields)


def _cap(config: HfConfig, field: str, default: float) -> float:
    return 0.0 if config.get(field, default) is None else config.positive(field, default)


def _alternating(num_layers: int) -> list[str]:
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(num_layers)]


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """GGUF names the window and the caps; the scale of the scores is 27B's own where there are 46 layers."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    window = settings.number("attention.sliding_window", int, WINDOW)
    caps: dict[str, Any] = {
        "attention_softcap": float(settings.number("attn_logit_softcapping", (int, float), CAPS["attention_softcap"])),
        "logit_softcap": float(settings.number("final_logit_softcapping", (int, float), CAPS["logit_softcap"])),
    }
    layers = shared.sliding_layers(_alternating(fields["num_layers"]), window)
    # llama.cpp's rule: the largest Gemma 2 divides by sqrt(C / H), the others by sqrt(D).
    is_27b = fields["num_layers"] == 46
    scale = (fields["hidden_size"] / fields["num_heads"] if is_27b else fields["head_dim"]) ** -0.5
    more: dict[str, Any] = {"gelu": True, "embedding_scale": math.sqrt(fields["hidden_size"]), "attention_scale": scale}
    return None if settings.problems else shared.make_config(NAME, layers=layers, **more, **caps, **fields)


def write_hf_gemma(config: ModelConfig, class_name: str, model_type: str, **more: Any) -> dict[str, Any]:
    """Return config.json of a Gemma; the embedding's scale is taken for granted."""
    scale = (config.attention_scale or config.head_dim**-0.5) ** -2
    fields = shared.write_hf_fields(
        config, class_name, model_type, hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=shared.plain(scale), sliding_window=shared.window_of(config),
        layer_types=shared.layer_types(config), **more,
    )  # fmt: skip
    del fields["hidden_act"]
    return fields


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """A cap of 0 is none."""
    caps = {
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
    }
    return write_hf_gemma(config, "Gemma2ForCausalLM", "gemma2", **caps)


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """The window and the caps."""
    caps = {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.logit_softcap}
    return shared.write_gguf_fields(config, **{"attention.sliding_window": shared.window_of(config) or WINDOW}, **caps)


def gguf_names(config: ModelConfig) -> GgufNames:
    """Nothing is permuted."""
    return GgufNames(whole=shared.GGUF_WHOLE, layer={**shared.GGUF_LINEARS, **GGUF_NORMS})


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The four gains."""
    return {f"{name}.weight": (config.hidden_size,) for name in GGUF_NORMS.values()}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """Each branch between its two norms."""
    attention = ("input_layernorm.weight", *ATTENTION_IN, *ATTENTION_OUT, "post_attention_layernorm.weight")
    mlp = ("pre_feedforward_layernorm.weight", *MLP_IN, *MLP_OUT, "post_feedforward_layernorm.weight")
    return (*attention, *mlp)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """x + norm(o(attention(...))), then x + norm(down(gelu(gate) * up)), each branch behind a norm too."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k = run.rope(layer, q, k)
    return finish_block(run, layer, x, q, k, v)


def finish_block(run: Pass, layer: int, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the block's result from its queries, keys and values on."""
    (branch,) = run.linears(layer, ATTENTION_OUT, run.attend(layer, q, k, v))
    x = run.add(x, run.norm(layer, "post_attention_layernorm", branch))
    h = run.norm(layer, "pre_feedforward_layernorm", x)
    gate, up = run.linears(layer, MLP_IN, h)
    (branch,) = run.linears(layer, MLP_OUT, run.glu(gate, up))
    return run.add(x, run.norm(layer, "post_feedforward_layernorm", branch))
