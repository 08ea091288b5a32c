"""Phi-3, 3.5 and 4 mini (Abdin et al. 2024): a Llama with q, k and v in one layer and gate and up in another, which
PEFT adapts as such; some turn a part of each head only, some have factors for long texts.
"""

from __future__ import annotations

from typing import Any

from ...config import LinearLayer, ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import llama, shared
from .family import DecodeRoles

NAME = "phi3"
TITLE = "Phi-3"
MODEL_TYPES = ("phi3",)
GGUF_ARCHITECTURES = ("phi3",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("phi3",)

block_vectors = llama.block_vectors


def make_config(**fields: Any) -> ModelConfig:
    """Return the settings of a Phi-3 of these dimensions."""
    c, i, q = fields["hidden_size"], fields["intermediate_size"], fields["num_heads"] * fields["head_dim"]
    kv = fields["num_kv_heads"] * fields["head_dim"]
    linears = (
        (LinearLayer("qkv_proj", "self_attn.qkv_proj", q + 2 * kv, c),),
        (LinearLayer("o_proj", "self_attn.o_proj", c, q),),
        (LinearLayer("gate_up_proj", "mlp.gate_up_proj", 2 * i, c),),
        (LinearLayer("down_proj", "mlp.down_proj", c, i),),
    )
    return ModelConfig(linears=linears, peft_targets=("qkv_proj",), architecture=NAME, **fields)


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Phi3Config gives them."""
    config.refuse_other_class("Phi3ForCausalLM")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, eps=1e-5, max_positions=4096, partial_rope=True)
    layers = shared.sliding_layers(["sliding_attention"] * fields["num_layers"], shared.read_window(config, None))
    _check_factors(config.problems, fields)
    return None if config.problems else make_config(layers=layers, **fields)


def _check_factors(problems: list[str], fields: dict[str, Any]) -> None:
    """Longrope has a factor for each pair of channels that turns."""
    wanted = (fields["rotary_dim"] or fields["head_dim"]) // 2
    for name in ("short_factor", "long_factor"):
        factors = (fields["rope_scaling"] or {}).get(name)
        if factors is not None and len(factors) != wanted:
            problems.append(f"{name} has {len(factors)} factors; wanted {wanted}, one for each pair of channels")


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """GGUF has the factors for long texts as two tensors; a window of 0 is none."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name, partial_rope=True)
    fields["rope_scaling"] = settings.longrope() or fields["rope_scaling"]
    _check_factors(settings.problems, fields)
    window = settings.get("attention.sliding_window") or None
    if window is not None:
        window = settings.number("attention.sliding_window", int)
    layers = shared.sliding_layers(["sliding_attention"] * fields["num_layers"], window)
    return None if settings.problems else make_config(layers=layers, **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """The original context stands beside the factors, too: transformers chooses the list by it."""
    rope = config.rope_scaling or {}
    original = rope.get("original_max_position_embeddings", config.max_position_embeddings)
    more = {"original_max_position_embeddings": original, "partial_rotary_factor": 1.0}
    if config.rotary_dim is not None:
        more["partial_rotary_factor"] = config.rotary_dim / config.head_dim
    window = shared.window_of(config)
    return shared.write_hf_fields(config, "Phi3ForCausalLM", "phi3", sliding_window=window, **more)


def write_gguf(config: ModelConfig) -> dict[str, Any]:
    """A window of 0 is none; the factors for long texts are tensors."""
    return shared.write_gguf_fields(config, **{"attention.sliding_window": shared.window_of(config) or 0})


def gguf_names(config: ModelConfig) -> GgufNames:
    """Nothing is permuted; llama.cpp calls gate and up in one layer ffn_up."""
    return GgufNames(
        whole=shared.GGUF_WHOLE,
        layer={
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
    )


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """As in a Llama."""
    attention = ("input_layernorm.weight", "qkv_proj", "o_proj")
    return (*attention, "post_attention_layernorm.weight", "gate_up_proj", "down_proj")


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """A Llama's block whose joined layers are one layer each."""
    c = run.config
    (qkv,) = run.linears(layer, ("qkv_proj",), run.norm(layer, "input_layernorm", x))
    q, k, v = run.columns(qkv, (c.query_size, c.kv_size, c.kv_size))
    q, k = run.rope(layer, q, k)
    (x,) = run.linears(layer, ("o_proj",), run.attend(layer, q, k, v), residual=x)
    (gate_up,) = run.linears(layer, ("gate_up_proj",), run.norm(layer, "post_attention_layernorm", x))
    gate, up = run.columns(gate_up, (c.intermediate_size, c.intermediate_size))
    (x,) = run.linears(layer, ("down_proj",), run.glu(gate, up), residual=x)
    return x
