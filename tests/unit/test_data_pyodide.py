"""The data path in Pyodide, under Node, through the real JavaScript tokenizer: the same examples as in CPython."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from build_tools.base import CACHE, FileHashes
from build_tools.fetch import Fetcher
from build_tools.parts import JINJA2, markupsafe_wheel, pyodide_packages
from lora_lab.config import TrainConfig
from lora_lab.data import read_dataset
from lora_lab.data.batches import batch_order
from lora_lab.data.template import ChatTemplate
from lora_lab.data.tokenizer import StreamDecoder, load_tokenizer
from lora_lab.train.schedule import run_layout
from tests.unit.data_helpers import ROOT, llama2_like_files, node_binary, read_template, run, smollm2_files
from tests.unit.hostile_text import hostile_texts

pytestmark = pytest.mark.unit

PROGRAM = """
import dataclasses, json, sys, time, types
import js
from lora_lab.config import TrainConfig
from lora_lab.data import read_dataset
from lora_lab.data.batches import batch_order, make_batch, split_validation
from lora_lab.data.template import ChatTemplate
from lora_lab.data.tokenizer import StreamDecoder, load_tokenizer
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
    answers = [await one(order) for order in json.loads(input)]
    foreign = sorted({"torch", "tokenizers", "transformers", "safetensors", "gguf", "wgpu"} & set(sys.modules))
    return json.dumps([answers, foreign, sys.platform])
"""


def _wheels(node_modules: Path) -> list[Path]:
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        numpy = next(part for part in pyodide_packages(node_modules / "pyodide") if part.name.startswith("numpy-"))
        return [fetcher.obtain(numpy), markupsafe_wheel(fetcher), fetcher.obtain(JINJA2)]


def _in_pyodide(node_modules: Path, orders: list[dict]) -> Any:
    module = node_modules / "@huggingface/tokenizers/dist/tokenizers.min.mjs"
    driver = str(Path(__file__).with_suffix(".mjs"))
    wheels = [str(wheel) for wheel in _wheels(node_modules)]
    command = [node_binary(), driver, str(node_modules / "pyodide"), str(module), str(ROOT / "app/py"), *wheels]
    request = json.dumps({"program": PROGRAM, "input": json.dumps(orders)})
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
    ]
    sent = [{**order, "files": dataclasses.asdict(order["object"]), "object": None} for order in orders]
    answers, foreign, platform = _in_pyodide(node_modules, sent)
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
