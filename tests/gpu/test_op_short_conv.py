"""The gated short convolution against float64 and finite differences: alone, in packed texts, and over a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.gpu.kernel import Kernel, kernel
from lora_lab.ops.elementwise import scale
from lora_lab.ops.glu import glu
from lora_lab.ops.short_conv import short_conv, short_conv_cached
from lora_lab.ops.step import StepValues
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, check_op, run_op


@contextmanager
def planted(before: str, after: str) -> Iterator[None]:
    """Change the kernel's text."""

    @cache
    def changed(name: str, entry: str, constants: tuple) -> Kernel:
        honest = kernel(name, entry, constants)
        assert before in honest.source
        return replace(honest, source=honest.source.replace(before, after))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_lab.ops.short_conv.kernel", changed)
        yield


def check(device: Device, lengths: Sequence[int], channels: int, taps: int) -> None:
    """Forward and backward over texts of these lengths behind one another."""
    rng = np.random.default_rng(sum(lengths))
    positions = np.concatenate([np.arange(length) for length in lengths])
    inputs = {
        "bcx": rng.normal(size=(len(positions), 3 * channels)),
        "weight": rng.normal(size=(channels, taps)),
        "positions": positions,
    }
    check_op(
        device,
        lambda tape, t: short_conv(tape, t["bcx"], t["weight"], t["positions"]),
        inputs,
        reference.short_conv,
        lambda dy, bcx, weight, positions: {"bcx": reference.short_conv_backward(dy, bcx, weight, positions)},
    )


# Texts of one batch row or of several, some shorter than the filter; 1s at the end are what fills a row.
TEXTS = [(1,), (5,), (2, 1, 7, 3), (33, 29, 1, 1, 1), (123,)]


@pytest.mark.parametrize("channels", [1, 36, 65])
@pytest.mark.parametrize("lengths", TEXTS, ids=str)
def test_short_conv(each_device: Device, lengths: tuple[int, ...], channels: int) -> None:
    check(each_device, lengths, channels, 3)


@pytest.mark.parametrize("taps", [1, 2, 4, 9])
def test_filters_of_other_lengths(each_device: Device, taps: int) -> None:
    check(each_device, (2, 1, 7, 30), 20, taps)


def test_short_conv_between_other_ops(device: Device) -> None:
    """Its input is another op's result, as in a block, and its gradient comes from another op's."""
    rng = np.random.default_rng(0)
    inputs = {
        "gate": rng.normal(size=(6, 15)), "up": rng.normal(size=(6, 15)), "weight": rng.normal(size=(5, 3)),
        "positions": np.arange(6),
    }  # fmt: skip

    def backward(dy, gate, up, weight, positions):
        dbcx = reference.short_conv_backward(3 * dy, reference.swiglu(gate, up), weight, positions)
        return reference.swiglu_backward(dbcx, gate, up)

    check_op(
        device,
        lambda tape, t: scale(tape, short_conv(tape, glu(tape, t["gate"], t["up"]), t["weight"], t["positions"]), 3.0),
        inputs,
        lambda gate, up, weight, positions: 3 * reference.short_conv(reference.swiglu(gate, up), weight, positions),
        backward,
    )


FAULTS = {
    "it looks ahead": ("u(t - s, c)", "u(min(t + s, params.rows - 1u), c)"),
    "it reaches into the text before": ("min(TAPS, positions[t] + 1u)", "min(TAPS, t + 1u)"),
    "its filters are turned round": ("c * TAPS + TAPS - 1u - s", "c * TAPS + s"),
    "its gradient reaches into the text behind": ("positions[t + s] >= s", "true"),
    "the gradient of C is without the convolution": ("dy[i] * convolved(t, c)", "dy[i] * u(t, c)"),
    "the gradients of B and x change places": ("du * bcx[x_at(t, c)]", "du * bcx[b_at(t, c)]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(each_device: Device, fault: str) -> None:
    with planted(*FAULTS[fault]), pytest.raises(AssertionError, match="relative error"):
        check(each_device, (5, 9), 20, 3)


# --- over a cache ---

Part = tuple[int, int]  # rows, and how many of them are real


def run_cached(
    device: Device, bcx: np.ndarray, weight: np.ndarray, parts: Sequence[Part], kept: np.ndarray, past: int = 0
) -> np.ndarray:
    """Return the results for the rows of bcx, run part after part from position `past` on. `kept` is written.

    What pads a part is NaN: it may reach nothing.
    """
    results = []
    for rows, real in parts:
        padded = np.full((rows, bcx.shape[1]), np.nan, np.float32)
        padded[:real], bcx = bcx[:real], bcx[real:]
        inputs = {"bcx": padded, "weight": weight, "positions": np.arange(past, past + rows), "kept": kept}
        found = run_op(
            device,
            lambda tape, t: short_conv_cached(tape, t["bcx"], t["weight"], t["positions"], t["kept"]),
            inputs,
            outputs=("kept",),
            step=StepValues(past=past, last_row=real - 1),
        )
        results.append(found["y"][:real])
        kept[:] = found["kept"]
        past += real
    assert not len(bcx)
    return np.concatenate(results)


def random_text(rows: int, channels: int, taps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    bcx, weight = rng.normal(size=(rows, 3 * channels)), rng.normal(size=(channels, taps))
    return bcx.astype(np.float32), weight.astype(np.float32)


def check_cached(device: Device, parts: Sequence[Part], kept_rows: int, channels: int, taps: int) -> None:
    bcx, weight = random_text(sum(real for _, real in parts), channels, taps)
    kept = np.full((kept_rows, channels), np.nan, np.float32)
    found = run_cached(device, bcx, weight, parts, kept)
    wanted = reference.short_conv(bcx.astype(np.float64), weight.astype(np.float64), np.arange(len(bcx)))
    assert_close(found, wanted, OP_TOLERANCE)


@pytest.mark.parametrize("spare", [0, 1, 6])
@pytest.mark.parametrize("taps", [2, 3, 5])
@pytest.mark.parametrize(
    "parts",
    [[(16, 13)], [(16, 16), (16, 1), (1, 1), (1, 1), (1, 1)], [(1, 1)] * 9, [(4, 1), (4, 2), (4, 4), (1, 1), (4, 1)]],
    ids=str,
)
def test_parts_of_a_text_are_the_whole_text(each_device: Device, parts: list[Part], taps: int, spare: int) -> None:
    """Padded parts, parts shorter than the filter, single tokens; as many inputs kept as are needed, and some more."""
    check_cached(each_device, parts, taps - 1 + spare, 7, taps)


def test_a_text_may_go_back_as_far_as_more_inputs_are_kept(device: Device) -> None:
    taps, spare, channels = 3, 6, 7
    bcx, weight = random_text(30, channels, taps)
    for back in (0, 1, spare, spare + 1):
        kept = np.full((taps - 1 + spare, channels), np.nan, np.float32)
        run_cached(device, bcx[:20], weight, [(16, 16), (4, 3), (1, 1)], kept)
        text = np.concatenate([bcx[: 20 - back], bcx[20:]])
        wanted = reference.short_conv(text.astype(np.float64), weight.astype(np.float64), np.arange(len(text)))
        found = run_cached(device, bcx[20:], weight, [(16, 9), (1, 1)], kept, past=20 - back)
        if back <= spare:
            assert_close(found, wanted[20 - back :], OP_TOLERANCE)
        else:  # the control
            with pytest.raises(AssertionError, match="relative error"):
                assert_close(found, wanted[20 - back :], OP_TOLERANCE)


CACHE_FAULTS = {
    "what is kept is off by one": ("kept_at(positions[t], c)", "kept_at(positions[t] + 1u, c)"),
    "what is read is off by one": ("kept_at(positions[t] - s, c)", "kept_at(positions[t] - s + 1u, c)"),
    "what pads is taken for the last row": ("step.last_row", "(params.rows - 1u)"),
}


@pytest.mark.parametrize("fault", CACHE_FAULTS)
def test_a_fault_of_the_cache_is_caught(each_device: Device, fault: str) -> None:
    parts = [(16, 13), (1, 1), (16, 5)]
    check_cached(each_device, parts, 8, 7, 3)
    with planted(*CACHE_FAULTS[fault]), pytest.raises(AssertionError, match=r"relative error|NaN"):
        check_cached(each_device, parts, 8, 7, 3)
