"""`build.py bench` and `bench-docs` without a GPU: files, pictures, the page."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import pytest

import build
from bench.browser import browser_name
from build_tools import bench, bench_docs
from build_tools.base import ROOT, BuildError
from build_tools.site import Site, _add_bench

EXAMPLE: dict[str, Any] = {
    "adapter": "A GPU", "date": "2026-11-22", "commit": "abc1234", "host": "Node + Dawn", "what": "A model",
    "baseline": "PyTorch 2", "left_out": ["step 8x512: no room"],
    "floor": {"tflops": 51.0, "gb_per_s": 2500.0, "dispatch_us": 5.0, "source": "cuBLAS f32"},
    "rows": [
        {"name": "step 1x512", "value": 50.0, "unit": "ms", "baseline": 200.0, "ratio": 0.25, "floor_share": 0.3},
        {"name": "matmul 512x576x576 q4_1", "value": 12.0, "unit": "TFLOP/s", "baseline": None, "ratio": None,
         "floor_share": None},
    ],
    "curves": {"tokens": [[64, 20.0], [2048, 150.0]], "rank": [[4, 50.0], [128, 60.0]]},
    "baseline_curves": {"tokens": [[64, 180.0], [2048, 400.0]]},
}  # fmt: skip


# --- the page about it ---


def test_the_page_is_what_its_result_says() -> None:
    """The marker names the result: written again from it, nothing may change. Control: another value does change it."""
    text = bench_docs.PAGE.read_text(encoding="utf-8")
    marker = bench_docs.BEGIN.search(text)
    assert marker is not None
    result = bench_docs.read_result(ROOT / marker[1])
    pictures = bench_docs.curve_pictures(result)

    def page() -> str:
        return bench_docs.replace_section(text, marker[1], bench_docs.section(result, marker[1], list(pictures)))

    assert page() == text
    for curve in bench_docs.CURVES:
        path = bench_docs.PAGE.parent / bench_docs.picture_name(curve)
        assert (path.read_text() if path.exists() else None) == pictures.get(curve)
    result["rows"][0]["value"] *= 2
    assert page() != text


def test_only_what_is_between_the_markers_is_written() -> None:
    text = "before\n<!-- bench: old.json -->\nold\n<!-- /bench -->\nafter\n"
    assert bench_docs.replace_section(text, "new.json", "new") == (
        "before\n<!-- bench: new.json -->\nnew\n<!-- /bench -->\nafter\n"
    )
    for broken in ("no markers", "<!-- /bench -->\n<!-- bench: x -->", "<!-- bench: x -->"):
        with pytest.raises(BuildError, match="put them where"):
            bench_docs.replace_section(broken, "new.json", "new")


def test_the_section_has_table_products_pictures_and_what_is_missing() -> None:
    text = bench_docs.section(EXAMPLE, "r.json", ["tokens"])
    assert "| step 1x512 | 50.0 ms | 200 ms | 0.250 | 30 % |" in text
    assert "| matmul 512x576x576 q4_1 | 12.0 TFLOP/s |" in text  # columns that nothing fills are left out
    assert "51.0 TFLOP/s (cuBLAS f32), 2,500 GB/s" in text
    assert "(curve-tokens.svg)" in text
    assert "- step 8x512: no room" in text
    alone = bench_docs.section({**EXAMPLE, "baseline": None, "left_out": []}, "r.json", [])
    assert "No PyTorch ran beside it." in alone
    assert "Left out" not in alone


def test_a_picture_is_svg_whose_points_are_the_json_s() -> None:
    pictures = bench_docs.curve_pictures(EXAMPLE)
    assert sorted(pictures) == ["rank", "tokens"]
    root = ElementTree.fromstring(pictures["tokens"])
    space = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points", "").split() for line in root.iter(f"{space}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    x, y = (float(number) for number in lines[0][1].split(","))
    # Axes from 0: 2,048 of 2,500 tokens across, 150 of 400 ms up.
    assert x == pytest.approx(52 + (420 - 52 - 16) * 2048 / 2500, abs=0.1)
    assert y == pytest.approx(34 + (260 - 34 - 40) * (1 - 150 / 400), abs=0.1)
    assert [text.text for text in root.iter(f"{space}text")].count("PyTorch + PEFT") == 1
    assert "PyTorch" not in pictures["rank"]


@pytest.mark.parametrize(("top", "last", "count"), [(2048, 2500, 6), (150, 150, 4), (0.7, 0.8, 5), (30, 30, 4)])
def test_ticks_are_round_and_reach_the_top(top: float, last: float, count: int) -> None:
    found = bench_docs.ticks(top)
    assert found[0] == 0
    assert found[-1] == pytest.approx(last)
    assert len(found) == count


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(BuildError, match="cannot be read"):
        bench_docs.read_result(path)
    path.write_text(json.dumps({"adapter": "x", "rows": [{"name": "a"}]}))
    with pytest.raises(BuildError, match=r"`date` is missing\n(.|\n)*row a: `value` is missing"):
        bench_docs.read_result(path)
    path.write_text(json.dumps(EXAMPLE))
    assert bench_docs.read_result(path)["adapter"] == "A GPU"
    with pytest.raises(BuildError, match="is outside the project"):
        bench_docs.write_docs(path)


# --- build.py bench ---


def test_results_are_named_after_day_adapter_and_host(tmp_path: Path) -> None:
    name = bench.result_path({"date": "2026-11-22", "adapter": "NVIDIA H100 80GB HBM3"}, "node").name
    assert name == "2026-11-22-nvidia-h100-80gb-hbm3-node.json"
    assert bench.out_path(tmp_path / "a.json", "node", ("node",)).name == "a.json"
    assert bench.out_path(tmp_path / "a.json", "node", bench.HOSTS).name == "a.node.json"


def test_a_baseline_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    poor = tmp_path / "python3"
    poor.write_text("#!/bin/sh\necho 'no torch (nowhere)' >&2\nexit 3\n")
    poor.chmod(0o755)
    monkeypatch.setattr(bench, "baseline_pythons", lambda: [str(poor)])
    with pytest.raises(BuildError, match=r"python3: no torch \(nowhere\)\n(.|\n)*leave --baseline out"):
        bench.run_baseline(tmp_path / "b.json", bench.BenchOptions(baseline=True))


def test_wrong_arguments_are_said_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError, match="does not exist"):
        bench.run_bench(bench.BenchOptions(out=tmp_path / "no" / "r.json"))
    with pytest.raises(BuildError, match=r"wanted a \.gguf file"):
        bench.run_bench(bench.BenchOptions(model=str(tmp_path / "no.gguf")))
    with pytest.raises(SystemExit):
        build.parse_arguments(["bench", "--browser", "--profile"])
    assert "--browser only serves" in capsys.readouterr().err
    parsed, _ = build.parse_arguments(["bench", "--baseline", "--quick", "--host", "node"])
    assert (parsed.baseline, parsed.quick, parsed.host) == (True, True, "node")


def test_the_site_has_the_page_and_its_python() -> None:
    sites = [Site(), Site()]
    for site in sites:
        _add_bench(site)
    files = sites[0].files
    assert {"bench/index.html", "bench/page.js", "bench/worker.js", "bench/page.css"} <= set(files)
    archive = files["bench/python.zip"]
    assert isinstance(archive, bytes)
    assert archive == sites[1].files["bench/python.zip"]
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert {"bench/__init__.py", "bench/suite.py", "bench/browser.py", "bench/copy.wgsl"} <= set(names)


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36", "Chrome 156"),
        ("Mozilla/5.0 (Windows) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge 140"),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15", "Safari 26"),
        ("Mozilla/5.0 (X11; rv:141.0) Gecko/20100101 Firefox/141.0", "Firefox 141"),
        ("curl", "an unknown browser"),
    ],
)
def test_browsers_are_told_apart(agent: str, name: str) -> None:
    assert browser_name(agent) == name
