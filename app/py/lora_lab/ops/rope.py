"""Rotary position embedding (Su et al. 2021), in Hugging Face's half-split row order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..errors import ModelError
from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape

PAIRS = 256  # of channels, a workgroup, as in rope.wgsl


def rope_table(size: int, theta: float, scaling: dict[str, Any] | None, length: int) -> np.ndarray:
    """Return (length, size / 2, 2) float32 of (cos, sin) for `size` channels that turn, computed in float64.

    `scaling` is Hugging Face's: None, "default", "linear", "llama3", "yarn" or "longrope", as in transformers'
    modeling_rope_utils. The last two also say by what cosines and sines are multiplied. longrope has two lists of
    factors: a table of more than the original context's length is made with the one for long texts. Raises ModelError
    for another type.
    """
    frequencies = theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    scaling = scaling or {}
    kind, magnitude = scaling.get("rope_type") or scaling.get("type") or "default", 1.0
    if kind == "linear":
        frequencies = frequencies / float(scaling["factor"])
    elif kind == "llama3":
        frequencies = _llama3(frequencies, scaling)
    elif kind == "yarn":
        frequencies = _yarn(frequencies, theta, scaling)
        magnitude = float(scaling["attention_factor"])
    elif kind == "longrope":
        is_long = length > scaling["original_max_position_embeddings"]
        frequencies = frequencies / np.asarray(scaling["long_factor" if is_long else "short_factor"], np.float64)
        magnitude = float(scaling["attention_factor"])
    elif kind != "default":
        known = "default, linear, llama3, yarn and longrope"
        raise ModelError(f"rope_scaling has the type {kind!r}; supported are {known}")
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies[None, :]
    return (magnitude * np.stack([np.cos(angles), np.sin(angles)], axis=-1)).astype(np.float32)


def _yarn(frequencies: np.ndarray, theta: float, scaling: dict[str, Any]) -> np.ndarray:
    """YaRN (Peng et al. 2023): channels that turn often in the old context are kept, those that turn seldom slowed by
    the factor, and those between blended along a line over the channels.
    """
    size, length = 2 * len(frequencies), scaling["original_max_position_embeddings"]

    def channel(turns: float) -> float:
        """Return the channel whose wave turns so often within the old context."""
        return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = channel(scaling["beta_fast"]), channel(scaling["beta_slow"])
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    slowed = np.clip((np.arange(len(frequencies)) - first) / (last - first or 0.001), 0, 1)
    return frequencies * (1 - slowed) + frequencies / float(scaling["factor"]) * slowed


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


def rope(tape: Tape, parts: Sequence[tuple[Tensor, int]], positions: Tensor, table: Tensor) -> list[Tensor]:
    """Turn each (x, heads) of `parts`, x (rows, heads * D), in place by the angles of positions (rows); return them.

    Two that lie in one tensor, q and k of a joined product, take one dispatch.
    """
    _rotate(tape, parts, positions, table, 1.0)
    turned = []
    for x, _ in parts:
        y = Tensor(x.shape, x.storage, x.offset, f"{x.label}.rope", x.requires_grad)
        tape.same_place(y, x)
        turned.append(y)
    waiting: list[tuple[Tensor, Tensor, int]] = []

    def backward(dy: Tensor, x: Tensor, heads: int) -> None:
        # The last of them to get its gradient turns all back in place: they become the xs' gradients.
        waiting.append((dy, x, heads))
        if len(waiting) == sum(part.requires_grad for part, _ in parts):
            waiting.sort(key=lambda item: item[0].offset)
            _rotate(tape, [(gradient, of) for gradient, _, of in waiting], positions, table, -1.0)
            for gradient, of, _ in waiting:
                tape.give_grad(of, gradient)

    for y, (x, heads) in zip(turned, parts, strict=True):
        tape.on_backward(y, partial(backward, x=x, heads=heads))
    return turned


def _rotate(tape: Tape, parts: Sequence[tuple[Tensor, int]], positions: Tensor, table: Tensor, sign: float) -> None:
    (x, heads), (last, last_heads) = parts[0], parts[-1]
    if len(parts) > 1 and x.storage is not last.storage:
        for part in parts:
            _rotate(tape, [part], positions, table, sign)
        return
    second = len(parts) > 1
    end = last.offset + last.size_bytes
    whole = Tensor(((end - x.offset) // 4,), x.storage, x.offset, x.label)
    params = {
        "rows": x.rows, "heads": heads, "head_dim": x.shape[-1] // heads, "half": table.shape[-2], "sign": sign,
        "second_base": (last.offset - x.offset) // 4, "second_heads": last_heads if second else 0,
    }  # fmt: skip
    size = sum(2 * table.shape[-2] * part.rows * count for part, count in parts)
    tensors = {"x": whole, "positions": positions, "table": table}
    tape.dispatch(kernel("rope", "rotate"), tensors, params, grid_1d(ceil_div(size // 2, PAIRS)), 3.0 * size)
