"""The tiled linear kernel in each of its forms: however a result is shared out, it is the same product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.ops import linear as linear_module
from lora_lab.ops.linear import LoraPair, Tiling, linear, tiling
from tests import reference
from tests.close import check_op
from tests.gpu.test_op_linear import weight_on

TILINGS = [Tiling(rows, slices, parts) for rows in (64, 32) for slices in (1, 2, 4) for parts in (1, 3)]
TILINGS += [Tiling(128, slices, parts) for slices in (1, 2) for parts in (1, 3)]


@pytest.fixture
def tiled(device: Device) -> Iterator[Device]:
    """The device with the kernels that GPUs get."""
    before = device.use_workgroup_memory
    device.use_workgroup_memory = True
    yield device
    device.use_workgroup_memory = before


@pytest.mark.parametrize("form", TILINGS, ids=lambda t: f"{t.tile_rows}rows-{t.slices}slices-{t.parts}parts")
@pytest.mark.parametrize(("rows", "out", "inner", "rank"), [(70, 133, 96, 3), (33, 200, 160, 20), (129, 65, 96, 0), (140, 132, 96, 4)])
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


def test_the_choice_covers_every_form() -> None:
    """Small and large results, short and long sums: each way of sharing out is chosen somewhere."""
    shapes = [(m, n, k) for m in (33, 128, 512, 4096) for n in (192, 576, 1536, 49152) for k in (576, 1536, 49152)]
    chosen = {tiling(*shape) for shape in shapes}
    assert {t.tile_rows for t in chosen} == {32, 64}
    assert {t.slices for t in chosen} >= {1, 2, 4}
    assert any(t.parts > 1 for t in chosen) and any(t.parts == 1 for t in chosen)
    assert tiling(128, 576, 49152).parts > 1, "the output layer's backward has a long sum and few results"
