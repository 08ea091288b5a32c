"""Models of 1 to 4 billion weights, planned only: none is a special case, whatever a device's limits are.

Limits are those that Firefox and Chromium give (128 MiB bindings, 256 MiB buffers at least; 2 and 4 GiB on NVIDIA).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.measure import trained_examples
from bench.synthetic import published_shape
from lora_lab.config import LoraConfig, ModelConfig, TrainConfig
from lora_lab.errors import OutOfMemoryError
from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import StoredTensor, row_size_bytes
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model, plan_model
from lora_lab.model.checks import EMBEDDING, needed_shapes
from lora_lab.model.files import ModelFiles, TokenizerFiles
from lora_lab.train import MemoryReport, Trainer

MIB, GIB = 1 << 20, 1 << 30
SMALL, LARGE = (128 * MIB, 256 * MIB), (2 * GIB - 4, 4 * GIB - 4)  # a binding's limit, a buffer's


def unread(config: ModelConfig, form: str, embedding_form: str) -> ModelFiles:
    """Return a model's files as they are known before a weight is read."""
    tensors = {}
    for name, shape in needed_shapes(config).items():
        own = "f32" if len(shape) == 1 else embedding_form if name == EMBEDDING else form
        size = row_size_bytes(own, shape[-1]) * (shape[0] if len(shape) > 1 else 1)
        tensors[name] = StoredTensor(name, shape, own, BytesSource(b"", name), 0, size)
    return ModelFiles(config, tensors, TokenizerFiles({}, None, {}), config.name)


def planned(device: Device, files: ModelFiles, batch: int, length: int) -> tuple[Model, MemoryReport]:
    """Return the model and what a run takes: every dispatch of its step is traced, and its bindings are checked."""
    before = device.num_buffers, device.memory_in_use_bytes
    model = plan_model(device, files)
    adapter = Adapter(device, model.config, LoraConfig(rank=16, alpha=32), planned=True)
    config = TrainConfig(steps=1, batch=batch, accumulate=1, activation_budget_bytes=GIB)
    memory = Trainer(model, adapter, trained_examples(model, batch, length), config).memory
    assert (device.num_buffers, device.memory_in_use_bytes) == before
    return model, memory


@pytest.fixture(params=[SMALL, LARGE], ids=["128 MiB a binding", "2 GiB a binding"])
def limited(each_device: Device, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    binding, buffer = request.param
    limits = replace(each_device.limits, max_storage_buffer_binding_size=binding, max_buffer_size=buffer)
    monkeypatch.setattr(each_device, "limits", limits)
    return each_device


@pytest.mark.parametrize(
    ("shape", "form", "embedding_form", "file_gb"),
    [("qwen3-4b", "q4_k", "q6_k", 2.36), ("llama-3.2-3b", "f16", "f16", 6.43), ("gemma-3-1b", "q4_0", "f32", 1.6)],
)
def test_a_run_is_planned(limited: Device, shape: str, form: str, embedding_form: str, file_gb: float) -> None:
    files = unread(published_shape(shape), form, embedding_form)
    in_file = sum(tensor.size_bytes for tensor in files.tensors.values())
    assert in_file == pytest.approx(file_gb * 1e9, rel=0.01)
    model, memory = planned(limited, files, 1, 512)
    assert in_file <= memory.parts["weights"] <= 1.04 * in_file
    assert memory.total_bytes == sum(memory.parts.values())
    assert memory.parts["activations"] < 1.1 * GIB
    largest = max(buffer.size_bytes for buffer in model._buffers())
    assert largest <= min(limited.limits.max_buffer_size, limited.limits.max_storage_buffer_binding_size)


def test_an_embedding_of_2_7_gb(limited: Device) -> None:
    """262,144 x 2,560 in f32 fits no binding: it is counted once, tied as it is, and in as few pieces as can be."""
    config = replace(published_shape("qwen3-4b"), num_layers=2, vocab_size=262_144)
    model, memory = planned(limited, unread(config, "q4_k", "f32"), 1, 64)
    size = 4 * 262_144 * 2560
    assert model.lm_head is model.embedding
    assert sum(piece.tensor.size_bytes for piece in model.embedding.pieces) == size > 2.68e9
    assert len(model.embedding.pieces) == (2 if limited.limits.max_storage_buffer_binding_size > GIB else 21)
    assert size < memory.parts["weights"] < size + 150 * MIB


def test_activations_that_no_binding_takes_are_refused_by_name(each_device: Device, monkeypatch) -> None:
    limits = replace(each_device.limits, max_storage_buffer_binding_size=128 * MIB, max_buffer_size=256 * MIB)
    monkeypatch.setattr(each_device, "limits", limits)
    with pytest.raises(OutOfMemoryError, match=r"0\.q_proj\+k_proj\+v_proj .* is 192 MiB; .* binds 128 MiB at most"):
        planned(each_device, unread(published_shape("qwen3-4b"), "q4_k", "q6_k"), 4, 2048)
