"""`build.py bench-docs RESULT.json`: the table and the curves of one result, written into docs/ from its JSON alone.

In docs/performance.md only what stands between the two marker comments is written; the first names the result, so that
a test can write it again and see that page and JSON agree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rows import cells, check_result, number
from build_tools.base import ROOT, BuildError, say, write_bytes

PAGE = ROOT / "docs" / "performance.md"
TEMPLATE = Path(__file__).with_name("curve.svg.jinja")
BEGIN = re.compile(r"<!-- bench: (\S*) -->")
END = "<!-- /bench -->"
CURVES = {
    "tokens": ("Step time over tokens, 1 row", "tokens"),
    "batch": ("Step time over rows of 512 tokens", "rows"),
    "rank": ("Step time over the adapter's rank, 1 x 512", "rank"),
    "layers": ("Step time over layers, 1 x 512", "layers"),
}
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 52, 16, 34, 40, 420, 260


def read_result(path: Path) -> dict[str, Any]:
    """Return a result. Raises BuildError naming everything that is wrong with it."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} cannot be read as a result: {error}") from error
    problems = check_result(result) if isinstance(result, dict) else ["it is no JSON object"]
    if problems:
        raise BuildError(f"{path} is no result of the benchmark:\n" + "\n".join(f"  - {line}" for line in problems))
    return result


def write_docs(path: Path) -> None:
    """Write a result's pictures, and its table into docs/performance.md."""
    if not path.is_relative_to(ROOT):
        raise BuildError(f"{path} is outside the project: copy it into bench/results/ first, for the page will name it")
    result, name = read_result(path), path.relative_to(ROOT).as_posix()
    text = PAGE.read_text(encoding="utf-8")
    pictures = curve_pictures(result)
    changed = replace_section(text, name, section(result, name, list(pictures)))
    for curve in CURVES:
        (PAGE.parent / picture_name(curve)).unlink(missing_ok=True)
    for curve, svg in pictures.items():
        write_bytes(PAGE.parent / picture_name(curve), svg.encode())
    write_bytes(PAGE, changed.encode())
    say(f"docs/performance.md shows {name}, with {len(pictures)} curves")


def picture_name(curve: str) -> str:
    return f"curve-{curve}.svg"


def replace_section(text: str, name: str, body: str) -> str:
    """Return the page with what stands between its markers replaced. Raises BuildError where there are no markers."""
    begin, end = BEGIN.search(text), text.find(END)
    if begin is None or end < begin.end():
        raise BuildError(f"{PAGE.name} has no `<!-- bench: RESULT.json -->` with `{END}` after it: put them where "
                         "the table belongs")  # fmt: skip
    return f"{text[: begin.start()]}<!-- bench: {name} -->\n{body}\n{text[end:]}"


def section(result: Mapping[str, Any], name: str, curves: Sequence[str]) -> str:
    """Return the part between the markers: what was run, the table, the products, the pictures."""
    lines = [f"## {result['adapter']}, {result['date']}", ""]
    lines.append(f"{result.get('what', 'The benchmark')}. Ours: {result['host']}, commit {result['commit']}.")
    lines.append(f"{result['baseline']}." if result.get("baseline") else "No PyTorch ran beside it.")
    floor = result.get("floor")
    if floor:
        lines.append(
            f"The floor: {number(floor['tflops'])} TFLOP/s ({floor['source']}), {number(floor['gb_per_s'])} GB/s of a "
            f"copy, {number(floor['dispatch_us'])} us for an empty dispatch."
        )
    lines += [f"(`{name}`)", ""]
    rows = result["rows"]
    products = [row for row in rows if row["name"].startswith("matmul ")]
    lines += _table(("what", "ours", "PyTorch + PEFT", "ratio", "of the floor"), [r for r in rows if r not in products])
    if products:
        lines += ["", "The linear layers' products (rows x inner x columns; ratio: share of cuBLAS in f32):", ""]
        lines += _table(("product", "ours", "cuBLAS", "ratio", "of the floor"), products)
    if curves:
        lines.append("")
        lines += [f"![{CURVES[curve][0]}]({picture_name(curve)})" for curve in curves]
    if result.get("left_out"):
        lines += ["", "Left out:", "", *(f"- {line}" for line in result["left_out"])]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a markdown table; a column that no row fills is left out."""
    filled = [cells(row) for row in rows]
    kept = [i for i in range(len(head)) if i < 2 or any(line[i] for line in filled)]
    table = [head, ["---"] * len(head), *filled]
    return ["| " + " | ".join(str(line[i]) for i in kept) + " |" for line in table]


# --- pictures ---


def curve_pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the SVG of each curve that the result has, by its name."""
    theirs = result.get("baseline_curves", {})
    return {
        name: picture(title, axis, result["curves"][name], theirs.get(name, []))
        for name, (title, axis) in CURVES.items()
        if len(result.get("curves", {}).get(name, [])) > 1
    }


def ticks(top: float, wanted: int = 5) -> list[float]:
    """Return round numbers from 0 to at least `top`: multiples of 1, 2 or 5 times a power of ten."""
    rough = top / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def picture(title: str, axis: str, ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> str:
    """Return one curve as SVG, both axes linear and from 0, in colours that stand on light and on dark."""
    import jinja2

    every = [*ours, *theirs]
    xs, ys = ticks(max(x for x, _ in every)), ticks(max(y for _, y in every))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x: float) -> float:
        return round(LEFT + wide * x / xs[-1], 1)

    def up(y: float) -> float:
        return round(TOP + high * (1 - y / ys[-1]), 1)

    series = [
        {"name": name, "colour": colour, "points": [(across(x), up(y)) for x, y in points]}
        for name, colour, points in (("LoRA Lab", "#2f81f7", ours), ("PyTorch + PEFT", "#d9822b", theirs))
        if points
    ]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                  lstrip_blocks=True).from_string(TEMPLATE.read_text())  # fmt: skip
    return template.render(
        title=title, axis=axis, width=WIDTH, height=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP,
        bottom=HEIGHT - BOTTOM, series=series,
        x_ticks=[(across(x), f"{x:,.10g}") for x in xs], y_ticks=[(up(y), f"{y:,.10g}") for y in ys],
    ) + "\n"  # fmt: skip
