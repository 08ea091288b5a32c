"""What ends Python itself in WebAssembly, where natively it is an error: deep texts, deep templates. Under Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.helpers import ROOT, node_binary
from tests.unit.data.test_data_pyodide import _wheels
from tests.unit.data.tokens.hostile_templates import HOSTILE

TEMPLATES = (
    "a power", "a text of a gigabyte", "a constant of a gigabyte", "doubled by +", "a tree of lists",
    "a list in itself", "lists many levels deep", "blocks 30 deep", "blocks 120 deep", "brackets 140 deep",
    "brackets 5000 deep", "not, 5000 times", "a sum of 5000", "a chain of attributes",
    "a macro that calls itself for ever", "a recursive loop", "break outside of a loop", "5000 digits", "loops",
    "an error of 100 MB", "padded by the method format",
)  # fmt: skip
PROGRAM = """
import asyncio, json, sys
from lora_lab.data import DataSource, build_report, read_table
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.errors import LoraLabError
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.json_reader import read_json
from lora_lab.model.files import open_model

def said(work):
    try:
        work()
    except (LoraLabError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "nothing"

async def main():
    templates, deep = json.loads(input)
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes."}]
    answers = [said(lambda: ChatTemplate(source).render(messages)) for source in templates]
    read = []
    for text in deep:
        header = text.encode()
        read.append(said(lambda: read_json(text)))
        read.append(said(lambda: safetensors.read_header_of(len(header).to_bytes(8, "little") + header, "x")))
        try:
            files = [BytesSource(header, "m/config.json"), BytesSource(header, "m/tokenizer.json")]
            await open_model(files)
        except LoraLabError as error:
            read.append(f"{type(error).__name__}: {error}"[:200])
    rows = []
    for name in ("d.jsonl", "d.json", "d.csv", "d.txt"):
        for start in ("", "[", '{"text": "a', '{"a":\\n'):
            table = await read_table([DataSource.from_bytes(start + "\\n".join(deep) + '\\n{"text": "good"}', name)])
            rows.append(build_report(table).as_dict()["rows"])
    return json.dumps([sys.platform, answers, read, rows])
"""


@pytest.fixture(scope="module")
def answer(node_modules: Path) -> Any:
    module = node_modules / "@huggingface/tokenizers/dist/tokenizers.min.mjs"
    driver = str(Path(__file__).with_name("test_data_pyodide.mjs"))
    wheels = [str(wheel) for wheel in _wheels(node_modules)]
    command = [node_binary(), driver, str(node_modules / "pyodide"), str(module), str(ROOT / "app/py"), *wheels]
    deep = ["[" * 20_000 + "]" * 20_000, '{"a":' * 20_000 + "1" + "}" * 20_000, '["]",' * 20_000 + "1" + "]" * 20_000]
    request = json.dumps({"program": PROGRAM, "input": json.dumps([[HOSTILE[name] for name in TEMPLATES], deep])})
    done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in found, found["error"]
    platform, *answers = json.loads(found["result"]) if isinstance(found["result"], str) else found["result"]
    assert platform == "emscripten"
    return answers


def test_hostile_templates_are_refused(answer: Any) -> None:
    said = dict(zip(TEMPLATES, answer[0], strict=True))
    assert {
        name: words for name, words in said.items() if not words.startswith("TemplateError: the chat template")
    } == {}


def test_deep_files_are_refused(answer: Any) -> None:
    assert len(answer[1]) == 9 and all("nested" in words for words in answer[1])


def test_deep_datasets_are_read_to_their_end(answer: Any) -> None:
    assert len(answer[2]) == 16
