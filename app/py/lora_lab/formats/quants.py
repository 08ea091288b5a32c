"""Decoders of GGUF's quantised blocks: (blocks, bytes of a block) uint8 -> (blocks, elements) float32.

Every step is done in float32 and in ggml's order, so the values are ggml's to the bit. The GPU has decoders of its own,
faster ones, in wgsl/weights/.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# What a nibble of IQ4_NL and IQ4_XS stands for.
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def fields(packed: np.ndarray, width: int, run: int) -> np.ndarray:
    """(blocks, bytes) -> (blocks, numbers of `width` bits): of each `run` bytes all the lowest, then the next, ..."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    parts = packed.reshape(len(packed), -1, 1, run) >> shifts
    return (parts & np.uint8((1 << width) - 1)).reshape(len(packed), -1)


def k_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 12 bytes of Q4_K and Q5_K -> scales and minima (blocks, 8), 6 bits each."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 0x3F, (third & 0x0F) | (first >> 2 & 0x30)], axis=1)
    minima = np.concatenate([second & 0x3F, (third >> 4) | (second >> 2 & 0x30)], axis=1)
    return scales, minima


def q3_k_scales(packed: np.ndarray) -> np.ndarray:
    """The 12 bytes of Q3_K -> scales (blocks, 16), 6 bits each; 32 stands for zero."""
    return fields(packed[:, :8], 4, 8) | fields(packed[:, 8:], 2, 4) << np.uint8(4)


def iq4_xs_scales(packed: np.ndarray) -> np.ndarray:
    """The 6 bytes of IQ4_XS -> scales (blocks, 8), int8."""
    high = np.ascontiguousarray(packed[:, :2]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16)
    low = fields(packed[:, 2:], 4, 1)
    return (low | (high & 3).astype(np.uint8) << np.uint8(4)).view(np.int8) - np.int8(32)


def f16(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 that begins at byte `at` of each block, as float32 (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _f32(quants: np.ndarray, zero: int = 0) -> np.ndarray:
    """Numbers below 128 -> float32, less what stands for zero."""
    return (quants.view(np.int8) - np.int8(zero)).astype(np.float32)


def _by_part(scales: np.ndarray, quants: np.ndarray, minima: np.ndarray | None = None) -> np.ndarray:
    """scale * quant (- minimum), each of the scales (blocks, parts) for an equal part of the block."""
    parts = scales[:, :, None] * quants.reshape(*scales.shape, -1)
    return (parts if minima is None else parts - minima[:, :, None]).reshape(len(quants), -1)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * _f32(fields(blocks[:, 2:], 4, 16), 8)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * _f32(fields(blocks[:, 4:], 4, 16)) + f16(blocks, 2)


def _five_bits(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return fields(low, 4, 16) | np.unpackbits(high, axis=1, bitorder="little") << np.uint8(4)


def _q5_0(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * _f32(_five_bits(blocks[:, 2:6], blocks[:, 6:]), 16)


def _q5_1(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * _f32(_five_bits(blocks[:, 4:8], blocks[:, 8:])) + f16(blocks, 2)


def _iq4_nl(blocks: np.ndarray) -> np.ndarray:
    return f16(blocks, 0) * np.array(IQ4_VALUES, np.float32)[fields(blocks[:, 2:], 4, 16)]


def _q2_k(blocks: np.ndarray) -> np.ndarray:
    scales = f16(blocks, 80) * _f32(blocks[:, :16] & 0x0F)
    minima = f16(blocks, 82) * _f32(blocks[:, :16] >> 4)
    return _by_part(scales, _f32(fields(blocks[:, 16:80], 2, 32)), minima)


def _q3_k(blocks: np.ndarray) -> np.ndarray:
    quants = fields(blocks[:, 32:96], 2, 32) | fields(blocks[:, :32], 1, 32) << np.uint8(2)
    return _by_part(f16(blocks, 108) * _f32(q3_k_scales(blocks[:, 96:108]), 32), _f32(quants, 4))


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    scales, minima = k_scales(blocks[:, 4:16])
    quants = _f32(fields(blocks[:, 16:], 4, 32))
    return _by_part(f16(blocks, 0) * _f32(scales), quants, f16(blocks, 2) * _f32(minima))


def _q5_k(blocks: np.ndarray) -> np.ndarray:
    scales, minima = k_scales(blocks[:, 4:16])
    quants = _f32(fields(blocks[:, 48:], 4, 32) | fields(blocks[:, 16:48], 1, 32) << np.uint8(4))
    return _by_part(f16(blocks, 0) * _f32(scales), quants, f16(blocks, 2) * _f32(minima))


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    quants = fields(blocks[:, :128], 4, 64) | fields(blocks[:, 128:192], 2, 32) << np.uint8(4)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _by_part(f16(blocks, 208) * scales, _f32(quants, 32))


def _iq4_xs(blocks: np.ndarray) -> np.ndarray:
    scales = iq4_xs_scales(blocks[:, 2:8]).astype(np.float32)
    return _by_part(f16(blocks, 0) * scales, np.array(IQ4_VALUES, np.float32)[fields(blocks[:, 8:], 4, 16)])


DECODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "q8_0": _q8_0, "q4_0": _q4_0, "q4_1": _q4_1, "q5_0": _q5_0, "q5_1": _q5_1, "iq4_nl": _iq4_nl, "q2_k": _q2_k,
    "q3_k": _q3_k, "q4_k": _q4_k, "q5_k": _q5_k, "q6_k": _q6_k, "iq4_xs": _iq4_xs,
}  # fmt: skip
