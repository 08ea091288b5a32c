"""Every option of the benchmark's scripts and of build.py, each in a run: with a tiny model, or stand-ins for CUDA,
Chromium and the site. bench/run.py's are in tests/gpu/test_bench_run.py, run.sh's in test_bundle.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import build
import build_tools.site
from bench import baseline, startup, write_model
from bench import run as suite_run
from build_tools import bench, bench_bundle, bench_docs, environment, locks, page, protocol_types, settings_docs
from build_tools.base import ROOT
from build_tools.hub import HubSite
from tests.bench_options import RUNS, commands_of, options_used, parser_of

SCRIPTS: dict[str, Callable[[], object]] = {
    "bench.baseline": baseline.main,
    "bench.run": lambda: suite_run.parse([]),
    "bench.startup": startup.main,
    "bench.write_model": write_model.main,
    "build.py": lambda: build.parse_arguments([]),
}
CASES = [pytest.param(name, run, id=f"{name} {' '.join(run)}") for name, runs in RUNS.items() for run in runs]
BASELINE, STARTUP, BUILD = (
    [case for case in CASES if str(case.values[0]).startswith(name)]
    for name in ("bench.baseline", "bench.startup", "build.py")
)


def test_every_option_has_a_run() -> None:
    found = dict(pair for name, start in SCRIPTS.items() for pair in commands_of(parser_of(start), name))
    assert set(found) == set(RUNS)
    for name, options in found.items():
        assert options_used(name) - {"-k"} == options, name
    assert len(found["build.py bench"]) == 8, "the control: they are seen"


def test_every_script_that_takes_options_is_known() -> None:
    scripts = [*(ROOT / "bench").glob("*.py"), *(ROOT / "build_tools").glob("*.py"), ROOT / "build.py"]
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in scripts
             if "ArgumentParser(" in path.read_text(encoding="utf-8")}  # fmt: skip
    assert found == {name.removesuffix(".py") for name in SCRIPTS}


# --- bench.baseline: CUDA played by the CPU ---


class Graph:
    """A CUDA graph that was recorded by doing it once."""

    def replay(self) -> None:
        pass


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.record = self.elapsed = lambda: None

    def elapsed_time(self, end: Event) -> float:
        return 1.0


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A tiny model and tiny shapes on the CPU; torch.compile without its compiler. Gives the modes compiled in."""
    sizes = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048}  # fmt: skip
    for name, shape in baseline.SHAPES.items():
        monkeypatch.setitem(baseline.SHAPES, name, {**shape, **sizes})
    small = {"DEVICE": "cpu", "STEPS": ((1, 8),), "TOKENS": (4, 8),
             "BATCHES": (1, 2), "LAYERS": ((8, 16),), "MATMUL_ROWS": (4,), "PEAK": 16, "GRAPHED": 2,
             "COMPILED": ((1, 4, "reduce-overhead"), (2, 4, "default"))}  # fmt: skip
    for name, value in small.items():
        assert hasattr(baseline, name)
        monkeypatch.setattr(baseline, name, value)
    times = itertools.count(1)

    def one_ms_more(run: Callable[[], object], *_: object) -> float:
        """Do it; a busy machine's times may not even be in order, and a pace is the difference of two."""
        run()
        return float(next(times))

    monkeypatch.setattr(baseline, "median_ms", one_ms_more)

    def is_available() -> bool:
        return sys._getframe(1).f_globals["__name__"] == baseline.__name__  # torch itself knows better

    stand_ins: dict[str, Any] = {
        "is_available": is_available, "reset_peak_memory_stats": lambda: None, "max_memory_allocated": lambda: 1 << 20,
        "synchronize": lambda: None, "empty_cache": lambda: None, "get_device_name": lambda: "no GPU",
        "Stream": object, "stream": contextlib.nullcontext, "graph": contextlib.nullcontext, "CUDAGraph": Graph,
        "Event": Event,
    }  # fmt: skip
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    modes: list[str] = []
    compile_ = torch.compile

    def compile_without_gcc(model: Any, mode: str) -> Any:
        modes.append(mode)
        return compile_(model, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_without_gcc)
    yield modes
    torch._dynamo.reset()


@pytest.mark.parametrize(("name", "run"), BASELINE)
def test_baseline(
    name: str,
    run: list[str],
    cuda: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "b.json"
    monkeypatch.setattr(sys, "argv", ["bench.baseline", *(str(out) if word == "OUT" else word for word in run)])
    assert baseline.main() == 0
    printed = capsys.readouterr().out
    if "--check" in run:
        assert printed == ""
        return
    result = json.loads(out.read_text() if "--out" in run else printed[printed.index("{\n") :])
    assert result["shape"] == ("qwen3-0.6b" if "--shape" in run else "smollm2-135m")
    assert set(result["steps"]) == {"1x8"}
    assert set(result["matmul"]) == {"16x16x16", "4x8x16", "4x16x8"}
    assert result["rows"]["decode"] == result["rows"]["decode adapter"] == 32_000
    assert bool(result["curves"]) is ("--quick" not in run)
    assert set(result.get("bf16", {})) == ({"steps", "rows"} if "--bf16" in run else set())
    assert cuda == (["reduce-overhead", "default"] if "--compile" in run else [])
    if "--compile" in run:
        assert {tuple(sorted(one)) for one in result["compiled"].values()} == {("ms", "peak_mib", "whole_s")}


def test_a_time_is_the_median_of_at_least_so_many_runs() -> None:
    runs: list[int] = []
    assert 0 <= baseline.median_ms(lambda: runs.append(1), 0.0, warm=2, least=3) < 60_000
    assert len(runs) == 5


def test_baseline_without_cuda(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.baseline", "--check"])
    assert baseline.main() == baseline.MISSING
    assert capsys.readouterr().err == "torch finds no CUDA device\n"


# --- bench.startup: Chromium played by an object ---


class Browser:
    """A Chromium whose every page is ready at once. `seen`: what was asked of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.chromium = self.browser = self
        self.version, self.pages = "1.0", [self]

    def launch_persistent_context(self, profile: str, executable_path: str, args: list[str]) -> Browser:
        self.seen.append(executable_path)
        return self

    def evaluate(self, code: str) -> Any:
        phases = [{"who": "train", "name": "wheels", "start_ms": 1, "end_ms": 3}]
        return {"ready_ms": 5, "chat_ready_ms": 6, "phases": phases} if "loraLabStartup" in code else 7.0

    def goto(self, url: str) -> None:
        self.seen.append(url)

    def reload(self) -> None:
        self.seen.append("reload")

    def get_by_test_id(self, name: str) -> Any:
        return SimpleNamespace(click=lambda: None, inner_text=lambda: "A GPU")

    def new_page(self) -> Browser:
        return self

    def wait_for_function(self, *_: object, **__: object) -> None:
        pass

    wait_for_timeout = wait_for_function
    close = wait_for_function


@pytest.mark.parametrize(("name", "run"), STARTUP)
def test_startup(name: str, run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, out = Browser(), tmp_path / "s.json"
    monkeypatch.setattr(startup, "sync_playwright", lambda: contextlib.nullcontext(browser))
    monkeypatch.setattr(startup, "find_browser", lambda: "/found/browser")
    words = {"OUT": str(out), "DIST": str(tmp_path)}
    monkeypatch.setattr(sys, "argv", ["bench.startup", *(words.get(word, word) for word in run)])
    startup.main()
    program, url, *reloads = browser.seen
    assert program == ("/a/browser" if "--browser" in run else "/found/browser")
    assert url.endswith("/?model=one") is ("--model" in run)
    assert len(reloads) == (2 if "--runs" in run else 3)
    assert out.exists() is ("--json" in run)


# --- build.py ---


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A project's folder to clean, and what the parts that take minutes were asked for."""
    asked: dict[str, Any] = {"runs": []}

    class Server:
        def __init__(self, folder: Path, port: int, *, with_headers: bool) -> None:
            asked.update(folder=folder, port=port, with_headers=with_headers)
            self.url = "http://here/"

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def serve_forever(self) -> None:
            raise KeyboardInterrupt

    def build_site(dist: Path, **named: Any) -> dict[str, Any]:
        asked.update(dist=dist, **named)
        return {}

    def run_suite(host: str, arguments: list[str]) -> int:
        parsed = suite_run.parse(arguments)
        asked["runs"].append((host, parsed))
        rows = [{"name": "x", "value": 1.0, "unit": "ms", "baseline": None, "ratio": None, "floor_share": None}]
        result = {"adapter": "A", "date": "2026-11-22", "commit": parsed.commit, "host": host, "rows": rows}
        parsed.out.write_text(json.dumps(result))
        return 0

    def run_tests(rest: list[str]) -> int:
        asked["rest"] = rest
        return 0

    stand_ins: list[tuple[Any, str, Any]] = [
        (build, "inside_venv", lambda: True), (build, "ensure_venv", lambda: None), (build, "run_tests", run_tests),
        (build, "SiteServer", Server), (build_tools.server, "SiteServer", Server),
        (build_tools.site, "build_site", build_site), (build, "ROOT", tmp_path), (build, "CACHE", tmp_path / "cache"),
        (build, "VENV", tmp_path / "cache" / "venv"), (bench, "CACHE", tmp_path / "cache"),
        (bench, "RESULTS", tmp_path / "results"), (bench, "run_native", lambda words: run_suite("native", words)),
        (bench, "run_node", lambda words: run_suite("node", words)),
        (bench, "run_baseline", lambda out, options: asked.update(baseline_quick=options.quick) or out),
        (bench_bundle, "bundle_files", lambda: {"run.sh": b"#!/bin/sh\n"}),
        (bench_docs, "PAGE", tmp_path / "docs" / "performance.md"), (bench_docs, "ROOT", tmp_path),
        (locks, "write_locks", lambda upgrade: asked.update(upgrade=upgrade)),
        (settings_docs, "PAGE", tmp_path / "docs" / "settings.md"), (settings_docs, "ROOT", tmp_path),
        (environment, "ensure_test_packages", lambda: None), (protocol_types, "TARGET", tmp_path / "protocol.ts"),
        (page, "check_types", lambda: SimpleNamespace(stdout="", returncode=0)),
    ]  # fmt: skip
    for owner, name, value in stand_ins:
        monkeypatch.setattr(owner, name, value)
    for name in ("dist/index.html", "cache/venv/python", "cache/bench/x", "docs/x", "results/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "docs" / "performance.md").write_text("<!-- bench: old -->\n<!-- /bench -->\n")
    return asked


@pytest.mark.parametrize(("name", "run"), BUILD)
def test_build(
    name: str,
    run: list[str],
    house: dict[str, Any],
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model is named as people do, from the folder they are in."""
    monkeypatch.chdir(tiny_model_folder.parent)
    marker = bench_docs.BEGIN.search((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    assert marker is not None
    result = tmp_path / "results" / "r.json"
    result.write_bytes((ROOT / marker[1]).read_bytes())
    out, dist, model = tmp_path / "out.json", tmp_path / "site", tiny_model_folder.name
    words = {"OUT": str(out), "DIST": str(dist), "MODEL": f"./{model}", "RESULT": str(result),
             "one=MODEL": f"one={model}"}  # fmt: skip
    command = name.removeprefix("build.py ")
    monkeypatch.setattr(sys, "argv", ["build.py", command, *(words.get(word, word) for word in run)])
    assert build.main() == 0
    used = set(run)
    if command in ("serve", "build"):
        assert house["dist"] == (dist if "--out" in used else tmp_path / "dist")
        assert house["with_model"] is ("--no-model" not in used)
        assert house["added_models"] == ([("one", tiny_model_folder)] if "--add-model" in used else [])
        other = HubSite("https://mirror.example/hf", ("https://storage.example",))
        assert house["hub"] == (None if "--no-hub" in used else other if "--hub" in used else HubSite())
    if command == "serve" or "--browser" in used:
        assert house["port"] == (0 if "--port" in used else build.DEFAULT_PORT)
    elif command == "test":
        assert house["rest"] == run
    elif command == "bench":
        check_bench(used, house, tiny_model_folder, tmp_path)
    elif command == "bench-bundle":
        assert out.stat().st_size > 0
    elif command == "bench-docs":
        assert re.search(r"bench: results/r\.json", (tmp_path / "docs" / "performance.md").read_text())
    elif command == "settings-docs":
        written, page = tmp_path / "docs" / "settings.md", ROOT / "docs" / "settings.md"
        assert written.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    elif command == "types":
        assert (tmp_path / "protocol.ts").read_text(encoding="utf-8") == protocol_types.make_types()
    elif command == "lock":
        assert house["upgrade"] is ("--upgrade" in used)
    elif command == "clean":
        assert not (tmp_path / "dist").exists()
        assert not (tmp_path / "cache" / "bench").exists()
        assert (tmp_path / "cache" / "venv").exists() is ("--all" not in used)


def check_bench(used: set[str], house: dict[str, Any], model: Path, folder: Path) -> None:
    """Check what the suite was asked for on each host, and where its results are."""
    both = "both" in used
    assert [host for host, _ in house["runs"]] == (["node", "native"] if both else ["node"])
    for host, parsed in house["runs"]:
        assert (parsed.quick, parsed.profile) == ("--quick" in used, "--profile" in used)
        assert parsed.baseline == (folder / "cache" / "bench" / "baseline.json" if "--baseline" in used else None)
        assert parsed.model == (str(model) if both else "tiny")
        written = folder / (f"out.{host}.json" if both else f"results/2026-11-22-a-{host}.json")
        assert json.loads(written.read_text())["host"] == host
    assert house.get("baseline_quick") is (True if both else None)
