"""Gemma 3, text (Gemma team 2025): Gemma 2 without caps, with norms over the heads of q and k, windows on five layers
of six, and a rotary embedding of their own for those.
"""

from __future__ import annotations

import math
from typing import Any

from ...config import ModelConfig, RopeConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import gemma2, shared
from .family import DecodeRoles
from .shared import ATTENTION_IN

NAME = "gemma3"
TITLE = "Gemma 3"
MODEL_TYPES = ("gemma3_text",)
GGUF_ARCHITECTURES = ("gemma3",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = True
CHAT_FORMATS = ("gemma",)
WINDOW, PATTERN = 4096, 6
GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0


def _pattern(num_layers: int, interval: int) -> list[str]:
    return ["sliding_attention" if (layer + 1) % interval else "full_attention" for layer in range(num_layers)]


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Gemma3TextConfig gives them."""
    config.refuse_other_class("Gemma3ForCausalLM")
    fields = gemma2.read_hf_gemma(config, name, with_rope=False)
    ropes = _read_ropes(config, fields["max_position_embeddings"])
    for field in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(field) is not None:
            config.wrong(field, "null")
    interval = config.size("sliding_window_pattern", PATTERN)
    kinds = shared.read_layer_types(config, fields["num_layers"], _pattern(fields["num_layers"], interval))
    window = shared.read_window(config, WINDOW)
    return None if config.problems else _make(fields, kinds, window, *ropes)


def _read_ropes(config: HfConfig, max_positions: int) -> tuple[RopeConfig, RopeConfig]:
    """Return the rotary embeddings of the full and of the sliding layers.

    transformers 5 writes a set of parameters for each kind of layer, 4 wrote rope_theta, rope_scaling and
    rope_local_base_freq, of which the scaling is for the full layers only.
    """
    written = config.get("rope_parameters")
    if isinstance(written, dict) and "full_attention" in written:
        found = []
        for kind, theta in (("full_attention", GLOBAL_THETA), ("sliding_attention", LOCAL_THETA)):
            of_kind = HfConfig({"rope_parameters": written.get(kind)}, {})
            found.append(RopeConfig(*of_kind.rope(max_positions, theta)))
            config.problems += of_kind.problems
        return found[0], found[1]
    whole = RopeConfig(*config.rope(max_positions, GLOBAL_THETA))
    return whole, RopeConfig(config.positive("rope_local_base_freq", LOCAL_THETA))


def _make(
    fields: dict[str, Any], kinds: list[str], window: int | None, whole: RopeConfig, local: RopeConfig
) -> ModelConfig:
    layers = shared.sliding_layers(kinds, window, local_rope=1)
    fields = {**fields, "rope_theta": whole.theta, "rope_scaling": whole.scaling}
    return shared.make_config(NAME, layers=layers, other_ropes=(local,) if layers else (), **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """Older files lack the windows' base, which is 10,000; the pattern of the windows is always six."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name, GLOBAL_THETA)
    window = settings.number("attention.sliding_window", int, WINDOW)
    local = RopeConfig(float(settings.number("rope.freq_base_swa", (int, float), LOCAL_THETA)))
    if settings.problems:
        return None
    fields |= {"gelu": True, "embedding_scale": math.sqrt(fields["hidden_size"])}
    # llama.cpp's rule: the largest Gemma 3 divides by sqrt(C / H), the others by sqrt(D).
    is_27b = fields["num_layers"] == 62
    fields["attention_scale"] = (fields["hidden_size"] / fields["num_heads"] if is_27b else fields["head_dim"]) ** -0.5
    whole = RopeConfig(fields["rope_theta"], fields["rope_scaling"])
    return _make(fields, _pattern(fields["num_layers"], PATTERN), window, whole, local)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """A set of RoPE's parameters for each kind of layer, and the two bases as transformers 4 has them."""
    fields = gemma2.write_hf_gemma(
        config, "Gemma3ForCausalLM", "gemma3_text", attn_logit_softcapping=None, final_logit_softcapping=None
    )
    local = config.other_ropes[0].theta if config.other_ropes else LOCAL_THETA
    ropes = {
        "full_attention": fields["rope_parameters"],
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }
    return {**fields, "rope_parameters": ropes, "rope_scaling": config.rope_scaling, "rope_local_base_freq": local}


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """The window and the base of the layers that have it; the pattern is taken for granted."""
    local = config.other_ropes[0].theta if config.other_ropes else LOCAL_THETA
    more = {"attention.sliding_window": shared.window_of(config) or WINDOW, "rope.freq_base_swa": local}
    return shared.write_gguf_fields(config, **more)


def gguf_names(config: ModelConfig) -> GgufNames:
    """Nothing is permuted."""
    norms = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
    return GgufNames(whole=shared.GGUF_WHOLE, layer={**shared.GGUF_LINEARS, **gemma2.GGUF_NORMS, **norms})


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The gains; those of q and k are of one head."""
    return {**gemma2.block_vectors(config, layer), **shared.head_norms(config)}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """q and its norm, k and its norm, and on as in Gemma 2."""
    return shared.with_head_norms(gemma2.block_order(config, layer))


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """Gemma 2's block, each head of q and k normed before it is turned."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k = run.head_norm(layer, "self_attn.q_norm", q), run.head_norm(layer, "self_attn.k_norm", k)
    q, k = run.rope(layer, q, k)
    return gemma2.finish_block(run, layer, x, q, k, v)
