"""Stacked weights on the GPU: of one form they keep it, of different forms they become float32 with the same values."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import StoredTensor
from lora_lab.gpu import Device
from lora_lab.model.weights import plan_weight, upload_weight
from tests import reference
from tests.close import assert_close


@pytest.mark.parametrize(
    ("forms", "kept"),
    [
        (("q4_1", "q4_1"), "q4_1"),
        (("q4_0", "q4_1"), "q4_1"),
        (("q8_0", "q4_1", "f16"), "f32"),
        (("bf16", "f32"), "f32"),
    ],
    ids=str,
)
def test_stacked_weights(device: Device, forms: tuple[str, ...], kept: str) -> None:
    rng = np.random.default_rng(0)
    stored, values = [], []
    for index, form in enumerate(forms):
        shape = (5 + index, 64)
        raw, exact = reference.random_weight(form, shape, rng)
        stored.append(StoredTensor(f"w{index}", shape, form, BytesSource(raw.tobytes(), "weights"), 0, raw.size))
        values.append(exact)
    weight = plan_weight(device, stored)
    before = device.num_buffers
    asyncio.run(upload_weight(weight, stored))
    assert weight.form == kept
    assert weight.shape == (sum(len(v) for v in values), 64)
    if kept == "f32":
        found = asyncio.run(device.download(weight.tensor)).reshape(weight.shape)
        assert_close(found, np.concatenate(values), 1e-7)
    weight.tensor.buffer.destroy()
    assert device.num_buffers == before
