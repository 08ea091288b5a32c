"""A Llama-architecture GGUF file's metadata and tensor names in Hugging Face's terms."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import ModelConfig
from .gguf import GgufFile
from .tensors import StoredTensor

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# One way to write each number, and none of thousands of digits.
_LAYER_TENSOR = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.(\w+)\.weight")
# D/2 divisors of the RoPE frequencies; how llama.cpp stores Llama 3's scaling.
ROPE_FACTORS = "rope_freqs.weight"


def read_gguf_config(gguf: GgufFile, eos_token_ids: tuple[int, ...], name: str) -> tuple[ModelConfig | None, list[str]]:
    """Turn the metadata into our settings: (None, problems) when there are problems, all of them named."""
    metadata = gguf.scalars
    architecture = metadata.get("general.architecture")
    if metadata.get("general.type") == "adapter":
        return None, ["this is a LoRA adapter in GGUF form; wanted a model"]
    if architecture != "llama":
        return None, [f"general.architecture is {architecture!r}; wanted 'llama', the only architecture so far"]
    problems = []
    if metadata.get("split.count", 1) not in (0, 1):
        problems.append(f"this is one of {metadata['split.count']} parts of a split model; wanted one file")
    if metadata.get("llama.expert_count"):
        problems.append(
            f"llama.expert_count is {metadata['llama.expert_count']}; mixtures of experts are not supported"
        )

    def number(key: str, kinds: Any, default: Any = None) -> Any:
        value: Any = metadata.get(f"llama.{key}", default)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value <= 0:
            found = "an array" if value is None and f"llama.{key}" in gguf.metadata else repr(value)
            problems.append(f"llama.{key} is {found}; wanted a positive number")
            return 1
        return value

    hidden_size, num_heads = number("embedding_length", int), number("attention.head_count", int)
    num_kv_heads = number("attention.head_count_kv", int, num_heads)
    head_dim = number("attention.key_length", int, max(hidden_size // num_heads, 1))
    for key in ("attention.value_length", "rope.dimension_count"):
        if number(key, int, head_dim) != head_dim:
            problems.append(f"llama.{key} is {metadata[f'llama.{key}']}; wanted the head size, {head_dim}")
    if num_heads % num_kv_heads:
        problems.append(f"llama.attention.head_count is {num_heads}; wanted a multiple of the KV heads, {num_kv_heads}")
    if head_dim % 2:
        problems.append(f"a head has {head_dim} channels; RoPE needs an even number")
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None:
        problems.append("the tensor token_embd.weight is missing")
    vocab_size = embedding.shape[0] if embedding else 0
    scaling, scaling_problems = _read_rope_scaling(gguf.metadata)
    problems += scaling_problems
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    fields = {
        "intermediate_size": number("feed_forward_length", int),
        "num_layers": number("block_count", int),
        "rms_norm_eps": float(number("attention.layer_norm_rms_epsilon", (int, float))),
        "rope_theta": float(number("rope.freq_base", (int, float), 10_000.0)),
        "max_position_embeddings": number("context_length", int),
    }
    if problems:
        return None, problems
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        tie_word_embeddings="output.weight" not in gguf.tensors,
        rope_scaling=scaling,
        architecture="llama",
        name=name,
        bos_token_id=bos if isinstance(bos, int) and 0 <= bos < vocab_size else None,
        eos_token_ids=eos_token_ids,
        **fields,
    ), []


def _read_rope_scaling(metadata: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the linear scaling, if any, by llama.cpp's rules: linear unless named otherwise, 0 or no factor is 1."""
    kind = metadata.get("llama.rope.scaling.type", "linear")
    if not isinstance(kind, str) or kind not in ("none", "linear"):
        return None, [f"llama.rope.scaling.type is {_shown(kind)}; wanted none or linear"]
    # Files of 2023 have the factor under the second name.
    keys = ("llama.rope.scaling.factor", "llama.rope.scale_linear")
    key = next((key for key in keys if key in metadata), None)
    if kind == "none" or key is None:
        return None, []
    factor = metadata[key]
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or not math.isfinite(factor) or factor < 0:
        return None, [f"{key} is {_shown(factor)}; wanted a positive number"]
    return ({"rope_type": "linear", "factor": float(factor)} if factor not in (0, 1) else None), []


def _shown(value: Any) -> str:
    return "an array" if isinstance(value, list | np.ndarray) else repr(value)


def rename_tensors(gguf: GgufFile, config: ModelConfig) -> tuple[dict[str, StoredTensor], list[str]]:
    """Return the tensors under Hugging Face's names, in the file's order, and every name that two of them would have.

    Names that no Llama has stay as they are. q and k are marked with the number of heads by which their rows are
    permuted.
    """
    renamed: dict[str, StoredTensor] = {}
    old_names: dict[str, str] = {}
    problems = []
    for name, tensor in gguf.tensors.items():
        if name == ROPE_FACTORS:
            continue
        new_name, permutation = _GLOBAL_NAMES.get(name, name), None
        match = _LAYER_TENSOR.fullmatch(name)
        if match and match[2] in _LAYER_NAMES:
            new_name = f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"
            permutation = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}.get(match[2])
        if new_name in renamed:
            problems.append(f"{old_names[new_name]} and {name} are both {new_name}; wanted one of them")
            continue
        old_names[new_name] = name
        renamed[new_name] = replace(tensor, name=new_name, head_permutation=permutation)
    return renamed, problems


def scaling_from_factors(factors: np.ndarray, config: ModelConfig) -> dict[str, Any] | None:
    """Return the llama3 scaling that gives these divisors of the D/2 frequencies, or None if none does.

    llama.cpp stores only the result of Llama 3's formula. Its largest value is the factor; the other parameters are the
    same in every published model but for the original context length, so they are tried.
    """
    if factors.shape != (config.head_dim // 2,) or not np.isfinite(factors).all():
        return None
    for original_length in (8192, 4096, 2048, 16384, 32768):
        scaling = {
            "rope_type": "llama3",
            "factor": float(factors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": original_length,
        }
        if np.allclose(llama3_factors(scaling, config.rope_theta, config.head_dim), factors, rtol=1e-5):
            return scaling
    return None


def llama3_factors(scaling: dict[str, Any], rope_theta: float, head_dim: int) -> np.ndarray:
    """Return by what Llama 3's scaling divides each of the D/2 RoPE frequencies, float64.

    Waves shorter than length / high stay as they are, waves longer than length / low are stretched by the factor, and
    between them the inverse of the divisor goes linearly from one to the other.
    """
    wave_lengths = 2 * np.pi * rope_theta ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / wave_lengths
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)
