"""The loss over the trained rows, chunk by chunk, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.ops.cross_entropy import chunk_rows, cross_entropy
from lora_lab.ops.elementwise import add
from lora_lab.ops.step import StepValues
from lora_lab.ops.tiling import Tiling
from tests import reference
from tests.close import NAN_WORD, OP_TOLERANCE, assert_close, run_op
from tests.gpu.test_op_linear import FORMS, weight_on, width

GARBAGE = 0xFFFFFFFF  # in the lists behind the trained rows: nobody may read it as a row or a token


def run_loss(
    device: Device, form: str, rows: int, trained: int, vocab: int, seed: int = 0, scale: float = 1.0
) -> tuple[float, np.ndarray, float, np.ndarray]:
    """Return (loss, dx) as found, and as wanted."""
    rng = np.random.default_rng(seed)
    inner = width(form)
    x = (scale * rng.normal(size=(rows, inner))).astype(np.float32)
    lists = {name: np.full(rows, GARBAGE, np.uint32) for name in ("rows", "targets")}
    lists["rows"][:trained] = np.sort(rng.choice(rows, trained, replace=False))
    lists["targets"][:trained] = rng.integers(0, vocab, trained)
    inv_tokens = 1 / max(1, 2 * trained)  # as if another micro-batch had as many
    with weight_on(device, form, (vocab, inner), seed) as (weight, values):

        def build(tape, t):
            hidden = add(tape, t["x"], t["zeros"])
            cross_entropy(tape, hidden, weight, t["rows"], t["targets"], t["total"])
            tape.backward()
            return tape.grad(t["x"])

        found = run_op(
            device,
            lambda tape, t: (setattr(t["x"], "requires_grad", True), build(tape, t))[1],
            {"x": x, "zeros": np.zeros(x.shape), **lists, "total": np.array([0.5])},
            outputs=("total",),
            step=StepValues(inv_tokens=inv_tokens, loss_rows=trained),
        )
        arguments = (x.astype(np.float64), values, lists["rows"][:trained], lists["targets"][:trained], inv_tokens)
        wanted = 0.5 + reference.cross_entropy(*arguments)  # `total` is added to
        return float(found["total"][0]), found["y"], wanted, reference.cross_entropy_backward(*arguments)


@pytest.mark.parametrize(
    ("rows", "trained", "vocab"),
    [
        (1, 1, 7),
        (5, 0, 65),
        (33, 20, 384),
        (128, 128, 65),
        (300, 1, 65),
        (300, 128, 65),
        (300, 200, 65),
        (300, 300, 384),
        (1100, 700, 65),
    ],
)
def test_loss_and_gradient(each_device: Device, rows: int, trained: int, vocab: int) -> None:
    loss, dx, wanted_loss, wanted_dx = run_loss(each_device, "f32", rows, trained, vocab)
    assert_close(np.array(loss), np.array(wanted_loss), OP_TOLERANCE, "loss")
    assert_close(dx, wanted_dx, OP_TOLERANCE, "dx")


def test_more_rows_take_larger_chunks() -> None:
    """The chunks of a long row leave room beside everything else; those of many rows are few."""
    found = {rows: chunk_rows(rows) for rows in (1, 128, 1024, 1025, 2048, 2049, 4096, 100_000)}
    assert found == {1: 128, 128: 128, 1024: 128, 1025: 256, 2048: 256, 2049: 512, 4096: 512, 100_000: 512}


@pytest.mark.parametrize("form", FORMS[1:])
def test_an_output_layer_of_every_form(each_device: Device, form: str) -> None:
    loss, dx, wanted_loss, wanted_dx = run_loss(each_device, form, chunk_rows(1) + 9, chunk_rows(1) + 2, 65, seed=3)
    assert_close(np.array(loss), np.array(wanted_loss), OP_TOLERANCE, "loss")
    assert_close(dx, wanted_dx, OP_TOLERANCE, "dx")


@pytest.mark.parametrize("tiles", [Tiling(64, 1, 2), Tiling(64, 2, 3)], ids=str)
@pytest.mark.parametrize("trained", [3, 130])
def test_sums_over_the_vocabulary_in_parts(
    device: Device, monkeypatch: pytest.MonkeyPatch, tiles: Tiling, trained: int
) -> None:
    """As a GPU does for a real vocabulary: the parts stop at the trained rows too."""
    monkeypatch.setattr(device, "use_workgroup_memory", True)
    monkeypatch.setattr("lora_lab.ops.linear.tiling", lambda *_: tiles)
    loss, dx, wanted_loss, wanted_dx = run_loss(device, "q8_0", 140, trained, 200)
    assert_close(np.array(loss), np.array(wanted_loss), OP_TOLERANCE, "loss")
    assert_close(dx, wanted_dx, OP_TOLERANCE, "dx")


def test_a_real_vocabulary_loses_nothing_of_its_small_terms(each_device: Device) -> None:
    """Tens of thousands of small probabilities and one large dlogit: a single long chain is off by 3e-5."""
    loss, dx, wanted_loss, wanted_dx = run_loss(each_device, "f32", 5, 4, 49_152, scale=0.5)
    assert_close(np.array(loss), np.array(wanted_loss), 3e-7, "loss")
    assert_close(dx, wanted_dx, 2e-6, "dx")


def test_logits_of_hundreds_do_not_overflow(each_device: Device) -> None:
    loss, dx, wanted_loss, wanted_dx = run_loss(each_device, "f32", 33, 33, 65, scale=100.0)
    assert_close(np.array(loss), np.array(wanted_loss), OP_TOLERANCE, "loss")
    assert_close(dx, wanted_dx, OP_TOLERANCE, "dx")


def test_the_gradient_agrees_with_finite_differences(each_device: Device) -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(6, 36)).astype(np.float32)
    rows, targets = np.array([0, 2, 5]), np.array([6, 0, 3])
    with weight_on(each_device, "f32", (7, 36)) as (weight, values):

        def build(tape, t):
            t["x"].requires_grad = True
            cross_entropy(tape, t["x"], weight, t["rows"], t["targets"], t["total"])
            return tape.grad(t["x"])

        inputs = {"x": x, "rows": rows, "targets": targets, "total": np.zeros(1)}
        found = run_op(each_device, build, inputs, step=StepValues(inv_tokens=1 / 3, loss_rows=3))
        numeric = reference.numerical_gradient(
            lambda x: np.array(reference.cross_entropy(x, values, rows, targets, 1 / 3)),
            x.astype(np.float64), np.array(1.0),
        )  # fmt: skip
        assert_close(found["y"], numeric, OP_TOLERANCE, "dx")


def test_the_poison_is_not_a_number() -> None:
    """What the tests' memory holds before a run really shows when it is read."""
    assert np.isnan(np.array(NAN_WORD).view(np.float32))
