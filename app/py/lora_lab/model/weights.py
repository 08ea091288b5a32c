"""Bringing a model's tensors to the GPU, chunk by chunk, each kept in the form its file has it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from ..errors import OutOfMemoryError
from ..formats.tensors import StoredTensor, row_size_bytes, unpermute_rows
from ..gpu.device import Device
from ..gpu.plan import Tensor
from ..ops.weight import JoinedWeight, Weight, packed_words, row_words, runs
from .packing import pack

CHUNK_BYTES = 8 << 20  # read, converted and written at a time: WebAssembly memory never shrinks


def plan_weight(device: Device, stored: Sequence[StoredTensor]) -> Weight | JoinedWeight:
    """Return the matrix that stacks `stored`, each (out, in), known by size but without memory yet.

    Each keeps its form; where they differ, neighbours of one form are a piece of the whole. So is what goes into one
    buffer and one binding of the GPU, where they all do not. Raises OutOfMemoryError where not even a row does.
    """
    pieces: list[Weight] = []
    for form, same in groupby(stored, key=lambda tensor: tensor.form):
        pieces += _plan_pieces(device, form, list(same))
    return pieces[0] if len(pieces) == 1 else JoinedWeight(tuple(pieces))


def _plan_pieces(device: Device, form: str, stored: Sequence[StoredTensor]) -> list[Weight]:
    columns, label = stored[0].shape[1], " + ".join(tensor.name for tensor in stored)
    row_bytes = 4 * row_words(form, columns)
    most = min(device.limits.max_buffer_size, device.limits.max_storage_buffer_binding_size) // row_bytes
    if most < 1:
        raise OutOfMemoryError(
            f"A row of {label} is {row_bytes:,} bytes; {device.info.name} takes fewer in one buffer or one binding."
        )
    # Kernels make 64 outputs at a time and, if they may, four of them as one vector.
    most = next(most // step * step for step in (64, 4, 1) if most >= step)
    heights = piece_heights([tensor.shape[0] for tensor in stored], most)
    pieces, first = [], 0
    for rows in heights:
        name = label if len(heights) == 1 else f"{label}, rows {first} to {first + rows - 1}"
        words = packed_words(form, (rows, columns))
        tensor = Tensor((words,), device.plan_buffer(4 * words, name), 0, name)
        pieces.append(Weight(tensor, (rows, columns), form))
        first += rows
    return pieces


def piece_heights(layers: Sequence[int], most: int) -> list[int]:
    """Return the rows of each piece for layers of so many rows, stacked: a layer is cut only if it has to be."""
    pieces, rows = [], 0
    for layer in layers:
        if rows and rows + layer > most:
            pieces.append(rows)
            rows = 0
        whole, rest = divmod(layer, most) if layer > most else (0, layer)
        pieces += [most] * whole
        rows += rest
    return [*pieces, rows] if rows else pieces


async def upload_weight(
    weight: Weight | JoinedWeight, stored: Sequence[StoredTensor], on_bytes: Callable[[int], None] | None = None
) -> None:
    """Allocate a planned matrix and fill it. `on_bytes` hears how many bytes of the file were taken each time.

    Rows that llama.cpp has permuted are put back into Hugging Face's order.
    """
    for run in runs(weight, [tensor.shape[0] for tensor in stored]):
        run.weight.tensor.buffer.allocate()
        if run.is_cut:
            await _upload(run.weight, run.row, stored[run.first], run.begin, run.count, on_bytes)
            continue
        row = run.row
        for tensor in stored[run.first : run.last]:
            await _upload(run.weight, row, tensor, 0, tensor.shape[0], on_bytes)
            row += tensor.shape[0]


async def _upload(
    piece: Weight, row: int, tensor: StoredTensor, first: int, count: int, on_bytes: Callable[[int], None] | None
) -> None:  # fmt: skip
    """Fill the piece from `row` on with `count` rows of a tensor, from its row `first` on; a slice of it at a time."""
    buffer, (rows, columns) = piece.tensor.buffer, tensor.shape
    row_bytes, packed_row_bytes = row_size_bytes(tensor.form, columns), 4 * row_words(piece.form, columns)
    heads = tensor.head_permutation
    together = 1 if heads is None else rows // heads  # rows that a permutation moves about: those of a head
    at_once, end = max(1, CHUNK_BYTES // (row_bytes * together)) * together, first + count
    for start in range(first // together * together, end, at_once):
        stop = min(start + at_once, -(-end // together) * together)
        raw = await tensor.source.read(tensor.offset + start * row_bytes, (stop - start) * row_bytes)
        chunk = np.frombuffer(raw, dtype=np.uint8).reshape(stop - start, row_bytes)
        if heads is not None:
            chunk = unpermute_rows(chunk, (stop - start) // together)
        begin, own_end = max(start, first), min(stop, end)
        packed = np.ascontiguousarray(pack(tensor.form, chunk[begin - start : own_end - start]))
        buffer.device.write(buffer, (row + begin - first) * packed_row_bytes, packed)
        if on_bytes:
            on_bytes((own_end - begin) * row_bytes)
        del raw, chunk, packed  # before the next slice is read
        await asyncio.sleep(0)
