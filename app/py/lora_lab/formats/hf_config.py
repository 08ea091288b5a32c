"""Hugging Face's config.json and its neighbours, as transformers 4 and 5 write them, for the Llama architecture."""

from __future__ import annotations

import json
from typing import Any

from ..config import ModelConfig

ROPE_TYPES = ("default", "linear", "llama3")
# Positive numbers that each supported kind of RoPE scaling must have.
_ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def read_model_config(
    config: dict[str, Any], generation_config: dict[str, Any], name: str
) -> tuple[ModelConfig | None, list[str]]:
    """Turn config.json into our settings: (None, problems) when there are problems, all of them named.

    Left-out optional fields take the values that transformers' LlamaConfig gives them. The tokens that end a text
    are those of generation_config.json, then those of config.json.
    """
    problems = _architecture_problems(config)

    def wrong(field: str, wanted: str) -> None:
        problems.append(f"config.json: {field} is {config.get(field)!r}; wanted {wanted}")

    def size(field: str, default: int | None = None) -> int:
        value = config.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            wrong(field, "a whole number of at least 1")
            return 1
        return value

    hidden_size, num_heads = size("hidden_size"), size("num_attention_heads")
    num_kv_heads = size("num_key_value_heads", num_heads)
    if config.get("head_dim") is None and hidden_size % num_heads:
        wrong("hidden_size", f"a multiple of num_attention_heads, {num_heads}, or a head_dim")
    head_dim = size("head_dim", max(hidden_size // num_heads, 1))
    if num_heads % num_kv_heads:
        wrong("num_attention_heads", f"a multiple of num_key_value_heads, {num_kv_heads}")
    if head_dim % 2:
        problems.append(f"config.json: a head has {head_dim} channels; RoPE needs an even number")
    rms_norm_eps = config.get("rms_norm_eps", 1e-6)
    if not _is_positive(rms_norm_eps):
        wrong("rms_norm_eps", "a positive number")
    tied = config.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        wrong("tie_word_embeddings", "true or false")
    vocab_size, max_positions = size("vocab_size"), size("max_position_embeddings", 2048)
    rope_theta, rope_scaling, rope_problems = _read_rope(config, max_positions)
    problems += rope_problems
    eos_token_ids = tuple(
        dict.fromkeys(
            _token_ids(generation_config, "eos_token_id", "generation_config.json", vocab_size, problems)
            + _token_ids(config, "eos_token_id", "config.json", vocab_size, problems)
        )
    )
    bos_token_ids = _token_ids(config, "bos_token_id", "config.json", vocab_size, problems)
    intermediate_size, num_layers = size("intermediate_size"), size("num_hidden_layers")
    if problems:
        return None, problems
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rms_norm_eps=float(rms_norm_eps),
        rope_theta=rope_theta,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        rope_scaling=rope_scaling,
        architecture="llama",
        name=name,
        bos_token_id=bos_token_ids[0] if bos_token_ids else None,
        eos_token_ids=eos_token_ids,
    ), []


def _architecture_problems(config: dict[str, Any]) -> list[str]:
    problems = []
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if model_type != "llama":
        problems.append(f"config.json: model_type is {model_type!r}; wanted 'llama', the only architecture so far")
    elif architectures and architectures != ["LlamaForCausalLM"]:
        problems.append(f"config.json: architectures is {architectures!r}; wanted ['LlamaForCausalLM']")
    for field in ("attention_bias", "mlp_bias"):
        if config.get(field):
            problems.append(f"config.json: {field} is {config[field]!r}; linear layers with a bias are not supported")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        problems.append(f"config.json: hidden_act is {config['hidden_act']!r}; wanted 'silu'")
    if config.get("quantization_config"):
        quantization = config["quantization_config"]
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        problems.append(
            f"config.json: quantization_config is of the method {method!r}, which is not supported; "
            "wanted F32, F16 or BF16 weights, or a GGUF file"
        )
    return problems


def _read_rope(config: dict[str, Any], max_positions: int) -> tuple[float, dict[str, Any] | None, list[str]]:
    """Return theta, the scaling (None for plain RoPE) and the problems.

    transformers 4 wrote rope_theta and rope_scaling (its kind under `rope_type`, before 4.43 under `type`), 5 writes
    both in rope_parameters. As in transformers, rope_scaling wins where both are there.
    """
    field = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    rope = config.get(field) or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return 1.0, None, [f"config.json: {field} is {rope!r}; wanted one set of parameters for all layers"]
    problems = []
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    if not _is_positive(theta):
        problems.append(f"config.json: rope_theta is {theta!r}; wanted a positive number")
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if partial not in (None, 1):
        problems.append(f"config.json: partial_rotary_factor is {partial!r}; only 1 is supported")
    kind = rope.get("rope_type", rope.get("type")) or "default"
    if kind not in ROPE_TYPES:
        problems.append(f"config.json: {field} is of the type {kind!r}; wanted one of {', '.join(ROPE_TYPES)}")
        return 1.0, None, problems
    if kind == "llama3":
        rope = {"original_max_position_embeddings": max_positions, **rope}
    for name in _ROPE_FIELDS[kind]:
        if not _is_positive(rope.get(name)):
            problems.append(f"config.json: {field}.{name} is {rope.get(name)!r}; wanted a positive number")
    if kind == "llama3" and not problems and rope["high_freq_factor"] <= rope["low_freq_factor"]:
        problems.append(f"config.json: {field}.high_freq_factor must be larger than low_freq_factor")
    if problems or kind == "default":
        return float(theta) if not problems else 1.0, None, problems
    return float(theta), {"rope_type": kind, **{name: rope[name] for name in _ROPE_FIELDS[kind]}}, problems


def _token_ids(config: dict[str, Any], field: str, file: str, vocab_size: int, problems: list[str]) -> list[int]:
    """Return a field that may be a token id, a list of them, or nothing."""
    value = config.get(field)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < vocab_size for i in ids):
        problems.append(f"{file}: {field} is {value!r}; wanted token ids from 0 to {vocab_size - 1}")
        return []
    return ids


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30


def special_tokens(tokenizer_config: dict[str, Any], special_tokens_map: dict[str, Any]) -> dict[str, str]:
    """Return bos_token, eos_token, unk_token and pad_token as strings, those that are there."""
    found = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = tokenizer_config.get(name)
        value = special_tokens_map.get(name) if value is None else value
        if isinstance(value, dict):  # an AddedToken with its flags
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def chat_template(tokenizer_config: dict[str, Any], template_file: str | None) -> tuple[str | None, list[str]]:
    """Return the template of chat_template.jinja if there is one, else of tokenizer_config.json, and the problems.

    The latter may be a string or a list of named templates, of which "default" (or the only one) is taken.
    """
    if template_file is not None:
        return template_file, []
    value = tokenizer_config.get("chat_template")
    if value is None or isinstance(value, str):
        return value, []
    by_name = {}
    if isinstance(value, list):
        by_name = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
    template = by_name.get("default") if len(by_name) != 1 else next(iter(by_name.values()))
    if not isinstance(template, str):
        names = ", ".join(by_name) or json.dumps(value)[:80]
        return None, [f"tokenizer_config.json: chat_template has {names}; wanted a template named default"]
    return template, []
