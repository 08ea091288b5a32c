"""Bringing a model's tensors to the GPU, chunk by chunk, each kept in the form its file has it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from ..formats.tensors import StoredTensor, row_size_bytes, unpermute_rows
from ..gpu.device import Device
from ..gpu.plan import Tensor
from ..ops.weight import JoinedWeight, Weight, packed_words, runs
from .packing import pack

CHUNK_BYTES = 8 << 20  # read, converted and written at a time: WebAssembly memory never shrinks


def plan_weight(device: Device, stored: Sequence[StoredTensor]) -> Weight | JoinedWeight:
    """Return the matrix that stacks `stored`, each (out, in), known by size but without memory yet.

    Each keeps its form; where they differ, neighbours of one form are a piece of the whole.
    """
    pieces = tuple(_plan_piece(device, list(run)) for _, run in groupby(stored, key=lambda tensor: tensor.form))
    return pieces[0] if len(pieces) == 1 else JoinedWeight(pieces)


def _plan_piece(device: Device, stored: Sequence[StoredTensor]) -> Weight:
    form, shape = stored[0].form, (sum(tensor.shape[0] for tensor in stored), stored[0].shape[1])
    words = packed_words(form, shape)
    label = " + ".join(tensor.name for tensor in stored)
    return Weight(Tensor((words,), device.plan_buffer(4 * words, label), 0, label), shape, form)


async def upload_weight(
    weight: Weight | JoinedWeight, stored: Sequence[StoredTensor], on_bytes: Callable[[int], None] | None = None
) -> None:
    """Allocate a planned matrix and fill it. `on_bytes` hears how many bytes of the file were taken each time.

    Rows that llama.cpp has permuted are put back into Hugging Face's order.
    """
    for run in runs(weight, [tensor.shape[0] for tensor in stored]):
        await _upload_piece(run.weight, stored[run.first : run.last], on_bytes)


async def _upload_piece(
    piece: Weight, stored: Sequence[StoredTensor], on_bytes: Callable[[int], None] | None
) -> None:  # fmt: skip
    buffer = piece.tensor.buffer
    buffer.allocate()
    packed_row_bytes = buffer.size_bytes // piece.shape[0]
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
            packed = np.ascontiguousarray(pack(tensor.form, chunk))
            buffer.device.write(buffer, (first_row + start) * packed_row_bytes, packed)
            if on_bytes:
                on_bytes(count * row_bytes)
            await asyncio.sleep(0)
        first_row += rows
