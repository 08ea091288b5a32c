"""Encoders of the weight forms: float32 rows -> a file's bytes. The inverse of `dequantize`, as near as a form allows.

The plain forms and the blocks of 32 with one scale are rounded by the rule that ggml has for them, to the bit. For the
others, whose scales may be chosen, some are tried and the one with the smallest squared error is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .quants import IQ4_VALUES
from .tensors import BLOCK_SIZES, row_size_bytes

Array = np.ndarray
# By how much the farthest value of a block is stretched before its values are rounded, and by how many levels a range
# is taken to be larger; the best of them is kept.
_STRETCHES = (1.0, 0.95, 1.05, 0.9, 1.1, 0.85, 0.8)
_MORE_LEVELS = (0.0, -0.15, 0.15, -0.3, 0.3, -0.45, 0.45, -0.6, 0.6, -0.8, 0.8, -1.0)
_TINY = np.float32(1e-30)


def quantize(form: str, rows: Array) -> Array:
    """Return float32 rows (N, C) as a file has them in `form`, uint8 (N, bytes of a row).

    FileFormatError when the form cannot hold such rows.
    """
    size_bytes = row_size_bytes(form, rows.shape[1])
    rows = np.ascontiguousarray(rows, np.float32)
    if form == "f32":
        return rows.astype("<f4").view(np.uint8).reshape(len(rows), size_bytes)
    if form == "f16":
        with np.errstate(over="ignore"):  # whoever asks for f16 gets infinity where it does not reach
            return rows.astype("<f2").view(np.uint8).reshape(len(rows), size_bytes)
    if form == "bf16":
        return _bf16(rows).view(np.uint8).reshape(len(rows), size_bytes)
    blocks = rows.reshape(-1, BLOCK_SIZES[form][0])
    return ENCODERS[form](blocks).reshape(len(rows), size_bytes)


def _bf16(rows: Array) -> Array:
    """Round to the nearest, of two equally near ones to the even."""
    bits = rows.view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))) >> 16).astype("<u2")
    is_nan = np.isnan(rows)
    if is_nan.any():  # rounding would make infinity of some
        rounded[is_nan] = (bits[is_nan] >> 16 | 0x40).astype("<u2")
    return rounded


# ---------------------------------------------------------------------------------------------------- bytes


def pack_fields(values: Array, width: int, run: int) -> Array:
    """The inverse of `quants.fields`: (blocks, numbers) -> (blocks, bytes)."""
    parts = values.astype(np.uint8).reshape(len(values), -1, 8 // width, run)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(parts << shifts, axis=2).reshape(len(values), -1)


def pack_k_scales(scales: Array, minima: Array) -> Array:
    """The inverse of `quants.k_scales`: twice (blocks, 8) -> (blocks, 12)."""
    s, m = scales.astype(np.uint8), minima.astype(np.uint8)
    first = s[:, :4] | (s[:, 4:] >> 4) << 6
    second = m[:, :4] | (m[:, 4:] >> 4) << 6
    third = (s[:, 4:] & 0x0F) | (m[:, 4:] & 0x0F) << 4
    return np.concatenate([first, second, third], axis=1)


def _f16_bytes(values: Array) -> Array:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _rounded_f16(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def _nearest(values: Array) -> Array:
    return np.floor(values + np.float32(0.5))


def _inverse(values: Array) -> Array:
    return np.where(np.abs(values) > _TINY, 1 / np.where(values == 0, 1, values), 0).astype(np.float32)


# ---------------------------------------------------------------------------------------------------- blocks of 32


def _q8_0(blocks: Array) -> Array:
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(d)
    quants = np.copysign(_nearest(np.abs(scaled)), scaled).astype(np.int8)
    return np.concatenate([_f16_bytes(d), quants.view(np.uint8)], axis=1)


def _largest(blocks: Array) -> Array:
    """The value of each block that is farthest from zero, with its sign."""
    return np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)


def _signed(blocks: Array, half: int) -> tuple[Array, Array]:
    d = _largest(blocks) / np.float32(-half)
    quants = (blocks * _inverse(d) + np.float32(half + 0.5)).astype(np.int8)
    return d, np.minimum(quants, 2 * half - 1).astype(np.uint8)


def _ranged(blocks: Array, top: int) -> tuple[Array, Array, Array]:
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    d = (high - low) / np.float32(top)
    quants = ((blocks - low) * _inverse(d) + np.float32(0.5)).astype(np.uint8)
    return d, low, np.minimum(quants, top)


def _fifth_bits(quants: Array) -> Array:
    return np.packbits(quants >> 4, axis=1, bitorder="little")


def _q4_0(blocks: Array) -> Array:
    d, quants = _signed(blocks, 8)
    return np.concatenate([_f16_bytes(d), pack_fields(quants, 4, 16)], axis=1)


def _q4_1(blocks: Array) -> Array:
    d, low, quants = _ranged(blocks, 15)
    return np.concatenate([_f16_bytes(d), _f16_bytes(low), pack_fields(quants, 4, 16)], axis=1)


def _q5_0(blocks: Array) -> Array:
    d, quants = _signed(blocks, 16)
    return np.concatenate([_f16_bytes(d), _fifth_bits(quants), pack_fields(quants & 15, 4, 16)], axis=1)


def _q5_1(blocks: Array) -> Array:
    d, low, quants = _ranged(blocks, 31)
    parts = [_f16_bytes(d), _f16_bytes(low), _fifth_bits(quants), pack_fields(quants & 15, 4, 16)]
    return np.concatenate(parts, axis=1)


# ---------------------------------------------------------------------------------------------------- chosen scales


def _squared(x: Array, values: Array) -> Array:
    difference = x - values
    return np.einsum("...i,...i->...", difference, difference)[..., None]


def _fit_signed(x: Array, levels: Callable[[Array], Array], reach: float) -> Array:
    """Return for each part (..., n) the scale (..., 1) whose levels lie nearest; `levels` rounds x / scale to them.

    `reach`: the level that the value farthest from zero gets before the range is stretched.
    """
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], axis=-1)
    best = np.zeros_like(largest)
    best_error = _squared(x, best)
    for stretch in _STRETCHES:
        q = levels(x * _inverse(largest / np.float32(reach * stretch)))
        weight = np.einsum("...i,...i->...", q, q)[..., None]
        scale = np.einsum("...i,...i->...", x, q)[..., None] * _inverse(weight)
        error = _squared(x, scale * q)
        better = error < best_error
        best, best_error = np.where(better, scale, best), np.where(better, error, best_error)
    return best.astype(np.float32)


def _fit_ranged(x: Array, top: int) -> tuple[Array, Array]:
    """Return for each part (..., n) the scale and the minimum, both at least 0, of the nearest scale * q - minimum."""
    low, high = np.minimum(x.min(axis=-1, keepdims=True), 0), x.max(axis=-1, keepdims=True)
    count, sum_x = np.float32(x.shape[-1]), x.sum(axis=-1, keepdims=True)
    best_scale, best_minimum = np.zeros_like(low), -low
    best_error = _squared(x, low)
    for more in _MORE_LEVELS:
        first = (high - low) / np.float32(top + more)
        q = np.clip(_nearest((x - low) * _inverse(first)), 0, top)
        sum_q = q.sum(axis=-1, keepdims=True)
        sum_qq = np.einsum("...i,...i->...", q, q)[..., None]
        sum_xq = np.einsum("...i,...i->...", x, q)[..., None]
        scale = (count * sum_xq - sum_x * sum_q) * _inverse(count * sum_qq - sum_q * sum_q)
        minimum = (scale * sum_q - sum_x) / count
        without = sum_xq * _inverse(sum_qq)  # where the best line would have a minimum below 0
        scale, minimum = np.where(minimum < 0, without, scale), np.maximum(minimum, 0)
        error = np.where(scale < 0, np.inf, _squared(x, scale * q - minimum))
        better = error < best_error
        best_scale, best_minimum = np.where(better, scale, best_scale), np.where(better, minimum, best_minimum)
        best_error = np.where(better, error, best_error)
    return best_scale.astype(np.float32), best_minimum.astype(np.float32)


def _ranged_parts(blocks: Array, parts: int, top: int, most: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return d, dmin (blocks, 1), scales, minima (blocks, parts) up to `most`, and quants (blocks, elements)."""
    x = blocks.reshape(len(blocks), parts, -1)
    scale, minimum = (found[..., 0] for found in _fit_ranged(x, top))
    d, dmin = (_rounded_f16(found.max(axis=1, keepdims=True) / np.float32(most)) for found in (scale, minimum))
    scales = np.clip(_nearest(scale * _inverse(d)), 0, most)
    step, inverse = (d * scales)[..., None], _inverse(d * scales)[..., None]
    # The minimum that suits the scale as it has been rounded.
    quants = np.clip(_nearest((x + minimum[..., None]) * inverse), 0, top)
    minima = np.clip(_nearest((step * quants - x).mean(axis=-1) * _inverse(dmin)), 0, most)
    quants = np.clip(_nearest((x + (dmin * minima)[..., None]) * inverse), 0, top)
    return d, dmin, scales, minima, quants.reshape(blocks.shape).astype(np.uint8)


def _signed_parts(
    blocks: Array, parts: int, levels: Callable[[Array], Array], reach: float, most: int
) -> tuple[Array, Array, Array]:
    """Return d (blocks, 1), scales (blocks, parts) from -most to most - 1, and levels (blocks, elements)."""
    x = blocks.reshape(len(blocks), parts, -1)
    scale = _fit_signed(x, levels, reach)[..., 0]
    d = _rounded_f16(_largest(scale) / np.float32(-most))
    scales = np.clip(_nearest(scale * _inverse(d)), -most, most - 1)
    return d, scales, levels(x * _inverse(d * scales)[..., None]).reshape(blocks.shape)


def _whole(low: int, high: int) -> Callable[[Array], Array]:
    return lambda scaled: np.clip(_nearest(scaled), low, high)


_IQ4 = np.array(IQ4_VALUES, np.float32)
_IQ4_EDGES = (_IQ4[1:] + _IQ4[:-1]) / 2


def _iq4(scaled: Array) -> Array:
    return _IQ4[np.searchsorted(_IQ4_EDGES, scaled)]


def _iq4_numbers(levels: Array) -> Array:
    return np.searchsorted(_IQ4, levels).astype(np.uint8)


def _iq4_nl(blocks: Array) -> Array:
    d = _rounded_f16(_fit_signed(blocks, _iq4, -127))
    numbers = _iq4_numbers(_iq4(blocks * _inverse(d)))
    return np.concatenate([_f16_bytes(d), pack_fields(numbers, 4, 16)], axis=1)


def _q2_k(blocks: Array) -> Array:
    d, dmin, scales, minima, quants = _ranged_parts(blocks, 16, 3, 15)
    packed = scales.astype(np.uint8) | minima.astype(np.uint8) << 4
    return np.concatenate([packed, pack_fields(quants, 2, 32), _f16_bytes(d), _f16_bytes(dmin)], axis=1)


def _q3_k(blocks: Array) -> Array:
    d, scales, levels = _signed_parts(blocks, 16, _whole(-4, 3), -4, 32)
    quants, six = (levels + 4).astype(np.uint8), (scales + 32).astype(np.uint8)
    packed = np.concatenate([pack_fields(six & 15, 4, 8), pack_fields(six >> 4, 2, 4)], axis=1)
    parts = [pack_fields(quants >> 2, 1, 32), pack_fields(quants & 3, 2, 32), packed, _f16_bytes(d)]
    return np.concatenate(parts, axis=1)


def _q4_k(blocks: Array) -> Array:
    d, dmin, scales, minima, quants = _ranged_parts(blocks, 8, 15, 63)
    parts = [_f16_bytes(d), _f16_bytes(dmin), pack_k_scales(scales, minima), pack_fields(quants, 4, 32)]
    return np.concatenate(parts, axis=1)


def _q5_k(blocks: Array) -> Array:
    d, dmin, scales, minima, quants = _ranged_parts(blocks, 8, 31, 63)
    bits = [pack_fields(quants >> 4, 1, 32), pack_fields(quants & 15, 4, 32)]
    return np.concatenate([_f16_bytes(d), _f16_bytes(dmin), pack_k_scales(scales, minima), *bits], axis=1)


def _q6_k(blocks: Array) -> Array:
    d, scales, levels = _signed_parts(blocks, 16, _whole(-32, 31), -32, 128)
    quants = (levels + 32).astype(np.uint8)
    bits = [pack_fields(quants & 15, 4, 64), pack_fields(quants >> 4, 2, 32)]
    return np.concatenate([*bits, scales.astype(np.int8).view(np.uint8), _f16_bytes(d)], axis=1)


def _iq4_xs(blocks: Array) -> Array:
    d, scales, levels = _signed_parts(blocks, 8, _iq4, -127, 32)
    six = (scales + 32).astype(np.uint8)
    shifted = (six >> 4).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16)
    high = np.bitwise_or.reduce(shifted, axis=1).astype("<u2").reshape(-1, 1).view(np.uint8)
    return np.concatenate(
        [_f16_bytes(d), high, pack_fields(six & 15, 4, 1), pack_fields(_iq4_numbers(levels), 4, 16)], axis=1
    )


ENCODERS: dict[str, Callable[[Array], Array]] = {
    "q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1, "q5_0": _q5_0, "q5_1": _q5_1, "iq4_nl": _iq4_nl, "q2_k": _q2_k,
    "q3_k": _q3_k, "q4_k": _q4_k, "q5_k": _q5_k, "q6_k": _q6_k, "iq4_xs": _iq4_xs,
}  # fmt: skip
