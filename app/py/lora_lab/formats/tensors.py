"""How one tensor lies in a file, and a plain decoder for every form we take (the GPU has its own, faster ones)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .byte_source import ByteSource, FileFormatError
from .quants import DECODERS

# form: (elements in a block, bytes of a block). A row is a whole number of blocks. What a block holds is in the file's
# order: d and m are its own scale and minimum in f16, "6-bit" the scales (and minima) of its parts in 12 bytes.
BLOCK_SIZES = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),  # d, 32 int8
    "q4_0": (32, 18),  # d, 16 bytes of two quants each: low halves are elements 0-15, high halves 16-31
    "q4_1": (32, 20),  # d, m, 16 bytes as in q4_0
    "q5_0": (32, 22),  # d, the fifth bits of all elements (u32), 16 bytes as in q4_0
    "q5_1": (32, 24),  # d, m, fifth bits, 16 bytes
    "iq4_nl": (32, 18),  # as q4_0, but a quant is the number of one of 16 fixed values
    "q2_k": (256, 84),  # 16 bytes of scale and minimum, 64 of quants, d, m
    "q3_k": (256, 110),  # 32 bytes of third bits, 64 of the lower ones, 6-bit scales, d
    "q4_k": (256, 144),  # d, m, 6-bit scales and minima, 128 bytes of quants
    "q5_k": (256, 176),  # d, m, 6-bit scales and minima, 32 bytes of fifth bits, 128 of the lower ones
    "q6_k": (256, 210),  # 128 bytes of the lower four bits, 64 of the upper two, 16 int8 scales, d
    "iq4_xs": (256, 136),  # d, u16 and 4 bytes of 6-bit scales, 128 bytes of quants as in iq4_nl
}
FORMS = tuple(BLOCK_SIZES)


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies and in what form. Nothing is read until asked for."""

    name: str
    shape: tuple[int, ...]  # row-major, [out, in] for a linear layer
    form: str  # one of FORMS, or another format's own name for what we cannot compute with (e.g. "iq2_xxs", "i64")
    source: ByteSource
    offset: int  # bytes from the start of the source
    size_bytes: int
    # llama.cpp stores q and k with the rows of each head interleaved; the number of heads to undo that, else None.
    head_permutation: int | None = None
    # What a gain becomes when it is read: times * (value + plus).
    times: float = 1.0
    plus: float = 0.0

    async def read(self) -> np.ndarray:
        """Return all the bytes of the tensor as they lie in the file, uint8 (size_bytes,)."""
        return np.frombuffer(await self.source.read(self.offset, self.size_bytes), dtype=np.uint8)

    async def to_f32(self) -> np.ndarray:
        """Read, decode, and bring the rows into Hugging Face's order: float32 of `shape`. For tests and small ones."""
        raw = await self.read()
        if self.head_permutation is not None:
            raw = unpermute_rows(raw.reshape(self.shape[0], -1), self.head_permutation)
        values = dequantize(self.form, raw, self.shape)
        if (self.times, self.plus) != (1.0, 0.0):
            values = np.float32(self.times) * (values + np.float32(self.plus))
        return values


def row_size_bytes(form: str, columns: int) -> int:
    """Return the bytes of one row of `columns` elements; FileFormatError when the form cannot hold such a row."""
    if form not in BLOCK_SIZES:
        raise FileFormatError(f"weights of form {form} are not supported; wanted one of {', '.join(FORMS)}")
    block, block_bytes = BLOCK_SIZES[form]
    if columns % block:
        raise FileFormatError(f"a row of {columns} elements cannot be {form}; wanted a multiple of {block}")
    return columns // block * block_bytes


def dequantize(form: str, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Decode stored bytes to a new float32 array of `shape`. Every step is done in float32, as ggml does."""
    size_bytes = prod(shape[:-1]) * row_size_bytes(form, shape[-1]) if shape else row_size_bytes(form, 1)
    raw = np.ascontiguousarray(raw, dtype=np.uint8).reshape(-1)
    if raw.size != size_bytes:
        raise FileFormatError(f"{raw.size} bytes for a {form} tensor of shape {shape}; wanted {size_bytes}")
    if form == "f32":
        return raw.view("<f4").astype(np.float32).reshape(shape)
    if form == "f16":
        return raw.view("<f2").astype(np.float32).reshape(shape)
    if form == "bf16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)

    return DECODERS[form](raw.reshape(-1, BLOCK_SIZES[form][1])).reshape(shape)


def unpermute_rows(raw_rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Bring the rows of a llama.cpp q or k weight, [out, row bytes or columns], into Hugging Face's order (a copy).

    llama.cpp rotates neighbouring rows (0, 1), (2, 3), ... of a head; Hugging Face rotates row i with row i + D/2. So
    the file holds each head's two halves interleaved, and whole rows move, whatever form they are stored in.
    """
    rows = raw_rows.shape[0]
    if num_heads < 1 or rows % (2 * num_heads):
        raise FileFormatError(f"{rows} rows cannot be {num_heads} heads of an even size")
    by_head = raw_rows.reshape(num_heads, rows // num_heads // 2, 2, -1)
    return np.ascontiguousarray(by_head.swapaxes(1, 2)).reshape(raw_rows.shape)


def permute_rows(raw_rows: np.ndarray, num_heads: int) -> np.ndarray:
    """The inverse of `unpermute_rows`: the rows of a q or k weight, or of its adapter's B, as llama.cpp has them."""
    rows = raw_rows.shape[0]
    if num_heads < 1 or rows % (2 * num_heads):
        raise FileFormatError(f"{rows} rows cannot be {num_heads} heads of an even size")
    by_head = raw_rows.reshape(num_heads, 2, rows // num_heads // 2, -1)
    return np.ascontiguousarray(by_head.swapaxes(1, 2)).reshape(raw_rows.shape)
