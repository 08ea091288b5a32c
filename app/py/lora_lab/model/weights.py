"""Bringing a model's tensors to the GPU, chunk by chunk, each kept in the form its file has it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from ..formats.tensors import BLOCK_SIZES, StoredTensor, dequantize, row_size_bytes, unpermute_rows
from ..gpu.device import Device
from ..gpu.plan import Tensor
from ..ops.weight import Weight, packed_words

CHUNK_BYTES = 8 << 20  # read, converted and written at a time: WebAssembly memory never shrinks


def plan_weight(device: Device, stored: Sequence[StoredTensor]) -> Weight:
    """Return the matrix that stacks `stored`, each (out, in), known by size but without memory yet.

    It keeps their form; float32 where a file stores layers that share their input in different ones.
    """
    rows, columns = sum(tensor.shape[0] for tensor in stored), stored[0].shape[1]
    forms = {"q4_1" if tensor.form == "q4_0" else tensor.form for tensor in stored}
    form = forms.pop() if len(forms) == 1 else "f32"
    words = packed_words(form, (rows, columns))
    label = " + ".join(tensor.name for tensor in stored)
    return Weight(Tensor((words,), device.plan_buffer(4 * words, label), 0, label), (rows, columns), form)


async def upload_weight(
    weight: Weight, stored: Sequence[StoredTensor], on_bytes: Callable[[int], None] | None = None
) -> None:
    """Allocate a planned matrix and fill it. `on_bytes` hears how many bytes of the file were taken each time.

    Rows that llama.cpp has permuted are put back into Hugging Face's order.
    """
    buffer = weight.tensor.buffer
    buffer.allocate()
    packed_row_bytes = buffer.size_bytes // weight.shape[0]
    first_row = 0
    for tensor in stored:
        rows, columns = tensor.shape
        row_bytes = row_size_bytes(tensor.form, columns)
        # A permutation moves rows across the whole matrix; q and k are small enough to be taken at once.
        rows_at_once = rows if tensor.head_permutation else max(1, CHUNK_BYTES // row_bytes)
        for start in range(0, rows, rows_at_once):
            count = min(rows_at_once, rows - start)
            raw = await tensor.source.read(tensor.offset + start * row_bytes, count * row_bytes)
            chunk = np.frombuffer(raw, dtype=np.uint8).reshape(count, row_bytes)
            if tensor.head_permutation is not None:
                chunk = unpermute_rows(chunk, tensor.head_permutation)
            if weight.form == "f32" and tensor.form != "f32":
                packed = dequantize(tensor.form, chunk, (count, columns))
            else:
                packed = np.ascontiguousarray(pack(tensor.form, chunk))
            buffer.device.write(buffer, (first_row + start) * packed_row_bytes, packed)
            if on_bytes:
                on_bytes(count * row_bytes)
            await asyncio.sleep(0)
        first_row += rows


def pack(form: str, rows: np.ndarray) -> np.ndarray:
    """Return the file's rows (count, row bytes), uint8, in the GPU's layout of the form (see wgsl/weights/)."""
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
