"""Bringing a model's tensors to the GPU, chunk by chunk, each kept in the form its file has it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from ..formats.tensors import BLOCK_SIZES, StoredTensor, row_size_bytes, unpermute_rows
from ..gpu.device import Device
from ..gpu.plan import Tensor
from ..ops.weight import Weight, packed_words

CHUNK_BYTES = 8 << 20  # read, converted and written at a time: WebAssembly memory never shrinks


async def upload_weight(device: Device, stored: StoredTensor, on_bytes: Callable[[int], None] | None = None) -> Weight:
    """Return a (out, in) matrix on the GPU. `on_bytes` hears how many bytes of the file were taken each time.

    Rows that llama.cpp has permuted are put back into Hugging Face's order.
    """
    rows, columns = stored.shape
    form = "q4_1" if stored.form == "q4_0" else stored.form
    words = packed_words(form, (rows, columns))
    buffer = device.create_buffer(4 * words, stored.name)
    row_bytes = row_size_bytes(stored.form, columns)
    # A permutation moves rows across the whole matrix; q and k are small enough to be taken at once.
    rows_at_once = rows if stored.head_permutation else max(1, CHUNK_BYTES // row_bytes)
    packed_row_bytes = 4 * words // rows
    for start in range(0, rows, rows_at_once):
        count = min(rows_at_once, rows - start)
        raw = await stored.source.read(stored.offset + start * row_bytes, count * row_bytes)
        chunk = np.frombuffer(raw, dtype=np.uint8).reshape(count, row_bytes)
        if stored.head_permutation is not None:
            chunk = unpermute_rows(chunk, stored.head_permutation)
        device.write(buffer, start * packed_row_bytes, np.ascontiguousarray(pack(stored.form, chunk)))
        if on_bytes:
            on_bytes(count * row_bytes)
        await asyncio.sleep(0)
    return Weight(Tensor((words,), buffer, 0, stored.name), (rows, columns), form)


def pack(form: str, rows: np.ndarray) -> np.ndarray:
    """Return the file's rows (count, row bytes), uint8, in the GPU's layout of the form (see wgsl/weight_*.wgsl)."""
    if form in ("f32", "f16", "bf16", "q4_1"):
        return rows
    blocks = rows.reshape(-1, BLOCK_SIZES[form][1])
    if form == "q8_0":  # 2 bytes of scale, widened to a whole word, then the quants
        out = np.zeros((len(blocks), 36), np.uint8)
        out[:, :2] = blocks[:, :2]
        out[:, 4:] = blocks[:, 2:]
        return out
    out = np.empty((len(blocks), 20), np.uint8)  # q4_0: low = -8 * scale is exact in float16
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16)
    out[:, :2] = blocks[:, :2]
    out[:, 2:4] = (scale * np.float16(-8)).view(np.uint8)
    out[:, 4:] = blocks[:, 2:]
    return out
