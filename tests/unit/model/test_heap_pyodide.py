"""How far WebAssembly memory grows, which never shrinks, while a model is opened and its weights go to the GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.synthetic import published_shape
from bench.write_model import write_model
from tests.unit.formats.helpers import Run

# A device that takes what it is given as gpu/browser.py hands it over, and keeps nothing.
PROGRAM = """
import json
import numpy as np
import pyodide_js
from pyodide.ffi import to_js
from lora_lab.formats.byte_source import BlobSource
from lora_lab.gpu.device import AdapterInfo, Device, Limits
from lora_lab.model import weights
from lora_lab.model.files import open_model
from lora_lab.model.transformer import fill_model, plan_model

weights.CHUNK_BYTES = {chunk_bytes}

class Sink(Device):
    info, features, use_workgroup_memory = AdapterInfo("sink", "", "", False), frozenset(), True
    limits = Limits(2**31, 2**30, 10, 32768, 1024, 256, 256)
    taken = 0
    def write(self, buffer, offset, data):
        self.taken += to_js(memoryview(np.ascontiguousarray(data).reshape(-1).view(np.uint8))).byteLength
    def _new_buffer(self, *_): return object()
    def _free_buffer(self, *_): pass
    def _submit(self, *_): pass
    async def _nothing(self, *_): pass
    read = _compile = _assemble = finished = check_errors = close = _nothing

Sink.__abstractmethods__ = frozenset()

async def main():
    def heap_mib(): return pyodide_js._module.HEAP8.length / 2**20
    before = heap_mib()
    files = await open_model([BlobSource(file, "model.gguf")])
    opened = heap_mib()
    device = Sink()
    model = plan_model(device, files)
    await fill_model(model)
    return json.dumps([opened - before, heap_mib() - opened, device.taken, model.weights_bytes])
"""


@pytest.fixture(scope="module")
def three_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers and the vocabulary of a model of 4 billion weights: 460 MB in two K-quants, sparse on the disk."""
    path = tmp_path_factory.mktemp("large") / "model.gguf"
    write_model(path, replace(published_shape("qwen3-4b"), num_layers=3), "q4_k", "q6_k", sparse=True)
    return path


def test_the_heap_grows_by_a_few_slices(three_layers: Path, in_pyodide: Run) -> None:
    """However many tensors there are, and however large: more layers add nothing, so 2.5 GB take no more.

    Measured, of all 36 layers: 37 MiB for the vocabulary and 15 for the weights.
    """
    opening, loading, taken, weights_bytes = in_pyodide(PROGRAM.format(chunk_bytes=8 << 20), file=three_layers)
    assert taken == weights_bytes > 400 << 20
    assert opening < 120
    assert loading < 60


def test_a_whole_tensor_at_a_time_would_show(three_layers: Path, in_pyodide: Run) -> None:
    """The control."""
    _, loading, _, _ = in_pyodide(PROGRAM.format(chunk_bytes=1 << 30), file=three_layers)
    assert loading > 300
