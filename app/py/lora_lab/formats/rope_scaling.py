"""How both formats say that a model's RoPE is scaled, as Hugging Face's `rope_scaling`: None for plain RoPE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "longrope")
# Positive numbers that each supported kind of RoPE scaling must have.
_ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"),
    "longrope": ("original_max_position_embeddings", "attention_factor"),
}
# What published files call it besides.
_OTHER_NAMES = {"su": "longrope"}
# How llama.cpp stores the two lists of longrope.
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
# D/2 divisors of the RoPE frequencies; how llama.cpp stores Llama 3's scaling.
ROPE_FACTORS = "rope_freqs.weight"


def is_positive(value: Any) -> bool:
    """Say whether a value out of JSON is a number above 0, and one that float32 holds with room to spare."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30


def read_hf_rope(
    config: dict[str, Any], max_positions: int, default_theta: float = 10_000.0
) -> tuple[float, dict[str, Any] | None, list[str]]:
    """Return theta, the scaling (None for plain RoPE) and the problems of a config.json.

    transformers 4 wrote rope_theta and rope_scaling (its kind under `rope_type`, before 4.43 under `type`), 5 writes
    both in rope_parameters. As in transformers, rope_scaling wins where both are there.
    """
    field = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    rope = config.get(field) or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return 1.0, None, [f"config.json: {field} is {rope!r}; wanted one set of parameters for all layers"]
    problems = []
    theta = rope.get("rope_theta", config.get("rope_theta", default_theta))
    if not is_positive(theta):
        problems.append(f"config.json: rope_theta is {theta!r}; wanted a positive number")
    kind = rope.get("rope_type", rope.get("type")) or "default"
    kind = _OTHER_NAMES.get(str(kind), kind)
    if kind not in ROPE_TYPES:
        problems.append(f"config.json: {field} is of the type {kind!r}; wanted one of {', '.join(ROPE_TYPES)}")
        return 1.0, None, problems
    if kind in ("llama3", "yarn", "longrope"):
        outer = config.get("original_max_position_embeddings") or max_positions
        rope = {**rope, "original_max_position_embeddings": rope.get("original_max_position_embeddings") or outer}
    if kind in ("yarn", "longrope"):
        rope |= _magnitude(kind, rope, max_positions)
    for name in _ROPE_FIELDS[kind]:
        if not is_positive(rope.get(name)):
            problems.append(f"config.json: {field}.{name} is {rope.get(name)!r}; wanted a positive number")
    if kind == "llama3" and not problems and rope["high_freq_factor"] <= rope["low_freq_factor"]:
        problems.append(f"config.json: {field}.high_freq_factor must be larger than low_freq_factor")
    kept = [*_ROPE_FIELDS[kind]]
    if kind == "yarn" and isinstance(rope.get("truncate"), bool):
        kept.append("truncate")
    if kind == "longrope":
        kept += ["short_factor", "long_factor"]
        for name in kept[-2:]:
            factors = rope.get(name)
            if not isinstance(factors, list) or not factors or not all(map(is_positive, factors)):
                found = str(factors)[:60]
                problems.append(f"config.json: {field}.{name} is {found}; wanted a list of positive numbers")
    if problems or kind == "default":
        return float(theta) if not problems else 1.0, None, problems
    return float(theta), {"rope_type": kind, **{name: rope[name] for name in kept}}, problems


def _magnitude(kind: str, rope: dict[str, Any], max_positions: int) -> dict[str, Any]:
    """Return what is left out of YaRN's or longrope's parameters, as transformers fills it in.

    Without a factor it is by how much the context has grown. The attention factor is that of the papers, and for YaRN,
    where both mscales are there, DeepSeek's ratio.
    """
    original, factor = rope["original_max_position_embeddings"], rope.get("factor")
    if not is_positive(original) or (factor is not None and not is_positive(factor)):
        return {}  # said to be a problem elsewhere
    factor = max_positions / original if factor is None else factor
    found: dict[str, Any] = {"factor": factor}
    if kind == "yarn":
        found |= {"beta_fast": rope.get("beta_fast") or 32, "beta_slow": rope.get("beta_slow") or 1}
    if rope.get("attention_factor") is None:
        scales = rope.get("mscale"), rope.get("mscale_all_dim")
        if kind == "longrope":
            found["attention_factor"] = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        elif all(map(is_positive, scales)):
            found["attention_factor"] = _yarn_scale(factor, scales[0]) / _yarn_scale(factor, scales[1])
        else:
            found["attention_factor"] = _yarn_scale(factor, 1)
    return found


def _yarn_scale(factor: float, weight: Any) -> float:
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def read_hf_rotary_dim(config: dict[str, Any], head_dim: int) -> tuple[int | None, list[str]]:
    """Return how many of a head's channels turn, None for all, and the problems of a config.json."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    partial = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    partial = config.get("partial_rotary_factor") if partial is None else partial
    if partial in (None, 1):
        return None, []
    size = int(head_dim * partial) if is_positive(partial) and partial < 1 else 0
    if size < 2 or size % 2:
        return None, [f"config.json: partial_rotary_factor is {partial!r}; wanted an even part of {head_dim} channels"]
    return size, []


def read_gguf_rope(metadata: dict[str, Any], prefix: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the linear or YaRN scaling, if any, by llama.cpp's rules: linear unless named otherwise, no factor is 1.

    `prefix` is the architecture's, before the names of its settings. longrope stands in tensors (see LONG_FACTORS).
    """
    kind = metadata.get(f"{prefix}.rope.scaling.type", "linear")
    if not isinstance(kind, str) or kind not in ("none", "linear", "yarn", "longrope"):
        return None, [f"{prefix}.rope.scaling.type is {_shown(kind)}; wanted none, linear, yarn or longrope"]
    # Files of 2023 have the factor under the second name.
    keys = (f"{prefix}.rope.scaling.factor", f"{prefix}.rope.scale_linear")
    key = next((key for key in keys if key in metadata), None)
    if kind in ("none", "longrope") or key is None:
        return None, []
    factor = metadata[key]
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or not math.isfinite(factor) or factor < 0:
        return None, [f"{key} is {_shown(factor)}; wanted a positive number"]
    if factor in (0, 1):
        return None, []
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(factor)}, []
    wanted = {
        "original_max_position_embeddings": ("original_context_length", None),
        "beta_fast": ("yarn_beta_fast", 32.0),
        "beta_slow": ("yarn_beta_slow", 1.0),
        "attention_factor": ("yarn_attn_factor", _yarn_scale(float(factor), 1)),
    }
    found: dict[str, Any] = {"rope_type": "yarn", "factor": float(factor)}
    for name, (of_gguf, default) in wanted.items():
        value = metadata.get(f"{prefix}.rope.scaling.{of_gguf}", default)
        if not is_positive(value):
            return None, [f"{prefix}.rope.scaling.{of_gguf} is {_shown(value)}; wanted a positive number"]
        found[name] = value
    return found, []


def write_gguf_rope(scaling: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings that say a linear, YaRN or longrope scaling in GGUF, without the architecture's prefix.

    Llama 3's stands in a tensor (`llama3_factors`), longrope's lists in two.
    """
    kind = (scaling or {}).get("rope_type")
    if scaling is None or kind == "llama3":
        return {}
    said = {"rope.scaling.type": kind}
    if kind == "linear":
        return {**said, "rope.scaling.factor": float(scaling["factor"])}
    said["rope.scaling.original_context_length"] = int(scaling["original_max_position_embeddings"])
    if kind == "longrope":
        return {**said, "rope.scaling.attn_factor": float(scaling["attention_factor"])}
    return {
        **said,
        "rope.scaling.factor": float(scaling["factor"]),
        "rope.scaling.yarn_beta_fast": float(scaling["beta_fast"]),
        "rope.scaling.yarn_beta_slow": float(scaling["beta_slow"]),
        "rope.scaling.yarn_attn_factor": float(scaling["attention_factor"]),
    }


def _shown(value: Any) -> str:
    return "an array" if isinstance(value, list | np.ndarray) else repr(value)


def scaling_from_factors(factors: np.ndarray, rope_theta: float, head_dim: int) -> dict[str, Any] | None:
    """Return the llama3 scaling that gives these divisors of the D/2 frequencies, or None if none does.

    llama.cpp stores only the result of Llama 3's formula. Its largest value is the factor; the other parameters are the
    same in every published model but for the original context length, so they are tried.
    """
    if factors.shape != (head_dim // 2,) or not np.isfinite(factors).all():
        return None
    for original_length in (8192, 4096, 2048, 16384, 32768):
        scaling = {
            "rope_type": "llama3",
            "factor": float(factors.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": original_length,
        }
        if np.allclose(llama3_factors(scaling, rope_theta, head_dim), factors, rtol=1e-5):
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
