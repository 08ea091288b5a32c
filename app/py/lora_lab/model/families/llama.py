"""Llama (Touvron et al. 2023; Dubey et al. 2024), and what is built like it: SmolLM, TinyLlama, Mistral in GGUF."""

from __future__ import annotations

from typing import Any

from ...config import LinearLayer, ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...formats.rope_scaling import read_gguf_rope
from ...gpu.plan import Tensor
from ..block import Pass
from .family import DecodeRoles

NAME = "llama"
TITLE = "Llama"
MODEL_TYPES = ("llama",)
GGUF_ARCHITECTURES = ("llama",)
FINAL_NORM = "model.norm.weight"
DECODE: DecodeRoles | None = DecodeRoles(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm")

_ATTENTION_IN, _ATTENTION_OUT = ("q_proj", "k_proj", "v_proj"), ("o_proj",)
_MLP_IN, _MLP_OUT = ("gate_proj", "up_proj"), ("down_proj",)


def make_config(
    *, hidden_size: int, intermediate_size: int, num_heads: int, num_kv_heads: int, head_dim: int, **fields: Any
) -> ModelConfig:
    """Return the settings of a Llama of these dimensions; `fields` are those of ModelConfig that remain."""
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
        peft_targets=("q_proj", "v_proj"),
        architecture=NAME,
        **fields,
    )


# ------------------------------------------------------------------------------------------------------- Hugging Face


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' LlamaConfig gives them."""
    config.refuse_other_class("LlamaForCausalLM")
    config.refuse_biases("attention_bias", "mlp_bias")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        config.wrong("hidden_act", "'silu'")
    config.refuse_quantization()
    hidden_size, num_heads = config.size("hidden_size"), config.size("num_attention_heads")
    num_kv_heads = config.size("num_key_value_heads", num_heads)
    if config.get("head_dim") is None and hidden_size % num_heads:
        config.wrong("hidden_size", f"a multiple of num_attention_heads, {num_heads}, or a head_dim")
    head_dim = config.size("head_dim", max(hidden_size // num_heads, 1))
    if num_heads % num_kv_heads:
        config.wrong("num_attention_heads", f"a multiple of num_key_value_heads, {num_kv_heads}")
    if head_dim % 2:
        config.problems.append(f"config.json: a head has {head_dim} channels; RoPE needs an even number")
    rms_norm_eps, tied = config.positive("rms_norm_eps", 1e-6), config.flag("tie_word_embeddings", False)
    vocab_size, max_positions = config.size("vocab_size"), config.size("max_position_embeddings", 2048)
    rope_theta, rope_scaling = config.rope(max_positions)
    eos_token_ids, bos_token_id = config.eos_token_ids(vocab_size), config.bos_token_id(vocab_size)
    intermediate_size, num_layers = config.size("intermediate_size"), config.size("num_hidden_layers")
    if config.problems:
        return None
    return make_config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rms_norm_eps=rms_norm_eps,
        rope_theta=rope_theta,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        rope_scaling=rope_scaling,
        name=name,
        bos_token_id=bos_token_id,
        eos_token_ids=eos_token_ids,
    )


# ---------------------------------------------------------------------------------------------------------------- GGUF


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """Left-out optional settings take the values that llama.cpp gives them."""
    number, problems = settings.number, settings.problems
    settings.refuse_parts_and_experts()
    hidden_size, num_heads = number("embedding_length", int), number("attention.head_count", int)
    num_kv_heads = number("attention.head_count_kv", int, num_heads)
    head_dim = number("attention.key_length", int, max(hidden_size // num_heads, 1))
    for key in ("attention.value_length", "rope.dimension_count"):
        if number(key, int, head_dim) != head_dim:
            problems.append(f"{settings.architecture}.{key} is {settings.get(key)}; wanted the head size, {head_dim}")
    if num_heads % num_kv_heads:
        count = f"{settings.architecture}.attention.head_count"
        problems.append(f"{count} is {num_heads}; wanted a multiple of the KV heads, {num_kv_heads}")
    if head_dim % 2:
        problems.append(f"a head has {head_dim} channels; RoPE needs an even number")
    vocab_size = settings.vocab_size()
    scaling, scaling_problems = read_gguf_rope(settings.gguf.metadata, settings.architecture)
    problems += scaling_problems
    fields = {
        "intermediate_size": number("feed_forward_length", int),
        "num_layers": number("block_count", int),
        "rms_norm_eps": float(number("attention.layer_norm_rms_epsilon", (int, float))),
        "rope_theta": float(number("rope.freq_base", (int, float), 10_000.0)),
        "max_position_embeddings": number("context_length", int),
    }
    if problems:
        return None
    return make_config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        tie_word_embeddings="output.weight" not in settings.gguf.tensors,
        rope_scaling=scaling,
        name=name,
        bos_token_id=settings.bos_token_id(vocab_size),
        eos_token_ids=eos_token_ids,
        **fields,
    )


def gguf_names(config: ModelConfig) -> GgufNames:
    """llama.cpp rotates neighbouring channels, so its files hold the rows of q and k head by head interleaved."""
    return GgufNames(
        whole={
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": FINAL_NORM,
            "output.weight": "lm_head.weight",
        },
        layer={
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        },
        permuted={"attn_q": config.num_heads, "attn_k": config.num_kv_heads},
    )


# ----------------------------------------------------------------------------------------------------------- the block


def block_vectors(config: ModelConfig) -> dict[str, int]:
    """The two gains."""
    return {"input_layernorm": config.hidden_size, "post_attention_layernorm": config.hidden_size}


def block_order(config: ModelConfig) -> tuple[str, ...]:
    """Attention with its norm, then the MLP with its own."""
    return ("input_layernorm", *_ATTENTION_IN, *_ATTENTION_OUT, "post_attention_layernorm", *_MLP_IN, *_MLP_OUT)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """x + o(attention(rope(q, k), v)), then x + down(silu(gate) * up), each branch behind a norm."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, _ATTENTION_IN, h)
    q, k = run.rope(q, k)
    (x,) = run.linears(layer, _ATTENTION_OUT, run.attend(layer, q, k, v), residual=x)
    h = run.norm(layer, "post_attention_layernorm", x)
    gate, up = run.linears(layer, _MLP_IN, h)
    (x,) = run.linears(layer, _MLP_OUT, run.swiglu(gate, up), residual=x)
    return x
