"""The data path in Pyodide, under Node, through the real JavaScript tokenizer: the same examples as in CPython."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from build_tools.base import CACHE, FileHashes
from build_tools.fetch import Fetcher
from build_tools.parts import JINJA2, markupsafe_wheel, pyodide_packages
from lora_lab.config import TrainConfig
from lora_lab.data import DataSource, build_report, read_dataset, read_table
from lora_lab.data.files.json_text import JsonFailure, load_json
from lora_lab.data.tokens.batches import batch_order
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import StreamDecoder, load_tokenizer
from lora_lab.train.schedule import run_layout
from tests.unit.data.corpus.cases import CASES as FILE_CASES
from tests.unit.data.corpus.row_cases import ROW_CASES
from tests.unit.data.helpers import ROOT, llama2_like_files, nfc_files, node_binary, read_template, run, smollm2_files
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.data.unigram_files import nmt_nfkc, spm_files, trained_files

CASES = [*FILE_CASES, *ROW_CASES]
pytestmark = pytest.mark.unit

# Combining marks of this Python's Unicode, and the blocks in which newer versions have more.
NEW_BLOCKS = (0x0890, 0x1AC0, 0x10D60, 0x10EF8, 0x11F40, 0x1E4E8)
MARKS = [chr(code) for code in range(0x300, 0x1E900) if unicodedata.combining(chr(code))]
MARKS += [chr(code) for start in NEW_BLOCKS for code in range(start, start + 16)]
random.Random(7).shuffle(MARKS)
RUNS_OF_MARKS = [f"e\u0301{''.join(MARKS[at : at + 30])}" for at in range(0, len(MARKS), 30)]

PROGRAM = """
import dataclasses, json, sys, time, types
import js
from lora_lab.config import TrainConfig
from lora_lab.data import DataSource, build_report, read_dataset, read_table
from lora_lab.data.tokens.batches import batch_order, make_batch, split_validation
from lora_lab.data.files.json_text import load_json
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import StreamDecoder, load_tokenizer
from lora_lab.train.schedule import run_layout

def stream(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    return [decoder.push(i) for i in ids] + [decoder.finish()]

async def one(order):
    files = types.SimpleNamespace(**order["files"])
    began = time.monotonic()
    tokenizer = load_tokenizer(files)
    loaded = time.monotonic()
    template = ChatTemplate(order["template"], files.special_tokens)
    ticks, progress = js.ticks, []
    dataset = await read_dataset(order["jsonl"], tokenizer, template, 256, lambda done, total: progress.append(done))
    done = time.monotonic()
    encoded = [tokenizer.encode(text) for text in order["texts"]]
    config = TrainConfig(batch=8, accumulate=1, packing=True)
    return {
        "layout": list(dataclasses.astuple(run_layout(dataset.examples, dataset.examples[:9], config))),
        "examples": [[e.tokens.tolist(), e.trained.tolist()] for e in dataset.examples],
        "report": dataset.report.as_dict(),
        "encoded": encoded,
        "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded],
        "with_special": tokenizer.encode("text", add_special_tokens=True),
        "streamed": [stream(tokenizer, ids) for ids in encoded[:200]],
        "order": batch_order(1000, 3, 4),
        "batch": make_batch(dataset.examples[:8]).trained_tokens,
        "split": [len(part) for part in split_validation(dataset.examples, 0.1, 0)],
        "host": [loaded - began, done - loaded, js.ticks - ticks, len(progress)],
    }

async def main():
    orders, files, texts = json.loads(input)
    answers = [await one(order) for order in orders]
    reports = []
    for name, raw in files:
        table = await read_table([DataSource.from_bytes(bytes.fromhex(raw), name)])
        reports.append(build_report(table).as_dict())
    loaded = [load_json(text) for text in texts]
    foreign = sorted({"torch", "tokenizers", "transformers", "safetensors", "gguf", "wgpu"} & set(sys.modules))
    return json.dumps([answers, foreign, sys.platform, reports, list(map(repr, loaded))])
"""


def _wheels(node_modules: Path) -> list[Path]:
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        numpy = next(part for part in pyodide_packages(node_modules / "pyodide") if part.name.startswith("numpy-"))
        return [fetcher.obtain(numpy), markupsafe_wheel(fetcher), fetcher.obtain(JINJA2)]


def _in_pyodide(node_modules: Path, orders: list[dict], files: list, texts: list[str]) -> Any:
    module = node_modules / "@huggingface/tokenizers/dist/tokenizers.min.mjs"
    driver = str(Path(__file__).with_suffix(".mjs"))
    wheels = [str(wheel) for wheel in _wheels(node_modules)]
    command = [node_binary(), driver, str(node_modules / "pyodide"), str(module), str(ROOT / "app/py"), *wheels]
    request = json.dumps({"program": PROGRAM, "input": json.dumps([orders, files, texts])})
    done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in answer, answer["error"]
    return answer["result"]


def _in_cpython(order: dict) -> dict:
    files = order["object"]
    tokenizer = load_tokenizer(files)
    template = ChatTemplate(order["template"], files.special_tokens)
    dataset = run(read_dataset(order["jsonl"], tokenizer, template, 256))
    encoded = [tokenizer.encode(text) for text in order["texts"]]
    streamed = []
    for ids in encoded[:200]:
        decoder = StreamDecoder(tokenizer)
        streamed.append([decoder.push(i) for i in ids] + [decoder.finish()])
    config = TrainConfig(batch=8, accumulate=1, packing=True)
    return {
        "layout": list(dataclasses.astuple(run_layout(dataset.examples, dataset.examples[:9], config))),
        "examples": [[e.tokens.tolist(), e.trained.tolist()] for e in dataset.examples],
        "report": json.loads(json.dumps(dataset.report.as_dict())),
        "encoded": encoded,
        "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded],
        "with_special": tokenizer.encode("text", add_special_tokens=True),
        "streamed": streamed,
        "order": batch_order(1000, 3, 4),
    }


def test_pyodide_gives_the_examples_that_cpython_gives(node_modules: Path) -> None:
    sample = (ROOT / "app/samples/lighthouse.jsonl").read_text(encoding="utf-8")
    texts = hostile_texts(500, seed=41)
    hostile = [{"prompt": text, "completion": other} for text, other in zip(texts, reversed(texts), strict=True)]
    jsonl = sample + "\n".join(json.dumps(row) for row in hostile) + '\n{"broken": \n{"text": "some text"}\n'
    orders = [
        {"object": smollm2_files(), "template": smollm2_files().chat_template, "jsonl": jsonl, "texts": texts},
        {"object": smollm2_files(), "template": read_template("marked_chatml"), "jsonl": sample, "texts": []},
        {
            "object": llama2_like_files(),
            "template": read_template("mistral_like"),
            "jsonl": sample,
            "texts": texts[:200],
        },
        # What Unicode knows of combining marks is another version's here than in CPython and in Rust.
        {
            "object": nfc_files(),
            "template": read_template("marked_chatml"),
            "jsonl": sample,
            "texts": [*texts[:50], *RUNS_OF_MARKS],
        },
        # Unigram is Python's work there: with SentencePiece's table, and with NFKC of another Unicode.
        {
            "object": spm_files(True, "always"),
            "template": read_template("marked_chatml"),
            "jsonl": sample,
            "texts": [*texts, *RUNS_OF_MARKS],
        },
        {
            "object": trained_files(True, nmt_nfkc(), pre_tokenizers.Metaspace(prepend_scheme="first")),
            "template": read_template("zephyr_like"),
            "jsonl": sample,
            "texts": [*texts[:200], *RUNS_OF_MARKS],
        },
    ]
    sent = [{**order, "files": dataclasses.asdict(order["object"]), "object": None} for order in orders]
    answers, foreign, platform, _, _ = _in_pyodide(node_modules, sent, [], [])
    assert platform == "emscripten"
    assert foreign == []
    assert answers[2]["with_special"][0] == 1  # <s>, which Llama 2's post-processor puts first
    for order, answer in zip(orders, answers, strict=True):
        for name, wanted in json.loads(json.dumps(_in_cpython(order))).items():
            assert answer[name] == wanted, name
    load_s, read_s, ticks, reports = answers[0]["host"]
    assert len(answers[0]["examples"]) > 500
    assert reports >= 5
    # The event loop of JavaScript ran while Python was reading: Stop gets through.
    assert ticks >= 3
    print(f"loaded the tokenizer in {load_s:.2f} s, read {len(answers[0]['examples'])} rows in {read_s:.2f} s")


def test_every_file_of_the_corpus_is_reported_as_in_cpython(node_modules: Path) -> None:
    """The same bytes, the same report: JSON, repairs, encodings, gzip and tables are the same in both hosts."""
    files = [(case.name, case.raw.hex()) for case in CASES if len(case.raw) < 1 << 20]
    texts = [
        case.raw.decode("utf-8", "replace") for case in CASES if len(case.raw) < 10_000 and b"e999" not in case.raw
    ]
    texts += ["[" * depth + "]" * depth for depth in (10, 200, 201, 5_000)] + [
        '"\\ud83d"',
        "-0.0",
        "1" * 4300,
    ]
    _, _, _, reports, loaded = _in_pyodide(node_modules, [], files, texts)
    assert len(files) > 100
    for (name, raw), found in zip(files, reports, strict=True):
        table = run(read_table([DataSource.from_bytes(bytes.fromhex(raw), name)]))
        assert found == json.loads(json.dumps(build_report(table).as_dict())), name
    values = [load_json(text) for text in texts]
    assert loaded == list(map(repr, values))
    assert 10 < sum(isinstance(value, JsonFailure) for value in values) < len(values) - 10
