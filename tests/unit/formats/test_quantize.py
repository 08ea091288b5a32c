"""Encoders of weight forms against ggml's own (the `libgguf` package), and back through our decoders."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.formats.byte_source import FileFormatError
from lora_lab.formats.quantize import ENCODERS, quantize
from lora_lab.formats.tensors import FORMS, dequantize
from tests.tiny_gguf import encode

EXACT = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
# ggml weighs the error by the values' own size; ours is the plain one, and may be no worse than this of ggml's.
NO_WORSE = 1.0


def rows_like_weights(seed: int = 0) -> np.ndarray:
    """Weights of several sizes, an outlier in some rows, and blocks of zeros."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.05, (24, 1024)).astype(np.float32) * np.geomspace(0.01, 10, 24, dtype=np.float32)[:, None]
    rows[3, 100], rows[4, 7] = 3.0, -2.5
    rows[5, 256:512] = 0
    rows[6] = np.abs(rows[6])
    rows[7] = -np.abs(rows[7])
    return rows


def test_every_form_is_tried() -> None:
    assert {*EXACT, *ENCODERS} == set(FORMS)


@pytest.mark.parametrize("form", EXACT)
def test_one_scale_is_rounded_as_ggml_does_to_the_bit(form: str) -> None:
    rows = rows_like_weights()
    wanted = encode(rows, form).view(np.uint8).reshape(len(rows), -1)
    assert np.array_equal(quantize(form, rows), wanted)


@pytest.mark.parametrize("form", sorted(set(ENCODERS) - set(EXACT)))
def test_chosen_scales_are_no_worse_than_ggmls(form: str) -> None:
    rows = rows_like_weights()
    decoded = [
        dequantize(form, found.view(np.uint8), rows.shape).astype(np.float64)
        for found in (quantize(form, rows), encode(rows, form))
    ]
    errors = [np.square(values - rows).sum(axis=1) for values in decoded]
    assert errors[0].sum() <= NO_WORSE * errors[1].sum()
    # Small rows too, which say nothing in the sum.
    assert np.median(errors[0] / errors[1]) <= NO_WORSE


@pytest.mark.parametrize("form", FORMS)
def test_what_a_form_can_say_comes_back(form: str) -> None:
    """A second time through changes as good as nothing: values that are levels already find them again."""
    once = dequantize(form, quantize(form, rows_like_weights(1)), (24, 1024))
    twice = dequantize(form, quantize(form, once), (24, 1024))
    step = np.abs(rows_like_weights(1) - once).max(axis=1)  # about half a step of each row
    assert (np.abs(twice - once).max(axis=1) <= 2 * step + 1e-12).all()
    if form in EXACT and form not in ("q4_1", "q5_1"):
        assert np.allclose(once, twice, rtol=2e-3)


def test_zeros_stay_zeros() -> None:
    for form in FORMS:
        assert not dequantize(form, quantize(form, np.zeros((2, 256), np.float32)), (2, 256)).any(), form


def test_a_row_that_is_no_whole_number_of_blocks_is_refused() -> None:
    with pytest.raises(FileFormatError, match="a row of 40 elements cannot be q8_0; wanted a multiple of 32"):
        quantize("q8_0", np.zeros((2, 40), np.float32))
