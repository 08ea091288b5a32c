"""The whole benchmark at tiny shapes on the session's device: every row is there, and nothing is left on the GPU.

Times of a software device mean nothing and none is judged.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from bench.micro import random_matrix, random_weight
from bench.rows import check_result
from bench.suite import Options, run_all
from bench.synthetic import random_rows
from lora_lab.formats.tensors import FORMS, dequantize
from lora_lab.gpu import Device, Pool, Tensor
from lora_lab.gpu.plan import Trace
from lora_lab.ops.elementwise import fill

WANTED = [
    "copy", "empty dispatch", "step 1x32", "first step 1x32", "memory 1x32", "python ms per step", "submit ms per step",
    "step 2x32", "decode", "prefill 32", "decode adapter", "decode adapter share", "step drift 8",
    "matmul 32x64x128 q4_1", "matmul 32x128x64 q4_1 backward", "matmul 32x64x512 f16",
]  # fmt: skip


@pytest.fixture(scope="module")
def result(device: Device) -> dict[str, Any]:
    before = (device.num_buffers, device.memory_in_use_bytes)
    saved: list[int] = []
    baseline = {"gpu": "theirs", "steps": {"1x32": {"ms": 10.0, "peak_mib": 2.0}}, "what": "made up for this test"}
    options = Options(tiny=True, profile=True, baseline=baseline, host="pytest")
    found = asyncio.run(run_all(device, options, lambda _: None, lambda result: saved.append(len(result["rows"]))))
    assert (device.num_buffers, device.memory_in_use_bytes) == before
    assert saved == sorted(saved)
    return {**found, "held_mib": before[1] / 2**20}  # by whatever ran on the session's device before


def test_every_row_is_there(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["rows"]}
    assert set(WANTED) <= set(rows)
    assert check_result(result) == []
    for name, row in rows.items():
        if row["unit"] != "%" and name != "python ms per step":
            assert row["value"] > 0, name
    assert rows["step 1x32"]["ratio"] == pytest.approx(rows["step 1x32"]["value"] / 10.0)
    assert rows["memory 1x32"]["ratio"] == pytest.approx(rows["memory 1x32"]["value"] / 2.0)
    assert rows["step 1x32"]["floor_share"] > 0


def test_the_memory_row_is_what_the_trainer_said(result: dict[str, Any]) -> None:
    """The device may hold a few small buffers of its own beside the run's; the run's plan must not be far from it."""
    (row,) = (row for row in result["rows"] if row["name"] == "memory 1x32")
    assert row["planned_mib"] <= row["value"] - result["held_mib"] < row["planned_mib"] + 0.1


def test_a_step_s_work_is_its_products_at_least(result: dict[str, Any]) -> None:
    """Forward and the gradient of the input through every linear layer and the head: 4 flops a weight and token."""
    (row,) = (row for row in result["rows"] if row["name"] == "step 1x32")
    weights = 2 * (64 * 128 + 64 * 64 + 64 * 384 + 192 * 64) + 64 * 512
    assert 4 * weights * 32 < row["work"]["flops"] < 12 * weights * 32
    assert row["work"]["dispatches"] > 50


def test_curves_have_their_points(result: dict[str, Any]) -> None:
    points = {name: [x for x, _ in points] for name, points in result["curves"].items()}
    assert points == {"tokens": [32, 64], "batch": [1, 2], "rank": [4, 8], "layers": [1, 2]}


def test_the_time_by_kernel_has_every_dispatch(result: dict[str, Any], device: Device) -> None:
    if "timestamp-query" not in device.features:
        assert result["kernels"] == {}
        return
    (row,) = (row for row in result["rows"] if row["name"] == "step 1x32")
    entries = result["kernels"]["step 1x32"]
    assert sum(entry["dispatches"] for entry in entries) == pytest.approx(row["work"]["dispatches"])
    assert entries == sorted(entries, key=lambda entry: -entry["ms"])


def test_a_profile_times_each_dispatch(device: Device) -> None:
    """A fill of a million floats takes longer than one of 64; more dispatches than fit into one query set."""
    sizes = [1 << 20, 64] * 1100
    buffer = device.create_buffer(4 << 20, "filled")
    trace = Trace()
    for size in sizes:
        fill(trace, Tensor((size,), buffer, 0, "filled"), 1.0)
    plan = asyncio.run(device.build(trace, Pool(device, "profile"), "profile"))
    times = asyncio.run(device.profile(plan))
    threes = asyncio.run(device.profile(plan, 3))
    plan.close()
    buffer.destroy()
    if "timestamp-query" not in device.features:
        assert times is None
        return
    assert times is not None
    assert len(times) == len(sizes)
    assert threes is not None
    assert len(threes) == -(-len(sizes) // 3), "three in a row share one time"
    assert 0 < np.median(times[1::2]) < np.median(times[::2]) < 1000


def test_random_inputs_fill_the_whole_matrix(device: Device) -> None:
    matrix = random_matrix(device, (3, 500_000))
    values = asyncio.run(device.download(matrix))
    matrix.buffer.destroy()
    assert np.isfinite(values).all()
    assert 0.99 < values.std() < 1.01
    assert values[2, -1] == values.reshape(-1)[values.size - 1 - (1 << 20)]


def test_random_weights_of_every_form_are_small_and_never_the_same(device: Device) -> None:
    """As in a model: a GPU's clock, and so its time, depends on the values."""
    for form in FORMS:
        weight = asyncio.run(random_weight(device, (8, 256), form))
        assert weight.form == form
        weight.tensor.buffer.destroy()
        values = dequantize(form, random_rows(np.random.default_rng(0), (8, 256), form), (8, 256))
        assert 0.01 < values.std() < 0.04, form
        assert np.abs(values).max() < 0.1, form
