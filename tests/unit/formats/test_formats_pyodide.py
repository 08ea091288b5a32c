"""The same code in Pyodide (under Node): every number and every string as in CPython, and quickly."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_tools.server import SiteHandler, SiteServer
from lora_lab.config import LoraConfig
from lora_lab.formats.byte_source import FileSource, sources_from_path
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.formats.zipping import pack_adapter
from lora_lab.model.files import ModelFiles, open_model
from tests.unit.formats.helpers import Run, serving

# What is compared: the settings, the tokenizer, where each tensor lies, and three tensors' decoded values.
SUMMARY = """
import dataclasses, hashlib, json, time

async def summary(model):
    places = [(t.name, t.shape, t.form, t.offset, t.size_bytes, t.head_permutation) for t in model.tensors.values()]
    names = ["model.norm.weight", "model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight"]
    values = [hashlib.sha256((await model.tensors[name].to_f32()).tobytes()).hexdigest() for name in names]
    return {
        "config": dataclasses.asdict(model.config),
        "tokenizer": hashlib.sha256(json.dumps(dataclasses.asdict(model.tokenizer)).encode()).hexdigest(),
        "places": hashlib.sha256(repr(places).encode()).hexdigest(),
        "values": values,
    }
"""


def summary(model: ModelFiles) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(SUMMARY, scope)
    result: dict[str, Any] = json.loads(json.dumps(asyncio.run(scope["summary"](model))))
    return result


def test_smollm2_from_a_blob(in_pyodide: Run, smollm2_path: Path) -> None:
    program = f"""{SUMMARY}
async def main():
    from lora_lab.formats.byte_source import BlobSource
    from lora_lab.model.files import open_model
    source = BlobSource(blob, "smollm2.gguf")
    begin = time.perf_counter()
    model = await open_model([source])
    elapsed_ms = 1000 * (time.perf_counter() - begin)
    return json.dumps({{**await summary(model), "elapsed_ms": elapsed_ms}})
"""
    found = in_pyodide(program, blob=smollm2_path)
    # Measured: 0.3 to 0.5 s with 49,152 tokens and 48,900 merges. A reading byte by byte takes ten times as long.
    assert found.pop("elapsed_ms") < 3000
    assert found == summary(asyncio.run(open_model([FileSource(smollm2_path)])))


@pytest.fixture
def plain_server(tiny_model_folder: Path) -> Iterator[str]:
    """A server that knows nothing of ranges and answers 200 with the whole file."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tiny_model_folder))

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    yield from serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler))


@pytest.fixture
def range_server(tiny_model_folder: Path) -> Iterator[str]:
    yield from serving(SiteServer(tiny_model_folder, port=0))


@pytest.mark.parametrize("kind", ["plain_server", "range_server"])
def test_a_folder_from_a_server(
    in_pyodide: Run, tiny_model_folder: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    program = f"""{SUMMARY}
async def main():
    from lora_lab.errors import LoraLabError
    from lora_lab.formats.byte_source import UrlSource
    from lora_lab.model.files import open_model
    files = {[path.name for path in tiny_model_folder.iterdir()]!r}
    model = await open_model([await UrlSource.open(url + name, f"tiny/{{name}}") for name in files])
    ranges = (await UrlSource.open(url + "model.safetensors"))._whole is None
    try:
        await UrlSource.open(url + "nothing.json")
    except LoraLabError as error:
        message = str(error)
    return json.dumps({{**await summary(model), "ranges": ranges, "message": message}})
"""
    url = request.getfixturevalue(kind)
    found = in_pyodide(program, url=url)
    assert found.pop("ranges") == (kind == "range_server")
    assert found.pop("message") == f"nothing.json: the server answered 404 for {url}nothing.json"
    expected = summary(asyncio.run(open_model(sources_from_path(tiny_model_folder))))
    expected["config"]["name"] = "tiny"
    assert found == expected


def test_a_file_that_changes_on_the_server(in_pyodide: Run, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(1000))
    (tmp_path / "empty.bin").write_bytes(b"")
    program = """
import json, os
from lora_lab.errors import LoraLabError
from lora_lab.formats.byte_source import UrlSource

async def main():
    empty = await UrlSource.open(url + "empty.bin")
    source = await UrlSource.open(url + "big.bin")
    before = bytes(await source.read(10, 5)).hex()
    import js
    await js.fetch(url + "change")
    try:
        await source.read(10, 5)
        message = "read"
    except LoraLabError as error:
        message = str(error)
    return json.dumps([empty.size_bytes, len(await empty.read(0, 0)), source.size_bytes, before, message])
"""

    class Handler(SiteHandler):
        def do_GET(self) -> None:
            if self.path == "/change":
                (tmp_path / "big.bin").write_bytes(bytes([1]) * 1000)
            super().do_GET()

    server = SiteServer(tmp_path, port=0)
    server.RequestHandlerClass = Handler
    for url in serving(server):
        found = in_pyodide(program, url=url)
    assert found[:4] == [0, 0, 1000, "00" * 5]
    assert found[4] == "big.bin: asked for a range, the server answered 200; the file has changed there"


def test_adapters_and_zips(in_pyodide: Run, tiny_model_folder: Path, tmp_path: Path) -> None:
    """An adapter packed by CPython is read, written and packed in Pyodide to the same bytes."""
    model = asyncio.run(open_model(sources_from_path(tiny_model_folder))).config
    lora = LoraConfig(rank=3, alpha=6)
    generator = np.random.default_rng(1)
    shapes = expected_shapes(lora, model)
    tensors = {key: generator.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    packed = pack_adapter(write_adapter(tensors, lora, model, "base"))
    (tmp_path / "adapter.zip").write_bytes(packed)
    program = f"""
import hashlib, json
from lora_lab.config import LinearLayer, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.peft import read_adapter, write_adapter
from lora_lab.formats.zipping import pack_adapter, unpack_adapter

async def main():
    data = (await blob.arrayBuffer()).to_bytes()
    model = ModelConfig(**{model.__dict__!r})
    lora, tensors = read_adapter(unpack_adapter(data), model)
    again = pack_adapter(write_adapter(tensors, lora, model, "base"))
    try:
        unpack_adapter(data[:-30])
    except AdapterError as error:
        message = str(error)
    return json.dumps([hashlib.sha256(again).hexdigest(), message])
"""
    digest, message = in_pyodide(program, blob=tmp_path / "adapter.zip")
    assert digest == hashlib.sha256(packed).hexdigest()
    assert message.startswith("the zip file is damaged")
