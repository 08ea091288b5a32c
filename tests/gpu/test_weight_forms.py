"""Every form of weights on the GPU: the values are the file's, and its products are right in every kernel.

tests/gpu/test_op_linear.py takes the older forms through more shapes, test_models_of_every_form.py all of them through
whole models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import BLOCK_SIZES, FORMS, StoredTensor, dequantize
from lora_lab.gpu import Device
from lora_lab.gpu import kernel as kernels
from lora_lab.model.weights import plan_weight, upload_weight
from lora_lab.ops.embedding import embedding
from lora_lab.ops.linear import LoraPair, linear
from lora_lab.ops.tiling import Tiling
from tests import reference
from tests.close import assert_close, check_op, run_op
from tests.gpu.test_op_linear import FORMS as OLDER_FORMS
from tests.gpu.test_op_linear import weight_on

NEWER_FORMS = [form for form in FORMS if form not in OLDER_FORMS]
MOST = 1.05  # of a weight's bytes in the file, on the GPU


def read_back(device: Device, form: str, raw: np.ndarray, columns: int) -> np.ndarray:
    """Return what the GPU makes of a file's rows, by way of the embedding: (rows, columns)."""
    shape = (len(raw), columns)
    stored = StoredTensor("table", shape, form, BytesSource(raw.tobytes(), "weights"), 0, raw.size)
    (table,) = plan_weight(device, [stored]).pieces
    asyncio.run(upload_weight(table, [stored]))
    found = run_op(device, lambda tape, t: embedding(tape, t["tokens"], table), {"tokens": np.arange(len(raw))})
    table.tensor.buffer.destroy()
    return found["y"]


def some_columns(form: str) -> Sequence[int]:
    """Rows of an odd and of an even number of blocks."""
    block = BLOCK_SIZES[form][0]
    return (36, 72) if block == 1 else (3 * block, 4 * block)


@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_file(device: Device, form: str) -> None:
    """Every step that a kernel takes is exact or rounds as the decoder on the CPU does: nothing may differ."""
    for columns in some_columns(form):
        raw, _ = reference.random_weight(form, (7, columns), np.random.default_rng(columns))
        wanted = dequantize(form, raw, (7, columns))
        found = read_back(device, form, raw, columns)
        assert_close(found, wanted, 1e-6)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("f32", "bf16")])
def test_the_smallest_scales(device: Device, form: str) -> None:
    """A float16 below 2^-14 is subnormal: a device that took it for zero would lose whole blocks of small weights."""
    columns = some_columns(form)[0]
    raw, _ = reference.random_weight(form, (3, columns), np.random.default_rng(0))
    raw = raw.copy()
    size, at = (2, (0,)) if form == "f16" else (BLOCK_SIZES[form][1], scales_of(form))
    blocks = raw.reshape(-1, size)
    for begin in at:
        blocks[:, begin + 1] &= 0x83  # no exponent
    wanted = dequantize(form, raw, (3, columns))
    assert np.any(wanted)
    found = read_back(device, form, raw, columns)
    assert_close(found, wanted, 1e-6)


def scales_of(form: str) -> tuple[int, ...]:
    return reference.GGUF_BLOCKS[form][2] if form in reference.GGUF_BLOCKS else (0, 2) if form == "q4_1" else (0,)


# What stands in a loader, and what a slip of the pen would have made of it.
SLIPS = {
    "q4_0": ("(words.y >> (quad & 4u))", "(words.y >> (4u - (quad & 4u)))"),
    "q4_k": ("- d_m.y * f32", "+ d_m.y * f32"),
    "q5_0": ("& 0x10101010u", "& 0x08080808u"),
    "q6_k": ("(quad >> 2u) & 4u", "(quad >> 1u) & 4u"),
    "q3_k": ("* 30u", "* 24u"),
    "iq4_xs": ("0x45454545u", "0x46464646u"),
    "q8_0": ("((quad & 8u) << 1u)", "0u"),
}


@pytest.mark.parametrize("form", SLIPS)
def test_a_slip_is_noticed(device: Device, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: wrong nibbles, a wrong sign, a wrong bit give other values."""
    right, wrong = SLIPS[form]
    honest = kernels._read
    planted = []

    def read(name: str) -> str:
        text = honest(name)
        if name.startswith("weights/") and right in text:
            planted.append(name)
            return text.replace(right, wrong)
        return text

    columns = some_columns(form)[1]
    raw, _ = reference.random_weight(form, (3, columns), np.random.default_rng(1))
    kernels.kernel.cache_clear()
    monkeypatch.setattr(kernels, "_read", read)
    try:
        found = read_back(device, form, raw, columns)
    finally:
        kernels.kernel.cache_clear()
    assert planted
    with pytest.raises(AssertionError, match="the relative error is"):
        assert_close(found, dequantize(form, raw, (3, columns)), 1e-6)


@pytest.mark.parametrize("form", NEWER_FORMS)
@pytest.mark.parametrize(("rows", "out", "rank"), [(1, 7, 3), (33, 65, 3)])
def test_products(
    each_device: Device, monkeypatch: pytest.MonkeyPatch, form: str, rows: int, out: int, rank: int
) -> None:
    """Forward and dx, with an adapter: one row has a kernel of its own. Tiles are the ones that compile fastest."""
    monkeypatch.setattr("lora_lab.ops.linear.tiling", lambda *_: Tiling(32, 1, 1))
    inner, scale = some_columns(form)[0], 0.75
    rng = np.random.default_rng(rows + out)
    inputs = {"x": rng.normal(size=(rows, inner)), "a": rng.normal(size=(rank, inner)),
              "b": rng.normal(size=(out, rank))}  # fmt: skip
    with weight_on(each_device, form, (out, inner)) as (weight, values):
        check_op(
            each_device,
            lambda tape, t: linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], scale)),
            inputs,
            lambda x, a, b: reference.linear(x, values, a, b, scale),
            lambda dy, x, a, b: {"x": reference.linear_backward(dy, x, values, a, b, scale)["x"]},
        )


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_takes_hardly_more_than_in_the_file(device: Device, form: str) -> None:
    block, size = BLOCK_SIZES[form]
    for columns in (96, 576, 640, 960, 1152, 1440, 2048, 8192):
        if columns % block == 0:
            in_file = 48 * columns // block * size
            stored = StoredTensor("weight", (48, columns), form, BytesSource(b"", "weights"), 0, in_file)
            (weight,) = plan_weight(device, [stored]).pieces
            assert in_file <= weight.tensor.buffer.size_bytes <= MOST * in_file, columns
