"""LFM2 (Liquid AI 2025): in most layers a gated short convolution takes the place of attention; where there is
attention, each head of q and k has a norm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import LayerConfig, LinearLayer, ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import shared
from .family import DecodeRoles
from .shared import ATTENTION_IN

NAME = "lfm2"
TITLE = "LFM2"
MODEL_TYPES = ("lfm2",)
GGUF_ARCHITECTURES = ("lfm2",)
CHAT_FORMATS = ("chatml",)
FINAL_NORM = "model.embedding_norm.weight"
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False

THETA, MAX_TAPS = 1_000_000.0, 16
MLP_IN, MLP_OUT = ("w1", "w3"), ("w2",)  # gate and up, down
OUT = ("out_proj",)  # of attention, or of the convolution


def make_config(convolved: list[bool], taps: int, **fields: Any) -> ModelConfig:
    """Return the settings of an LFM2 of these dimensions; `convolved` says which layers have a convolution."""
    c, i, q = fields["hidden_size"], fields["intermediate_size"], fields["num_heads"] * fields["head_dim"]
    kv = fields["num_kv_heads"] * fields["head_dim"]
    mlp = (
        (LinearLayer("w1", "feed_forward.w1", i, c), LinearLayer("w3", "feed_forward.w3", i, c)),
        (LinearLayer("w2", "feed_forward.w2", c, i),),
    )
    attention = (
        (
            LinearLayer("q_proj", "self_attn.q_proj", q, c),
            LinearLayer("k_proj", "self_attn.k_proj", kv, c),
            LinearLayer("v_proj", "self_attn.v_proj", kv, c),
        ),
        (LinearLayer("out_proj", "self_attn.out_proj", c, q),),
    )
    convolution = (
        (LinearLayer("in_proj", "conv.in_proj", 3 * c, c),),
        (LinearLayer("out_proj", "conv.out_proj", c, c),),
    )
    of_conv = LayerConfig(linears=(*convolution, *mlp), conv_taps=taps)
    layers = tuple(of_conv if conv else LayerConfig() for conv in convolved)
    # PEFT has no layers of its own choice for this family: an adapter's file has to say them.
    return ModelConfig(linears=(*attention, *mlp), layers=layers, peft_targets=(), architecture=NAME, **fields)


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Lfm2Config gives them."""
    config.refuse_other_class("Lfm2ForCausalLM")
    config.refuse_biases("conv_bias")
    config.refuse_quantization()
    fields = shared.read_hf_fields(
        config, name, eps=1e-5, eps_field="norm_eps", tied=True, max_positions=128_000, theta=THETA, mlp_width=12_288
    )
    # The first LFM2s have names of their own for these two, which come first.
    fields["tie_word_embeddings"] = config.flag("tie_embedding", fields["tie_word_embeddings"])
    fields["intermediate_size"] = _mlp_width(config, config.size("block_ff_dim", fields["intermediate_size"]))
    convolved, taps = _read_layers(config, fields["num_layers"]), config.size("conv_L_cache", 3)
    if taps > MAX_TAPS:
        config.wrong("conv_L_cache", f"at most {MAX_TAPS}")
    return None if config.problems else make_config(convolved, taps, **fields)


def _mlp_width(config: HfConfig, width: int) -> int:
    """Return the MLP's width: two thirds of what is written, times a factor and rounded up, unless that is off."""
    if not config.flag("block_auto_adjust_ff_dim", True):
        return width
    multiple = config.size("block_multiple_of", 256)
    width = int(config.positive("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
    return (width + multiple - 1) // multiple * multiple


def _read_layers(config: HfConfig, num_layers: int) -> list[bool]:
    """Return which layers have a convolution: by layer_types, or before that the numbers of those with attention."""
    kinds, attending = config.get("layer_types"), config.get("full_attn_idxs")
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != num_layers or not set(map(str, kinds)) <= {
            "conv", "full_attention"
        }:  # fmt: skip
            config.wrong("layer_types", f"{num_layers} times conv or full_attention")
            return []
        return [kind == "conv" for kind in kinds]
    if attending is None:
        return []  # all layers are alike
    if not isinstance(attending, list) or not all(type(i) is int and 0 <= i < num_layers for i in attending):
        config.wrong("full_attn_idxs", f"numbers of layers below {num_layers}")
        return []
    return [i not in attending for i in range(num_layers)]


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """The number of KV heads stands there for each layer; 0 means a convolution."""
    kv_heads = settings.of_layers("attention.head_count_kv")
    counts = sorted(set(kv_heads) - {0}) or [1]
    if len(counts) > 1:
        settings.problems.append(f"layers have {counts} KV heads; wanted the same number in all that have attention")
    fields = shared.read_gguf_fields(settings, eos_token_ids, name, THETA, num_kv_heads=counts[0])
    taps = settings.number("shortconv.l_cache", int)
    if taps > MAX_TAPS:
        settings.problems.append(f"{settings.architecture}.shortconv.l_cache is {taps}; wanted at most {MAX_TAPS}")
    return None if settings.problems else make_config([count == 0 for count in kv_heads], taps, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """The MLP's width as it is, and which layers have a convolution."""
    fields = shared.write_hf_fields(
        config, "Lfm2ForCausalLM", "lfm2", norm_eps=config.rms_norm_eps, conv_bias=False, conv_L_cache=_taps(config),
        block_auto_adjust_ff_dim=False,
        layer_types=["conv" if taps else "full_attention" for taps in _convolved(config)],
    )  # fmt: skip
    for name in ("rms_norm_eps", "hidden_act", "attention_bias", "attention_dropout"):
        del fields[name]
    return fields


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """A number of KV heads for each layer, 0 where there is a convolution."""
    kv_heads = np.array([0 if taps else config.num_kv_heads for taps in _convolved(config)], np.int32)
    return shared.write_gguf_fields(config, **{"attention.head_count_kv": kv_heads, "shortconv.l_cache": _taps(config)})


def _convolved(config: ModelConfig) -> list[int]:
    return [config.layer(index).conv_taps for index in range(config.num_layers)]


def _taps(config: ModelConfig) -> int:
    return max(_convolved(config), default=0) or 3


def gguf_names(config: ModelConfig) -> GgufNames:
    """Nothing is permuted; the last norm is called the embedding's, as in Hugging Face's files."""
    return GgufNames(
        whole={
            "token_embd.weight": "model.embed_tokens.weight",
            "token_embd_norm.weight": FINAL_NORM,
            "output.weight": "lm_head.weight",
        },
        layer={
            "attn_norm": "operator_norm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_q_norm": "self_attn.q_layernorm",
            "attn_k_norm": "self_attn.k_layernorm",
            "attn_output": "self_attn.out_proj",
            "shortconv.in_proj": "conv.in_proj",
            "shortconv.conv": "conv.conv",
            "shortconv.out_proj": "conv.out_proj",
            "ffn_norm": "ffn_norm",
            "ffn_gate": "feed_forward.w1",
            "ffn_up": "feed_forward.w3",
            "ffn_down": "feed_forward.w2",
        },
        convolutions=("shortconv.conv",),
    )


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The gains, and a convolution's filters."""
    hidden, head, taps = (config.hidden_size,), (config.head_dim,), config.layer(layer).conv_taps
    heads = {"self_attn.q_layernorm.weight": head, "self_attn.k_layernorm.weight": head}
    mixing = {"conv.conv.weight": (*hidden, 1, taps)} if taps else heads
    return {"operator_norm.weight": hidden, **mixing, "ffn_norm.weight": hidden}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """The convolution or attention with its norm, then the MLP with its own."""
    attention = ("q_proj", "self_attn.q_layernorm.weight", "k_proj", "self_attn.k_layernorm.weight", "v_proj")
    convolution = ("in_proj", "conv.conv.weight")
    mixing = convolution if config.layer(layer).conv_taps else attention
    return ("operator_norm.weight", *mixing, *OUT, "ffn_norm.weight", *MLP_IN, *MLP_OUT)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """x + out(C * conv(B * x)) or x + out(attention(...)), then x + w2(silu(w1) * w3), each branch behind a norm."""
    h = run.norm(layer, "operator_norm", x)
    if run.config.layer(layer).conv_taps:
        (bcx,) = run.linears(layer, ("in_proj",), h)
        mixed = run.short_conv(layer, "conv.conv", bcx)
    else:
        q, k, v = run.linears(layer, ATTENTION_IN, h)
        q, k = run.head_norm(layer, "self_attn.q_layernorm", q), run.head_norm(layer, "self_attn.k_layernorm", k)
        q, k = run.rope(layer, q, k)
        mixed = run.attend(layer, q, k, v)
    (x,) = run.linears(layer, OUT, mixed, residual=x)
    gate, up = run.linears(layer, MLP_IN, run.norm(layer, "ffn_norm", x))
    (x,) = run.linears(layer, MLP_OUT, run.glu(gate, up), residual=x)
    return x
