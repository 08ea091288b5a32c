"""The tiled linear kernel in each of its forms: however a result is shared out, it is the same product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.ops import linear as linear_module
from lora_lab.ops.linear import LoraPair, linear
from lora_lab.ops.tiling import RESIDENT_BYTES, Tiling, tiling
from tests import reference
from tests.close import check_op
from tests.gpu.test_op_linear import weight_on

TILINGS = [Tiling(rows, slices, parts) for rows in (64, 32) for slices in (1, 2, 4) for parts in (1, 3)]
TILINGS += [Tiling(128, slices, parts) for slices in (1, 2) for parts in (1, 3)]
TILINGS += [Tiling(256, 1, parts) for parts in (1, 3)]


@pytest.fixture
def tiled(device: Device) -> Iterator[Device]:
    """The device with the kernels that GPUs get."""
    before = device.use_workgroup_memory
    device.use_workgroup_memory = True
    yield device
    device.use_workgroup_memory = before


@pytest.mark.parametrize("form", TILINGS, ids=lambda t: f"{t.tile_rows}rows-{t.slices}slices-{t.parts}parts")
@pytest.mark.parametrize(
    ("rows", "out", "inner", "rank"), [(70, 133, 96, 3), (33, 200, 160, 20), (129, 65, 96, 0), (140, 132, 96, 4)]
)
def test_every_tiling(
    tiled: Device, monkeypatch: pytest.MonkeyPatch, form: Tiling, rows: int, out: int, inner: int, rank: int
) -> None:
    monkeypatch.setattr(linear_module, "tiling", lambda *_: form)
    rng = np.random.default_rng(rows)
    inputs = {"x": rng.normal(size=(rows, inner))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank, inner)), "b": rng.normal(size=(out, rank))}
    with weight_on(tiled, "q4_1", (out, inner)) as (weight, values):

        def build(tape, t):
            return linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 0.75) if rank else None)

        def backward(dy, x, a=None, b=None):
            return {"x": reference.linear_backward(dy, x, values, a, b, 0.75)["x"]}

        check_op(tiled, build, inputs, lambda x, a=None, b=None: reference.linear(x, values, a, b, 0.75), backward)


@pytest.mark.parametrize("out", [76, 77], ids=["vectors", "scalars"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_residual_joins_the_result(
    each_device: Device, monkeypatch: pytest.MonkeyPatch, parts: int, out: int
) -> None:
    """y = residual + x WT + u BT, and the residual's gradient is dy itself."""
    monkeypatch.setattr(linear_module, "tiling", lambda *_: Tiling(64, 1, parts))
    rng = np.random.default_rng(out)
    inputs = {
        "x": rng.normal(size=(70, 96)), "r": rng.normal(size=(70, out)), "a": rng.normal(size=(4, 96)),
        "b": rng.normal(size=(out, 4)),
    }  # fmt: skip
    with weight_on(each_device, "q4_1", (out, 96)) as (weight, values):

        def build(tape, t):
            return linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 0.75), residual=t["r"])

        def backward(dy, x, r, a, b):
            return {"x": reference.linear_backward(dy, x, values, a, b, 0.75)["x"], "r": dy}

        def forward(x, r, a, b):
            return r + reference.linear(x, values, a, b, 0.75)

        check_op(each_device, build, inputs, forward, backward)


SHAPES = [(m, n, k) for m in (33, 128, 512, 4096) for n in (192, 576, 1536, 49152) for k in (576, 1536, 49152)]


def test_the_choice_covers_every_form() -> None:
    """Small and large results, short and long sums: each way of sharing out is chosen somewhere."""
    chosen = {tiling(*shape) for shape in SHAPES}
    assert {t.tile_rows for t in chosen} == {32, 64, 128, 256}
    assert 256 not in {tiling(*shape, RESIDENT_BYTES, False).tile_rows for shape in SHAPES}
    assert {t.slices for t in chosen} == {1, 2, 4}
    assert any(t.parts > 1 for t in chosen) and any(t.parts == 1 for t in chosen)
    assert tiling(128, 576, 49152).parts > 1, "the output layer's backward has a long sum and few results"


@pytest.mark.parametrize("room", [16_384, 32_768, RESIDENT_BYTES])
def test_a_choice_fits_and_leaves_no_part_idle(room: int) -> None:
    for rows, columns, inner in [*SHAPES, (1, 4, 4), (5, 8, 20), (4096, 49152, 64)]:
        form = tiling(rows, columns, inner, room)
        assert form.workgroup_bytes <= room
        assert (form.parts - 1) * form.part(inner) < inner <= form.parts * form.part(inner)


def test_the_choices_are_the_ones_measured() -> None:
    """The best of 30 forms on an H100 or one within 10 % of it (docs/performance.md), by (rows, columns, inner)."""
    measured = {
        (4096, 3072, 576): {(256, 1), (128, 1)},
        (4096, 960, 576): {(256, 1)},
        (4096, 576, 3072): {(128, 1)},
        (4096, 576, 576): {(64, 1)},
        (512, 960, 576): {(64, 2), (32, 2)},
        (512, 576, 3072): {(64, 1), (128, 1), (64, 2), (32, 1)},
        (128, 576, 576): {(32, 4), (32, 2), (64, 2)},
    }
    for shape, best in measured.items():
        form = tiling(*shape)
        assert (form.tile_rows, form.slices) in best, f"{shape}: {form}"
