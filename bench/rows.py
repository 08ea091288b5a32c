"""The benchmark's arithmetic: rows, what a PyTorch run says of them, the floor, the table and the JSON.

Needs nothing but Python, so that the build, the tests, Node and a browser page share it.

How the floor is counted. A piece of work is so many floating-point operations, so many bytes that have to move at
least once, and so many dispatches:

    floor = flops / peak  +  bytes / bandwidth  +  dispatches * cost of an empty dispatch

with all three rates measured on the same adapter. `floor_share` is floor / measured time: 1 is the best there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

ROW_KEYS = ("name", "value", "unit", "baseline", "ratio", "floor_share")
RESULT_KEYS = ("adapter", "date", "commit", "host", "rows")
PEAK_SHAPE = "4096x4096x4096"  # the product whose rate is taken for the peak of the f32 units
_STEP = re.compile(r"step (\d+x\d+)")
_MEMORY = re.compile(r"memory (\d+x\d+)( recompute)?")
_MATMUL = re.compile(r"matmul (\d+)x(\d+)x(\d+) (\w+)( backward)?")


@dataclass(frozen=True)
class Work:
    """What something has to do: floating-point operations, bytes moved at least once, dispatches."""

    flops: float = 0.0
    bytes: float = 0.0
    dispatches: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.dispatches + other.dispatches)

    def __sub__(self, other: Work) -> Work:
        return self + other.times(-1)

    def times(self, factor: float) -> Work:
        return Work(self.flops * factor, self.bytes * factor, self.dispatches * factor)


@dataclass(frozen=True)
class Peaks:
    """What the adapter can do at most: f32 products (`source`: who measured them), copies, empty dispatches."""

    tflops: float
    gb_per_s: float
    dispatch_us: float
    source: str

    def floor_ms(self, work: Work) -> float:
        """Return the least time that `work` can take, in ms."""
        compute_ms = work.flops / (self.tflops * 1e9)
        return compute_ms + work.bytes / (self.gb_per_s * 1e6) + work.dispatches * self.dispatch_us / 1e3


@dataclass
class Row:
    """One line of the table. `baseline` is PyTorch's value, `ratio` ours / PyTorch.

    `work` is what one unit of it does (a step, a token, a product), where there is a floor to hold it against.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    floor_share: float | None = None
    work: Work | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def time_ms(self) -> float:
        """The time that one unit of the work took. Raises ValueError for a row that is no time and no rate."""
        if self.unit == "ms":
            return self.value
        if self.unit == "tokens/s":
            return 1e3 / self.value
        if self.unit == "TFLOP/s" and self.work is not None:
            return self.work.flops / (self.value * 1e9)
        raise ValueError(f"the row {self.name} is in {self.unit}, which is no time")

    def to_json(self) -> dict[str, Any]:
        found = {key: getattr(self, key) for key in ROW_KEYS}
        if self.work is not None:
            found["work"] = asdict(self.work)
        return {**found, **self.more}


def baseline_value(name: str, baseline: Mapping[str, Any]) -> float | None:
    """Return what bench/baseline.py's figures say of our row `name`, in the row's unit; None where they say nothing."""
    if match := _STEP.fullmatch(name):
        return baseline.get("steps", {}).get(match[1], {}).get("ms")
    if match := _MEMORY.fullmatch(name):
        return baseline.get("steps", {}).get(match[1], {}).get("peak_mib")
    if match := _MATMUL.fullmatch(name):
        return baseline.get("matmul", {}).get(f"{match[1]}x{match[2]}x{match[3]}")
    return baseline.get("rows", {}).get(name)


def complete(rows: Sequence[Row], baseline: Mapping[str, Any], peaks: Peaks | None) -> None:
    """Fill in each row's baseline, ratio and share of the floor, from what is known."""
    for row in rows:
        row.baseline = baseline_value(row.name, baseline)
        row.ratio = row.value / row.baseline if row.baseline else None
        if half := baseline_value(row.name, baseline.get("bf16", {})):
            row.more |= {"baseline_bf16": half, "ratio_bf16": row.value / half}
        if row.work is not None and peaks is not None and row.value > 0:
            row.floor_share = peaks.floor_ms(row.work) / row.time_ms


def choose_peak(rows: Sequence[Row], baseline: Mapping[str, Any]) -> tuple[float, str]:
    """Return (TFLOP/s, where from): cuBLAS's where PyTorch ran beside us, else the best product of our own."""
    theirs = baseline.get("matmul", {}).get(PEAK_SHAPE)
    if theirs:
        return theirs, f"cuBLAS f32, {PEAK_SHAPE}"
    own = [row for row in rows if row.unit == "TFLOP/s"]
    if not own:
        return float("nan"), "no product was measured"
    best = max(own, key=lambda row: row.value)
    return best.value, f"our own best product, {best.name}: no PyTorch beside this run"


def check_result(result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a result file, one string a problem; empty when nothing is."""
    problems = [f"`{key}` is missing" for key in RESULT_KEYS if key not in result]
    rows = result.get("rows", [])
    if not isinstance(rows, list) or not rows:
        return [*problems, "`rows` holds no row"]
    seen: set[str] = set()
    for row in rows:
        name = row.get("name", "?")
        problems += [f"row {name}: `{key}` is missing" for key in ROW_KEYS if key not in row]
        if not isinstance(row.get("value"), (int, float)) or isinstance(row.get("value"), bool):
            problems.append(f"row {name}: its value is {row.get('value')!r}; wanted a number")
        for key in ("baseline", "ratio", "floor_share"):
            if not isinstance(row.get(key), (int, float, type(None))):
                problems.append(f"row {name}: {key} is {row.get(key)!r}; wanted a number or null")
        if name in seen:
            problems.append(f"row {name} is there twice")
        seen.add(name)
    for name, points in result.get("curves", {}).items():
        if not all(len(point) == 2 for point in points):
            problems.append(f"curve {name}: wanted [x, ms] pairs")
    return problems


def number(value: float | None, unit: str = "") -> str:
    """Return a figure as a person reads it: three digits that count, thousands apart."""
    if value is None or value != value:
        return ""
    magnitude = abs(value)
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 or not magnitude else 3
    text = f"{value:,.{digits}f}"
    return f"{text} {unit}" if unit else text


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return a row's name, our value, PyTorch's in f32, the ratio and the share of the floor, as text."""
    unit = row["unit"]
    share = row["floor_share"]
    theirs = number(row["baseline"], unit) if row["baseline"] is not None else ""
    floor = "" if share is None else f"{100 * share:.0f} %"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
    return row["name"], number(row["value"], unit), theirs, ratio, floor


def bf16_cells(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return PyTorch's value in bf16 and the ratio to it, as text."""
    if "baseline_bf16" not in row:
        return "", ""
    return number(row["baseline_bf16"], row["unit"]), f"{row['ratio_bf16']:.3f}"


def table(result: Mapping[str, Any]) -> str:
    """Return the table that is printed at the end of a run."""
    head = ["what", "ours", "PyTorch", "ratio", "of the floor"]
    lines = [head, *([*cells(row)] for row in result["rows"])]
    if result.get("baseline_bf16"):
        for line, row in zip(lines, [None, *result["rows"]], strict=True):
            line += ["bf16", "ratio"] if row is None else bf16_cells(row)
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [f"{result['adapter']}  ({result['host']}, {result['date']}, commit {result['commit']})", ""]
    for first, *rest in lines:
        figures = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        text.append("  ".join([first.ljust(widths[0]), *figures]).rstrip())
    return "\n".join(text)


def kernel_table(kernels: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the time by kernel of each profiled piece of work: what --profile prints."""
    text = []
    for what, entries in kernels.items():
        total = sum(entry["ms"] for entry in entries)
        text += ["", f"{what}: {total:.2f} ms in kernels",
                 f"{'ms':>9} {'share':>6} {'calls':>6} {'GFLOP/s':>9} {'GB/s':>8}  kernel"]  # fmt: skip
        for entry in entries:
            text.append(
                f"{entry['ms']:9.3f} {100 * entry['ms'] / total if total else 0:5.1f}% {entry['dispatches']:6.0f} "
                f"{entry['gflops_per_s']:9,.0f} {entry['gb_per_s']:8,.0f}  {entry['kernel']}"
            )
    return "\n".join(text)
