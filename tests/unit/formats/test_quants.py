"""Every form that tensors come in, decoded as the `gguf` package decodes it: to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from lora_lab.formats import quants, tensors
from tests.tiny_gguf import encode

BLOCKS = 500
# The largest error that a form may make, over the largest value: about half a step.
STEPS = {
    "f32": 0, "f16": 1e-3, "bf16": 1e-2, "q8_0": 0.005, "q4_0": 0.13, "q4_1": 0.08, "q5_0": 0.07, "q5_1": 0.04,
    "iq4_nl": 0.13, "q2_k": 0.4, "q3_k": 0.25, "q4_k": 0.1, "q5_k": 0.05, "q6_k": 0.04, "iq4_xs": 0.13,
}  # fmt: skip


def assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (np.float32, wanted.shape)
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


def any_bytes(form: str) -> np.ndarray:
    """Blocks of random bytes: every quant, and scales of every kind, subnormal ones, infinities and NaN too."""
    return np.random.default_rng(2).integers(0, 256, (BLOCKS, tensors.BLOCK_SIZES[form][1]), dtype=np.uint8)


@pytest.mark.parametrize("form", tensors.FORMS)
def test_decodes_what_ggml_encodes(form: str) -> None:
    rows = (np.random.default_rng(1).normal(size=(13, 512)) * 3).astype(np.float32)
    rows[3] = 0  # blocks without any scale
    stored = np.ascontiguousarray(encode(rows, form))
    raw = stored.view(np.uint8).reshape(-1)
    assert raw.size == 13 * tensors.row_size_bytes(form, 512)
    decoded = tensors.dequantize(form, raw, (13, 512))
    assert_same_bits(decoded, dequantize(stored, GGMLQuantizationType[form.upper()]))
    # The control: what was stored is what comes back, up to the form's step. A scale of half the size would show.
    assert np.abs(decoded - rows).max() <= STEPS[form] * np.abs(rows).max()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("form", quants.DECODERS)
def test_decodes_any_bytes(form: str) -> None:
    raw, kind = any_bytes(form), GGMLQuantizationType[form.upper()]
    found = tensors.dequantize(form, raw, (BLOCKS, tensors.BLOCK_SIZES[form][0]))
    assert_same_bits(found, dequantize(raw, kind))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("form", quants.DECODERS)
def test_a_wrong_order_or_sign_is_noticed(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with high and low parts of a byte swapped, or the minimum's sign, the values are others."""
    raw, kind = any_bytes(form), GGMLQuantizationType[form.upper()]
    wanted = dequantize(raw, kind)
    right_fields, right_part = quants.fields, quants._by_part

    def swapped(packed: np.ndarray, width: int, run: int) -> np.ndarray:
        found = right_fields(packed, width, run).reshape(len(packed), -1, 8 // width, run)
        return np.ascontiguousarray(found[:, :, ::-1]).reshape(len(packed), -1)

    def added(scales: np.ndarray, found: np.ndarray, minima: np.ndarray | None = None) -> np.ndarray:
        return right_part(scales, found, None if minima is None else -minima)

    wrong = []
    if form != "q8_0":
        monkeypatch.setattr(quants, "fields", swapped)
        wrong.append(quants.DECODERS[form](raw))
        monkeypatch.setattr(quants, "fields", right_fields)
    if form in ("q2_k", "q4_k", "q5_k"):
        monkeypatch.setattr(quants, "_by_part", added)
        wrong.append(quants.DECODERS[form](raw))
    for found in wrong:
        assert np.mean(found.view(np.uint32) != wanted.view(np.uint32)) > 0.3
