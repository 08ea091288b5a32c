"""Rotary position embedding (Su et al. 2021), in Hugging Face's half-split row order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ModelError
from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape


def rope_table(head_dim: int, theta: float, scaling: dict[str, Any] | None, length: int) -> np.ndarray:
    """Return (length, D / 2, 2) float32 of (cos, sin), computed in float64.

    `scaling` is Hugging Face's: None, "default", "linear" or "llama3" (as in transformers' modeling_rope_utils).
    Raises ModelError for another type.
    """
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    kind = (scaling or {}).get("rope_type") or (scaling or {}).get("type") or "default"
    if kind == "linear":
        frequencies = frequencies / float(scaling["factor"])  # type: ignore[index]
    elif kind == "llama3":
        frequencies = _llama3(frequencies, scaling or {})
    elif kind != "default":
        raise ModelError(f"rope_scaling has the type {kind!r}; supported are default, linear and llama3")
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies[None, :]
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def _llama3(frequencies: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """Llama 3.1's rule: long wavelengths are slowed by `factor`, short ones kept, those between blended."""
    factor, old_length = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    wavelengths = 2 * math.pi / frequencies
    smooth = (old_length / wavelengths - low) / (high - low)
    blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = np.where(wavelengths > old_length / low, frequencies / factor, frequencies)
    between = (wavelengths <= old_length / low) & (wavelengths >= old_length / high)
    return np.where(between, blended, scaled)


def rope(tape: Tape, x: Tensor, positions: Tensor, table: Tensor, heads: int) -> Tensor:
    """Turn x (rows, heads * D) in place by the angles of its positions (rows) and return it."""
    _rotate(tape, x, positions, table, heads, 1.0)
    y = Tensor(x.shape, x.storage, x.offset, f"{x.label}.rope", x.requires_grad)
    tape.same_place(y, x)
    tape.on_backward(y, lambda dy: rope_backward(tape, dy, x, positions, table, heads))
    return y


def rope_backward(tape: Tape, dy: Tensor, x: Tensor, positions: Tensor, table: Tensor, heads: int) -> None:
    """Turn dy back in place: it becomes x's gradient."""
    _rotate(tape, dy, positions, table, heads, -1.0)
    tape.give_grad(x, dy)


def _rotate(tape: Tape, x: Tensor, positions: Tensor, table: Tensor, heads: int, sign: float) -> None:
    params = {"rows": x.rows, "heads": heads, "half": x.shape[-1] // heads // 2, "sign": sign}
    tensors = {"x": x, "positions": positions, "table": table}
    tape.dispatch(kernel("rope", "rotate"), tensors, params, grid_1d(ceil_div(x.size // 2, 64)), 3.0 * x.size)
