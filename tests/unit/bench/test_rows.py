"""The benchmark's arithmetic: ratios, the floor, the table, and what makes a result file a result."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from bench.baseline import LAYERS, MATMUL_ROWS, STEPS
from bench.rows import (
    Peaks,
    Row,
    Work,
    baseline_value,
    check_result,
    choose_peak,
    complete,
    kernel_table,
    number,
    table,
)
from bench.suite import Sizes, product_shapes
from bench.synthetic import SMOLLM2_135M
from build_tools.base import ROOT

PEAKS = Peaks(tflops=50.0, gb_per_s=2000.0, dispatch_us=5.0, source="cuBLAS f32")
BASELINE: dict[str, Any] = {
    "steps": {"1x512": {"ms": 200.0, "peak_mib": 2000.0}},
    "matmul": {"512x576x960": 30.0, "4096x4096x4096": 51.0},
    "rows": {"decode": 16.0, "prefill 1024": 30.0, "decode adapter share": 0.5},
}


def result() -> dict[str, Any]:
    rows = [Row("step 1x512", 50.0, "ms", 200.0, 0.25, 0.2), Row("decode", 320.0, "tokens/s")]
    about = {"adapter": "A GPU", "date": "2026-11-22", "commit": "abc", "host": "Node"}
    return {**about, "rows": [row.to_json() for row in rows]}


def test_the_floor_is_the_sum_of_its_three_parts() -> None:
    work = Work(flops=100e9, bytes=4e9, dispatches=200)
    assert PEAKS.floor_ms(work) == pytest.approx(2.0 + 2.0 + 1.0)
    assert PEAKS.floor_ms(work.times(3)) == pytest.approx(15.0)
    assert PEAKS.floor_ms(work + work - work) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("row", "share"),
    [
        (Row("step 1x512", 10.0, "ms", work=Work(100e9, 4e9, 200)), 0.5),
        (Row("decode", 100.0, "tokens/s", work=Work(100e9, 4e9, 200)), 0.5),
        (Row("matmul 512x576x960 q4_1", 25.0, "TFLOP/s", work=Work(100e9)), 0.5),
        (Row("memory 1x512", 700.0, "MiB"), None),
    ],
)
def test_a_share_of_the_floor_is_floor_over_time_whatever_the_unit(row: Row, share: float | None) -> None:
    complete([row], {}, PEAKS)
    assert row.floor_share == (None if share is None else pytest.approx(share))


def test_a_share_needs_peaks_and_a_time() -> None:
    row = Row("step 1x512", 10.0, "ms", work=Work(100e9))
    complete([row], {}, None)
    assert row.floor_share is None
    with pytest.raises(ValueError, match="is in MiB, which is no time"):
        _ = Row("memory 1x512", 1.0, "MiB", work=Work(1)).time_ms


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("step 1x512", 200.0),
        ("memory 1x512", 2000.0),
        ("memory 1x512 recompute", 2000.0),
        ("matmul 512x576x960 q4_1", 30.0),
        ("matmul 512x576x960 f16 backward", 30.0),
        ("decode", 16.0),
        ("step 1x128", None),
        ("first step 1x512", None),
        ("step drift 1000", None),
        ("matmul 512x960x576 q4_1", None),
    ],
)
def test_each_row_meets_its_own_figure_of_pytorch(name: str, theirs: float | None) -> None:
    assert baseline_value(name, BASELINE) == theirs
    row = Row(name, 100.0, "ms")
    complete([row], BASELINE, None)
    assert row.ratio == (None if theirs is None else pytest.approx(100.0 / theirs))


def test_pytorch_measures_every_product_and_step_that_we_do() -> None:
    shapes = product_shapes(SMOLLM2_135M)
    assert list(LAYERS) == shapes == [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49152)]
    assert Sizes().products == MATMUL_ROWS
    assert sorted(Sizes().steps) == sorted(STEPS)


def test_the_peak_is_cublas_or_else_our_own_best_and_says_so() -> None:
    rows = [Row("matmul a", 12.0, "TFLOP/s"), Row("matmul b", 20.0, "TFLOP/s"), Row("copy", 3000.0, "GB/s")]
    assert choose_peak(rows, BASELINE) == (51.0, "cuBLAS f32, 4096x4096x4096")
    tflops, source = choose_peak(rows, {})
    assert tflops == 20.0
    assert "our own best product, matmul b" in source
    assert math.isnan(choose_peak([], {})[0])


def test_a_good_result_has_nothing_wrong() -> None:
    assert check_result(result()) == []


def test_every_fault_of_a_result_is_named() -> None:
    def fault(change: Any) -> list[str]:
        broken = deepcopy(result())
        change(broken)
        return check_result(broken)

    assert fault(lambda r: r.pop("commit")) == ["`commit` is missing"]
    assert fault(lambda r: r.update(rows=[])) == ["`rows` holds no row"]
    assert fault(lambda r: r["rows"][0].pop("ratio")) == ["row step 1x512: `ratio` is missing"]
    assert fault(lambda r: r["rows"][0].update(value="fast")) == [
        "row step 1x512: its value is 'fast'; wanted a number"
    ]
    assert fault(lambda r: r["rows"][0].update(floor_share="all")) == [
        "row step 1x512: floor_share is 'all'; wanted a number or null"
    ]
    assert fault(lambda r: r["rows"].append(r["rows"][0])) == ["row step 1x512 is there twice"]
    assert fault(lambda r: r.update(curves={"rank": [[4]]})) == ["curve rank: wanted [x, ms] pairs"]


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("*.json")), ids=lambda path: path.name)
def test_every_result_in_the_repository_is_one(path: Path) -> None:
    assert check_result(json.loads(path.read_text())) == []


def test_the_table_shows_each_row_with_what_is_known_of_it() -> None:
    lines = table(result()).splitlines()
    assert lines[0] == "A GPU  (Node, 2026-11-22, commit abc)"
    assert lines[2].split() == ["what", "ours", "PyTorch", "ratio", "of", "the", "floor"]
    assert lines[3].split() == ["step", "1x512", "50.0", "ms", "200", "ms", "0.250", "20", "%"]
    assert lines[4].split() == ["decode", "320", "tokens/s"]


def test_the_time_by_kernel_adds_up() -> None:
    entry = {"kernel": "linear", "ms": 3.0, "dispatches": 2, "gflops_per_s": 10.0, "gb_per_s": 1.0}
    text = kernel_table({"step 1x512": [entry, {**entry, "kernel": "rope", "ms": 1.0}]})
    assert "step 1x512: 4.00 ms in kernels" in text
    assert [line.split()[1] for line in text.splitlines()[3:]] == ["75.0%", "25.0%"]


def test_figures_have_the_digits_that_count() -> None:
    found = [number(value) for value in (1234.6, 12.34, 1.234, 0.1234, 0.0, None, math.nan)]
    assert found == ["1,235", "12.3", "1.23", "0.123", "0.00", "", ""]
    assert number(9.5, "ms") == "9.50 ms"
