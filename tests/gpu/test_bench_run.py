"""bench/run.py with each of its options, and bench/first_step.py, at tiny shapes on a native device."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench import first_step, suite
from bench import run as suite_run
from bench.rows import check_result
from bench.shapes import SHAPES
from bench.synthetic import TINY
from bench.write_model import write_model
from tests.bench_options import RUNS

PRODUCTS, FEW = ([run for run in RUNS["bench.run"] if option in run] for option in ("--forms", "--steps-only"))
SUITE = [run for run in RUNS["bench.run"] if run not in PRODUCTS + FEW]


@pytest.mark.parametrize("run", SUITE, ids=" ".join)
def test_the_suite(
    run: list[str],
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model of one's own is measured at the shapes of a real one: here those of a try."""
    monkeypatch.setattr(suite, "Sizes", lambda: suite.TINY_SIZES)
    small = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 6, "head_dim": 32}
    monkeypatch.setitem(SHAPES, "gemma-3-1b", {**SHAPES["gemma-3-1b"], **small})
    out, baseline = tmp_path / "r.json", tmp_path / "b.json"
    baseline.write_text(json.dumps({"gpu": "theirs", "steps": {"1x32": {"ms": 10.0, "peak_mib": 2.0}}}))
    words = {"OUT": str(out), "BASELINE": str(baseline), "MODEL": str(tiny_model_folder)}
    code = asyncio.run(suite_run.run_and_close([words.get(word, word) for word in run]))
    printed = capsys.readouterr()
    assert code == 0, printed.err
    result: dict[str, Any] = json.loads(out.read_text())
    assert check_result(result) == []
    rows = {row["name"]: row for row in result["rows"]}
    if "--shape" in run:
        assert result["what"].startswith("gemma-3-1b's shape, Q4_K_M")
        assert not [name for name in rows if name.startswith("matmul")]
    elif "MODEL" in run:
        assert result["what"].startswith(f"{tiny_model_folder.name}, its own weights")
    else:
        assert result["what"].startswith("tiny's shape")
    assert result["commit"] == ("abc1234" if "--commit" in run else "unknown")
    assert (rows["step 1x32"]["baseline"], result["adapter"] == "theirs") == (
        (10.0, True) if "--baseline" in run else (None, False)
    )
    assert ("step drift 8" in rows, bool(result["curves"])) == (("--quick" not in run),) * 2
    by_kernel = "in kernels" in printed.out or "there is no time by kernel" in printed.out
    assert by_kernel is ("--profile" in run)


@pytest.mark.parametrize("run", PRODUCTS, ids=" ".join)
def test_products_of_several_forms(run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    assert asyncio.run(suite_run.run_and_close([{"OUT": str(out)}.get(word, word) for word in run])) == 0
    printed = capsys.readouterr().out
    assert "| ms (over q4_1) | q4_1 | q6_k | f16 |" in printed
    result: dict[str, Any] = json.loads(out.read_text())
    assert check_result(result) == []
    wanted = {
        f"matmul {rows}x{ins}x{outs} {form}{backward}"
        for rows in (8, 40) for ins in (256, 512) for outs in (256, 512)
        for form in ("q4_1", "q6_k", "f16") for backward in ("", " backward")
    }  # fmt: skip
    assert {row["name"] for row in result["rows"]} == wanted
    assert all(row["value"] > 0 and row["ms"] > 0 for row in result["rows"])


@pytest.mark.parametrize("run", FEW, ids=" ".join)
def test_a_few_steps(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that bench/write_model.py writes: what is planned is taken, and what is read becomes a loss."""
    monkeypatch.setattr(suite, "Sizes", lambda: suite.TINY_SIZES)
    out, path = tmp_path / "r.json", tmp_path / "a.gguf"
    write_model(path, TINY, "q8_0", "f16")
    words = {"OUT": str(out), "GGUF": str(path)}
    assert asyncio.run(suite_run.run_and_close([words.get(word, word) for word in run])) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["memory taken"]["value"] == rows["memory planned"]["value"] > 0
    losses = [rows[f"step {step} of 2"]["loss"] for step in (1, 2)]
    assert all(abs(loss - math.log(TINY.vocab_size)) < 0.5 for loss in losses)
    assert "heap growth process: " in capsys.readouterr().out


def test_an_unknown_form_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--out", str(tmp_path / "r.json"), "--forms", "q4_1,q9_9"]
    assert asyncio.run(suite_run.run_and_close(asked)) == 1
    assert capsys.readouterr().err.startswith("--forms: q9_9; wanted some of")


def test_what_is_no_model_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--out", str(tmp_path / "r.json"), "--model", str(tmp_path)]
    assert asyncio.run(suite_run.run_and_close(asked)) == 1
    assert capsys.readouterr().err.startswith("no files; wanted a .gguf file")


def test_a_model_s_own_weights_have_their_form(tiny_model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    asked = ["--out", str(tmp_path / "r.json"), "--model", str(tiny_model_folder), "--form", "q4_k"]
    assert asyncio.run(suite_run.run_and_close(asked)) == 1
    assert capsys.readouterr().err.startswith("--form q4_k is for random weights")


def test_the_first_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(first_step, "SMOLLM2_135M", TINY)
    monkeypatch.setattr(first_step.sys, "argv", ["bench.first_step", "2", "16"])
    asyncio.run(first_step.main(*first_step._arguments()))
    printed = capsys.readouterr().out
    assert printed.count("= first step after") == 4
    assert "2 x 16, kernels compiled ahead" in printed
    assert "left on the device: 0 buffers, 0 bytes" in printed
