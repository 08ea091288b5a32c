"""One Pyodide under Node for all tests of a file."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build_tools.base import CACHE, ROOT, FileHashes
from build_tools.environment import search_path
from build_tools.fetch import Fetcher
from build_tools.parts import pyodide_packages
from tests.unit.formats.helpers import Run

DRIVER = Path(__file__).with_name("formats") / "pyodide_driver.mjs"


@pytest.fixture(scope="module")
def in_pyodide(node_modules: Path) -> Iterator[Run]:
    """Call it with a program that defines main(); returns what that returns, out of JSON. All share one Pyodide."""
    pyodide = node_modules / "pyodide"
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        numpy_part = next(part for part in pyodide_packages(pyodide) if part.name.startswith("numpy-"))
        numpy_wheel = fetcher.obtain(numpy_part)
    node = shutil.which("node", path=search_path())
    assert node, "no node"
    command = [node, str(DRIVER), str(pyodide), str(numpy_wheel), str(ROOT)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    orders, answers = process.stdin, process.stdout

    def run(program: str, blob: Path | None = None, url: str = "", file: Path | None = None) -> Any:
        order = {"program": program, "blob": blob and str(blob), "url": url, "file": file and str(file)}
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        for line in answers:
            if line.startswith(("{", "[")):  # anything else is Pyodide talking
                answer = json.loads(line)
                assert "error" not in answer, answer["error"]
                return json.loads(answer["result"])
        raise AssertionError(f"Node ended with {process.wait()}")

    yield run
    orders.close()
    process.wait(timeout=30)
    answers.close()
