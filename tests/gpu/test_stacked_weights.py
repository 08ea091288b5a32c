"""Stacked weights on the GPU: each keeps its form, and neighbours of one form lie in one matrix."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import StoredTensor
from lora_lab.gpu import Device
from lora_lab.model import packing
from lora_lab.model.weights import plan_weight, upload_weight
from lora_lab.ops.weight import runs
from tests import reference


@pytest.mark.parametrize(
    ("forms", "kept"),
    [
        (("q4_1", "q4_1"), [("q4_1", 11)]),
        (("q4_0", "q4_1"), [("q4_0", 5), ("q4_1", 6)]),
        (("q8_0", "q4_1", "f16"), [("q8_0", 5), ("q4_1", 6), ("f16", 7)]),
        (("q4_k", "q4_k", "q6_k"), [("q4_k", 11), ("q6_k", 7)]),
        (("f32", "bf16", "f32"), [("f32", 5), ("bf16", 6), ("f32", 7)]),
    ],
    ids=str,
)
def test_stacked_weights(device: Device, forms: tuple[str, ...], kept: list[tuple[str, int]]) -> None:
    rng, columns = np.random.default_rng(0), 256
    stored, packed = [], []
    for index, form in enumerate(forms):
        shape = (5 + index, columns)
        raw, _ = reference.random_weight(form, shape, rng)
        stored.append(StoredTensor(f"w{index}", shape, form, BytesSource(raw.tobytes(), "weights"), 0, raw.size))
        packed.append(packing.pack(form, raw))
    weight = plan_weight(device, stored)
    before, heard = device.num_buffers, []
    asyncio.run(upload_weight(weight, stored, heard.append))
    assert sum(heard) == sum(tensor.size_bytes for tensor in stored)
    assert weight.shape == (sum(tensor.shape[0] for tensor in stored), columns)
    assert [(piece.form, piece.shape[0]) for piece in weight.pieces] == kept
    found = [asyncio.run(device.download(piece.tensor)).view(np.uint8) for piece in weight.pieces]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([rows.reshape(-1) for rows in packed]))
    for piece in weight.pieces:
        piece.tensor.buffer.destroy()
    assert device.num_buffers == before


def test_where_layers_lie(device: Device) -> None:
    stored = [
        StoredTensor("w", (rows, 256), form, BytesSource(b"", "w"), 0, 0)
        for rows, form in ((8, "q4_k"), (4, "q4_k"), (6, "q6_k"))
    ]
    weight = plan_weight(device, stored)
    first, second = weight.pieces

    def found(widths: list[int], row: int = 0) -> list[tuple]:
        return [(run.weight, run.first, run.last, run.row) for run in runs(weight, widths, row)]

    assert found([8, 4, 6]) == [(first, 0, 2, 0), (second, 2, 3, 0)]
    assert found([4], 8) == [(first, 0, 1, 8)]
    assert found([6], 12) == [(second, 0, 1, 0)]
    assert found([4, 6], 8) == [(first, 0, 1, 8), (second, 1, 2, 0)]
    for widths, row in (([10, 8], 0), ([8, 4, 7], 0), ([4], 10)):
        with pytest.raises(ValueError, match="are not those of q4_k\\+q6_k"):
            runs(weight, widths, row)
