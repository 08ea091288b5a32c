"""From a file's rows to the GPU's: whole 32-bit words, laid out as the kernels in wgsl/weights/ read them.

Nothing is decoded and no value changes; a matrix takes what it takes in the file and at most 4 % more.
"""

from __future__ import annotations

import numpy as np

from ..formats.quants import f16, iq4_xs_scales, k_scales, q3_k_scales
from ..formats.tensors import BLOCK_SIZES
from ..gpu.plan import ceil_div
from ..ops.weight import row_words

_PAIRS = ("q8_0", "q4_0", "q5_0", "iq4_nl")  # a scale of 2 bytes, then whole words
_K_SCALES = {"q4_k": 148, "q5_k": 180}  # bytes of a block on the GPU


def pack(form: str, rows: np.ndarray) -> np.ndarray:
    """Return the file's rows (count, row bytes), uint8, as the GPU has them (count, row bytes there)."""
    if form in _PAIRS:
        return _pair(form, rows)
    blocks = rows.reshape(-1, BLOCK_SIZES[form][1])
    if form in _K_SCALES:
        packed = _widen_k_scales(blocks, _K_SCALES[form])
    elif form == "q3_k":
        packed = _pack_q3_k(blocks)
    elif form == "q6_k":
        packed = np.concatenate([blocks[:, :208], f16(blocks, 208).view(np.uint8)], axis=1)
    elif form == "iq4_xs":
        scales = iq4_xs_scales(blocks[:, 2:8]).view(np.uint8)
        packed = np.concatenate([f16(blocks, 0).view(np.uint8), scales, blocks[:, 8:]], axis=1)
    else:
        return rows
    return packed.reshape(len(rows), -1)


def _pair(form: str, rows: np.ndarray) -> np.ndarray:
    """Two blocks of a row to whole words: both scales, then what follows each. An odd last one goes half empty."""
    columns, size = BLOCK_SIZES[form]
    blocks = rows.reshape(len(rows), -1, size)
    count = blocks.shape[1]
    out = np.zeros((len(rows), ceil_div(count, 2), 2 * size), np.uint8)
    for which in (0, 1):
        every_second = blocks[:, which::2]
        pairs = every_second.shape[1]
        quants = 4 + which * (size - 2)
        out[:, :pairs, 2 * which : 2 * which + 2] = every_second[..., :2]
        out[:, :pairs, quants : quants + size - 2] = every_second[..., 2:]
    return out.reshape(len(rows), -1)[:, : 4 * row_words(form, count * columns)]


def _widen_k_scales(blocks: np.ndarray, size: int) -> np.ndarray:
    """The 6-bit scales and minima become bytes, scale by minimum."""
    out = np.empty((len(blocks), size), np.uint8)
    out[:, :4] = blocks[:, :4]
    out[:, 4:20] = np.stack(k_scales(blocks[:, 4:16]), axis=2).reshape(-1, 16)
    out[:, 20:] = blocks[:, 16:]
    return out


def _pack_q3_k(blocks: np.ndarray) -> np.ndarray:
    """The 6-bit scales are put in order: five a word, and the last one in a word with the block's own."""
    out = np.empty((len(blocks), 112), np.uint8)
    out[:, :96] = blocks[:, :96]
    scales = q3_k_scales(blocks[:, 96:108]).astype(np.uint32)
    words = np.empty((len(blocks), 4), np.uint32)
    for word in range(3):
        five = scales[:, 5 * word : 5 * word + 5] << np.arange(0, 30, 6, dtype=np.uint32)
        words[:, word] = np.bitwise_or.reduce(five, axis=1)
    scale = np.ascontiguousarray(blocks[:, 108:]).view(np.uint16)[:, 0]
    words[:, 3] = scales[:, 15] | scale.astype(np.uint32) << np.uint32(16)
    out[:, 96:] = words.view(np.uint8)
    return out
