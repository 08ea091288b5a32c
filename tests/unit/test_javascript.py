"""What JavaScript answers: whatever it throws or rejects with comes to an end, and counts that are none are told."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lora_lab.javascript import JsError, call, count

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("value", [4294967288, -8, 10.5, float("nan"), float("inf"), True, None, "10", 10_312])
def test_a_count_that_is_none_is_no_count(value: Any) -> None:
    assert count(value, 10_311) is None


@pytest.mark.parametrize("value", [0, 5, 5.0, 10_311])
def test_a_count_is_a_whole_number_up_to_what_was_asked(value: Any) -> None:
    assert count(value, 10_311) == value


def test_what_a_stand_in_raises_is_an_error_of_javascript() -> None:
    class Blob:
        async def arrayBuffer(self) -> bytes:
            raise RuntimeError("gone")

        def size(self) -> int:
            return 4

    with pytest.raises(JsError, match="RuntimeError: gone"):
        asyncio.run(_await(call(Blob(), "arrayBuffer")))
    assert asyncio.run(_await(call(Blob(), "size"))) == 4


PROMISE = re.compile(
    r"await js\.|await [\w.]*\b(?:handle|blob|response|reader|access)\.\w+\(|"
    r"await .*\.(?:arrayBuffer|getFile|getFileHandle|read)\(\)\)|\bJsException\b"
)
SYNCHRONOUS = ["data/tokens/tokenizer.py"]  # JsException of a constructor: nothing is awaited there


def test_nothing_awaits_a_promise_but_through_call() -> None:
    package = ROOT / "app" / "py" / "lora_lab"
    found = [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if str(path.relative_to(package)) not in SYNCHRONOUS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PROMISE.search(line)
    ]
    assert found == [], "use lora_lab.javascript.call"


@pytest.mark.parametrize(
    "line",
    [
        "response = await js.fetch(url)", "estimate = await js.navigator.storage.estimate()",
        "return (await response.arrayBuffer()).to_bytes()", "chunk = await self.handle.getFileHandle(name)",
        "except JsException as error:",
    ],
)  # fmt: skip
def test_the_control_a_promise_awaited_plainly_is_found(line: str) -> None:
    assert PROMISE.search(line)


async def _await(answer: Any) -> Any:
    return await answer


def test_no_rejection_keeps_python_waiting(node_modules: Path) -> None:
    """In Pyodide itself; the control is the plain await, which never ends."""
    program = Path(__file__).with_name("javascript_pyodide.mjs")
    indexing = node_modules / "pyodide"
    done = subprocess.run(
        ["node", program, indexing, ROOT / "app"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["thrown"] == told["rejected"] == {
        "quota": ["QuotaExceededError", "full up"], "nothing": ["Error", "undefined"], "null": ["Error", "null"],
        "text": ["Error", "text"], "number": ["Error", "7"], "error": ["TypeError", "plain"],
    }  # fmt: skip
    assert told["value"] == 5
    assert told["plain await of a QuotaExceededError"] == "never ended"
