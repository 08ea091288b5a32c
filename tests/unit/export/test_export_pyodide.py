"""Exports in Pyodide: the bytes are CPython's, and the heap, which never shrinks, grows by little for 460 MB."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.synthetic import published_shape
from bench.write_model import write_model
from lora_lab.config import LoraConfig
from lora_lab.export import open_base, plan_export
from lora_lab.export.plan import Going
from lora_lab.formats.byte_source import FileSource
from tests.unit.formats.helpers import Run

MOST_MIB = 300

PROGRAM = """
import hashlib, json
import numpy as np
import pyodide_js
from pyodide.ffi import to_js
from lora_lab.config import LoraConfig
from lora_lab.export import open_base, plan_export, write_files
from lora_lab.export import merge
from lora_lab.export.plan import Going
from lora_lab.formats.byte_source import BlobSource
from lora_lab.formats.peft import expected_shapes

merge.CHUNK_VALUES = {chunk_values}

class Sink:
    def __init__(self): self.digest, self.size = hashlib.sha256(), 0
    async def begin(self, name, size_bytes): pass
    async def write(self, piece):
        self.size += to_js(piece).byteLength
        self.digest.update(piece)
    async def end(self): pass
    async def commit(self): pass
    async def abandon(self): pass

async def main():
    def heap_mib(): return pyodide_js._module.HEAP8.length / 2**20
    base = await open_base([BlobSource(file, "model.gguf")])
    lora = LoraConfig(rank=4, alpha=8, targets=("k_proj",))
    tensors = {{key: np.full(shape, 0.01, np.float32) for key, shape in expected_shapes(lora, base.config).items()}}
    before = heap_mib()
    planned = await plan_export(base, Going(lora, tensors), "gguf", "same")
    sink = Sink()
    await write_files(planned.files, sink)
    return json.dumps([heap_mib() - before, sink.size, sink.digest.hexdigest()])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers and the vocabulary of a model of 4 billion weights: 460 MB in two K-quants, sparse on the disk."""
    path = tmp_path_factory.mktemp("large") / "model.gguf"
    write_model(path, replace(published_shape("qwen3-4b"), num_layers=3), "q4_k", "q6_k", sparse=True)
    return path


async def digest_here(path: Path) -> tuple[int, str]:
    from lora_lab.formats.peft import expected_shapes

    base = await open_base([FileSource(path)])
    lora = LoraConfig(rank=4, alpha=8, targets=("k_proj",))
    tensors = {key: np.full(shape, 0.01, np.float32) for key, shape in expected_shapes(lora, base.config).items()}
    planned = await plan_export(base, Going(lora, tensors), "gguf", "same")
    digest, size = hashlib.sha256(), 0
    async for piece in planned.files[0].pieces():
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def test_the_bytes_are_cpythons_and_the_heap_stays_small(model: Path, in_pyodide: Run) -> None:
    grown, size, digest = in_pyodide(PROGRAM.format(chunk_values=1 << 20), file=model)
    assert (size, digest) == asyncio.run(digest_here(model))
    assert size > 400 << 20
    assert grown < MOST_MIB


def test_a_whole_tensor_at_a_time_would_show(model: Path, in_pyodide: Run) -> None:
    """The control."""
    grown, _, _ = in_pyodide(PROGRAM.format(chunk_values=1 << 40), file=model)
    assert grown > MOST_MIB
