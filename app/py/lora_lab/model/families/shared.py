"""What most families have in common: a Llama's dimensions, how both formats say them, what its tensors are called."""

from __future__ import annotations

from typing import Any

from ...config import LayerConfig, LinearLayer, ModelConfig
from ...formats.gguf_model import GgufSettings
from ...formats.hf_config import HfConfig
from ...formats.rope_scaling import read_gguf_rope, write_gguf_rope

ATTENTION_IN, ATTENTION_OUT = ("q_proj", "k_proj", "v_proj"), ("o_proj",)
MLP_IN, MLP_OUT = ("gate_proj", "up_proj"), ("down_proj",)
FINAL_NORM = "model.norm.weight"

GGUF_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": FINAL_NORM,
    "output.weight": "lm_head.weight",
}
GGUF_LINEARS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def make_config(
    architecture: str,
    *,
    hidden_size: int,
    intermediate_size: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    peft_targets: tuple[str, ...] = ("q_proj", "v_proj"),
    **fields: Any,
) -> ModelConfig:
    """Return the settings of a model with a Llama's seven linear layers; `fields` are ModelConfig's that remain."""
    c, i, q, kv = hidden_size, intermediate_size, num_heads * head_dim, num_kv_heads * head_dim
    linears = (
        (
            LinearLayer("q_proj", "self_attn.q_proj", q, c),
            LinearLayer("k_proj", "self_attn.k_proj", kv, c),
            LinearLayer("v_proj", "self_attn.v_proj", kv, c),
        ),
        (LinearLayer("o_proj", "self_attn.o_proj", c, q),),
        (LinearLayer("gate_proj", "mlp.gate_proj", i, c), LinearLayer("up_proj", "mlp.up_proj", i, c)),
        (LinearLayer("down_proj", "mlp.down_proj", c, i),),
    )
    return ModelConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        linears=linears,
        peft_targets=peft_targets,
        architecture=architecture,
        **fields,
    )


def read_hf_fields(
    config: HfConfig, name: str, *, head_dim: int | None = None, eps: float = 1e-6, tied: bool = False,
    max_positions: int = 2048, theta: float = 10_000.0, with_rope: bool = True,
    partial_rope: bool = False, eps_field: str = "rms_norm_eps", mlp_width: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what make_config needs of a config.json; the keywords are what transformers takes for left-out fields.

    `head_dim` None means hidden size / heads, `with_rope` False leaves RoPE to the family, `partial_rope` says that it
    may turn a part of each head. What is returned is of no use when `config` has problems.
    """
    hidden_size, num_heads = config.size("hidden_size"), config.size("num_attention_heads")
    num_kv_heads = config.size("num_key_value_heads", num_heads)
    if config.get("head_dim") is None and head_dim is None and hidden_size % num_heads:
        config.wrong("hidden_size", f"a multiple of num_attention_heads, {num_heads}, or a head_dim")
    head_dim = config.size("head_dim", head_dim or max(hidden_size // num_heads, 1))
    if num_heads % num_kv_heads:
        config.wrong("num_attention_heads", f"a multiple of num_key_value_heads, {num_kv_heads}")
    if head_dim % 2:
        config.problems.append(f"config.json: a head has {head_dim} channels; RoPE needs an even number")
    rms_norm_eps, tie = config.positive(eps_field, eps), config.flag("tie_word_embeddings", tied)
    vocab_size, max_positions = config.size("vocab_size"), config.size("max_position_embeddings", max_positions)
    rope_theta, rope_scaling = config.rope(max_positions, theta) if with_rope else (theta, None)
    rotary_dim = config.rotary_dim(head_dim, partial_rope)
    eos_token_ids, bos_token_id = config.eos_token_ids(vocab_size), config.bos_token_id(vocab_size)
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": config.size("intermediate_size", mlp_width),
        "num_layers": config.size("num_hidden_layers"),
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "rms_norm_eps": rms_norm_eps,
        "rope_theta": rope_theta,
        "rope_scaling": rope_scaling,
        "rotary_dim": rotary_dim,
        "max_position_embeddings": max_positions,
        "tie_word_embeddings": tie,
        "name": name,
        "bos_token_id": bos_token_id,
        "eos_token_ids": eos_token_ids,
    }


def read_gguf_fields(
    settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str, theta: float = 10_000.0,
    partial_rope: bool = False, num_kv_heads: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what make_config needs of a GGUF's metadata; left-out settings take the values that llama.cpp gives them.

    `num_kv_heads`: where the family has read them, the file having a number for each layer.
    What is returned is of no use when `settings` has problems.
    """
    number, problems = settings.number, settings.problems
    settings.refuse_experts()
    hidden_size, num_heads = number("embedding_length", int), number("attention.head_count", int)
    num_kv_heads = num_kv_heads or number("attention.head_count_kv", int, num_heads)
    head_dim = number("attention.key_length", int, max(hidden_size // num_heads, 1))
    turned = number("rope.dimension_count", int, head_dim)
    for key in ("attention.value_length", *(() if partial_rope and turned < head_dim else ("rope.dimension_count",))):
        if number(key, int, head_dim) != head_dim:
            problems.append(f"{settings.architecture}.{key} is {settings.get(key)}; wanted the head size, {head_dim}")
    if num_heads % num_kv_heads:
        key = f"{settings.architecture}.attention.head_count"
        problems.append(f"{key} is {num_heads}; wanted a multiple of the KV heads, {num_kv_heads}")
    if head_dim % 2:
        problems.append(f"a head has {head_dim} channels; RoPE needs an even number")
    vocab_size = settings.vocab_size()
    scaling, scaling_problems = read_gguf_rope(settings.gguf.metadata, settings.architecture)
    problems += scaling_problems
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": number("feed_forward_length", int),
        "num_layers": number("block_count", int),
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "head_dim": head_dim,
        "rms_norm_eps": float(number("attention.layer_norm_rms_epsilon", (int, float))),
        "rope_theta": float(number("rope.freq_base", (int, float), theta)),
        "rope_scaling": scaling,
        "rotary_dim": turned if turned < head_dim else None,
        "max_position_embeddings": number("context_length", int),
        "tie_word_embeddings": "output.weight" not in settings.gguf.tensors,
        "name": name,
        "bos_token_id": settings.bos_token_id(vocab_size),
        "eos_token_ids": eos_token_ids,
    }


def write_hf_fields(config: ModelConfig, class_name: str, model_type: str, **more: Any) -> dict[str, Any]:
    """Return what most families' config.json has, as transformers 5 writes it; `more` are a family's own fields.

    RoPE stands there once more as transformers 4 reads it.
    """
    rope = {"rope_type": "default", "rope_theta": config.rope_theta, **(config.rope_scaling or {})}
    if config.rotary_dim is not None:
        rope["partial_rotary_factor"] = config.rotary_dim / config.head_dim
    return {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_parameters": rope,
        "rope_theta": config.rope_theta,
        "rope_scaling": {**rope} if config.rope_scaling else None,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) if len(config.eos_token_ids) != 1 else config.eos_token_ids[0],
        "pad_token_id": None,  # some families' default lies beyond a small vocabulary
        **more,
    }


def write_gguf_fields(config: ModelConfig, **more: Any) -> dict[str, Any]:
    """Return the settings that most families have in GGUF; `more` are a family's own."""
    return {
        "block_count": config.num_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
        "rope.dimension_count": config.rotary_dim or config.head_dim,
        "vocab_size": config.vocab_size,
        **write_gguf_rope(config.rope_scaling),
        **more,
    }


def window_of(config: ModelConfig) -> int | None:
    """Return the window of the layers that have one; None where none has."""
    return next((layer.window for layer in config.layers if layer.window is not None), None)


def layer_types(config: ModelConfig) -> list[str]:
    """Return `layer_types` of a config.json: which layers have a window."""
    windows = [config.layer(index).window for index in range(config.num_layers)]
    return ["full_attention" if window is None else "sliding_attention" for window in windows]


def plain(value: float) -> float:
    """Return a number without the last digits that a power and its inverse leave, whole where it is a whole one."""
    rounded = round(value, 9)
    return int(rounded) if rounded.is_integer() else rounded


def read_layer_types(config: HfConfig, num_layers: int, default: list[str]) -> list[str]:
    """Return `layer_types` of a config.json, each sliding_attention or full_attention; `default` where it has none."""
    kinds = config.get("layer_types")
    if kinds is None:
        return default
    known = {"sliding_attention", "full_attention"}
    if not isinstance(kinds, list) or len(kinds) != num_layers or not set(map(str, kinds)) <= known:
        config.wrong("layer_types", f"{num_layers} times sliding_attention or full_attention")
        return default
    return [str(kind) for kind in kinds]


def sliding_layers(kinds: list[str], window: int | None, local_rope: int = 0) -> tuple[LayerConfig, ...]:
    """Return the layers of these kinds: the sliding ones have the window, and the rotary embedding `local_rope`."""
    if window is None or "sliding_attention" not in kinds:
        return ()
    sliding, full = LayerConfig(window, local_rope), LayerConfig()
    return tuple(sliding if kind == "sliding_attention" else full for kind in kinds)


def read_window(config: HfConfig, default: int | None) -> int | None:
    """Return `sliding_window` of a config.json: how many positions a token sees, or None."""
    return None if config.get("sliding_window", default) is None else config.size("sliding_window", default)


def head_norms(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the gains of the norms over each head of q and k."""
    return {"self_attn.q_norm.weight": (config.head_dim,), "self_attn.k_norm.weight": (config.head_dim,)}


def with_head_norms(order: tuple[str, ...]) -> tuple[str, ...]:
    """Return a block's order with those gains, each behind its projection."""
    found: list[str] = []
    for name in order:
        found.append(name)
        if name in ("q_proj", "k_proj"):
            found.append(f"self_attn.{name[0]}_norm.weight")
    return tuple(found)
