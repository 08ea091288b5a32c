"""How both formats say that a model's RoPE is scaled, as Hugging Face's `rope_scaling`: None for plain RoPE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ROPE_TYPES = ("default", "linear", "llama3")
# Positive numbers that each supported kind of RoPE scaling must have.
_ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
# D/2 divisors of the RoPE frequencies; how llama.cpp stores Llama 3's scaling.
ROPE_FACTORS = "rope_freqs.weight"


def is_positive(value: Any) -> bool:
    """Say whether a value out of JSON is a number above 0, and one that float32 holds with room to spare."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30


def read_hf_rope(config: dict[str, Any], max_positions: int) -> tuple[float, dict[str, Any] | None, list[str]]:
    """Return theta, the scaling (None for plain RoPE) and the problems of a config.json.

    transformers 4 wrote rope_theta and rope_scaling (its kind under `rope_type`, before 4.43 under `type`), 5 writes
    both in rope_parameters. As in transformers, rope_scaling wins where both are there.
    """
    field = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    rope = config.get(field) or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return 1.0, None, [f"config.json: {field} is {rope!r}; wanted one set of parameters for all layers"]
    problems = []
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    if not is_positive(theta):
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
        if not is_positive(rope.get(name)):
            problems.append(f"config.json: {field}.{name} is {rope.get(name)!r}; wanted a positive number")
    if kind == "llama3" and not problems and rope["high_freq_factor"] <= rope["low_freq_factor"]:
        problems.append(f"config.json: {field}.high_freq_factor must be larger than low_freq_factor")
    if problems or kind == "default":
        return float(theta) if not problems else 1.0, None, problems
    return float(theta), {"rope_type": kind, **{name: rope[name] for name in _ROPE_FIELDS[kind]}}, problems


def read_gguf_rope(metadata: dict[str, Any], prefix: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the linear scaling, if any, by llama.cpp's rules: linear unless named otherwise, 0 or no factor is 1.

    `prefix` is the architecture's, before the names of its settings.
    """
    kind = metadata.get(f"{prefix}.rope.scaling.type", "linear")
    if not isinstance(kind, str) or kind not in ("none", "linear"):
        return None, [f"{prefix}.rope.scaling.type is {_shown(kind)}; wanted none or linear"]
    # Files of 2023 have the factor under the second name.
    keys = (f"{prefix}.rope.scaling.factor", f"{prefix}.rope.scale_linear")
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
