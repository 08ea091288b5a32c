"""LoRA's thin products as GPUs make them: all tiles and numbers of slices of factors lying anyhow, against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.ops import matmul as ops
from lora_lab.ops.matmul import Matrix, Product, matmul, products
from tests.close import OP_TOLERANCE, assert_close, check_op, relative_error, run_op

# What decides between the forms, set so that each comes up for small shapes too: (LOW, FEW_WORKGROUPS).
FORMS = {"16 x 16": (0, 0), "low, few workgroups": (64, 256), "low, many workgroups": (64, 0)}


@pytest.fixture(params=FORMS, autouse=True)
def form(request: pytest.FixtureRequest, device: Device, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the device make products as GPUs do, in one form."""
    low, few = FORMS[request.param]
    monkeypatch.setattr(device, "use_workgroup_memory", True)
    monkeypatch.setattr(ops, "LOW", low)
    monkeypatch.setattr(ops, "FEW_WORKGROUPS", few)
    return str(request.param)


@pytest.mark.parametrize("k", [4, 60, 64, 72, 132, 516])
@pytest.mark.parametrize(("m", "n"), [(4, 16), (8, 20), (20, 8), (36, 48), (5, 7)])
@pytest.mark.parametrize(("transpose_a", "transpose_b"), [(False, True), (False, False), (True, False), (True, True)])
def test_one_product(device: Device, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool) -> None:
    """Sums shorter and longer than all slices together, and such as no slice divides."""
    rng = np.random.default_rng(m + n + k)
    inputs = {
        "a": rng.normal(size=(k, m) if transpose_a else (m, k)),
        "b": rng.normal(size=(n, k) if transpose_b else (k, n)),
    }
    check_op(
        device,
        lambda tape, t: matmul(tape, t["a"], t["b"], transpose_a=transpose_a, transpose_b=transpose_b, alpha=0.7),
        inputs,
        lambda a, b: 0.7 * (a.T if transpose_a else a) @ (b.T if transpose_b else b),
    )


def lora_gradients(device: Device, rows: int, rank: int, widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return (found, wanted) of dA and dB of joined layers, added to what was there, one behind the other."""
    inner, layers, outs = 36, len(widths), sum(widths)
    rng = np.random.default_rng(rows + rank + outs)
    x, u, du = (rng.normal(size=(rows, columns)) for columns in (inner, rank * layers, rank * layers))
    dys = [rng.normal(size=(rows, width)) for width in widths]
    before = rng.normal(size=rank * layers * inner + outs * rank)
    total, place, start = rank * layers, rank * layers * inner, 0
    batch = [Product(total, inner, rows, Matrix(0, 1, total), Matrix(0, inner, 1), Matrix(0, inner, 1))]
    wanted = [(du.T @ x).ravel()]
    for i, (width, dy) in enumerate(zip(widths, dys, strict=True)):
        c = Matrix(place, 1, rank)
        batch.append(Product(rank, width, rows, Matrix(i * rank, 1, total), Matrix(start, width, 1), c, pair=1))
        wanted.append((dy.T @ u[:, i * rank : (i + 1) * rank]).ravel())
        place, start = place + width * rank, start + rows * width

    def build(tape, t):
        products(tape, [(t["du"], t["x"]), (t["u"], t["dy"])], t["c"], batch, 0.5, False, True)
        return t["c"]

    dy = np.concatenate([part.ravel() for part in dys])
    found = run_op(device, build, {"x": x, "u": u, "du": du, "dy": dy, "c": before})
    return found["y"], before + 0.5 * np.concatenate(wanted)


@pytest.mark.parametrize("rank", [4, 16, 3])
@pytest.mark.parametrize("widths", [(20, 8, 4), (36,), (12, 64)], ids=str)
@pytest.mark.parametrize("rows", [1, 31, 130])
def test_two_pairs_of_factors(device: Device, rows: int, widths: tuple[int, ...], rank: int) -> None:
    """dA of one pair and dB of the other in one dispatch, whose result lies upright; odd ranks read scalars."""
    found, wanted = lora_gradients(device, rows, rank, widths)
    assert_close(found, wanted, OP_TOLERANCE, "dA and dB")


def test_control_a_product_of_the_wrong_pair_is_caught(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    split = ops._split

    def one_pair_only(batch):
        form = split(batch)
        constants = tuple((key, False if key == "PAIRS" else value) for key, value in form.constants)
        return replace(form, constants=constants)

    monkeypatch.setattr(ops, "_split", one_pair_only)
    # As many rows and columns as the other pair has, so that what is read is there and wrong.
    found, wanted = lora_gradients(device, 64, 16, (36,))
    assert relative_error(found, wanted) > 0.1


def test_every_form_is_among_them(form: str) -> None:
    """The three forms are what the two numbers choose between, and real shapes get the one that is meant for them."""
    low = Product(512, 16, 576, Matrix(0, 576, 1), Matrix(0, 1, 576), Matrix(0, 16, 1))
    constants = dict(ops._split([low]).constants)
    wanted = {"16 x 16": (16, 16, 16), "low, few workgroups": (8, 16, 32), "low, many workgroups": (8, 16, 16)}[form]
    assert tuple(constants[key] for key in ("TILE_ROWS", "TILE_COLUMNS", "SLICES")) == wanted
