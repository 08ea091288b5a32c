"""A native device for the whole session, with the kernels that GPUs get and with those that software devices get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_lab.gpu import Device, open_device
from lora_lab.model import Model
from tests.engine_runs import load
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    """The machine's best native device; a software one will do."""
    device = asyncio.run(open_device())
    yield device
    asyncio.run(device.close())


@pytest.fixture(params=[True, False], ids=["tiled", "plain"])
def each_device(device: Device, request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device as a GPU, with tiles through workgroup memory, and as a software device, with plain loads."""
    before = device.use_workgroup_memory
    device.use_workgroup_memory = request.param
    yield device
    device.use_workgroup_memory = before


# Tiny models by name, as `write_tiny_model` takes them. "odd" has sizes that no tile or workgroup divides.
TINY_MODELS: dict[str, dict[str, Any]] = {
    "tied f32": {},
    "untied f32": {"tied": False, "seed": 1, "intermediate": 192},  # rows of whole blocks, for GGUF
    "tied bf16": {"dtype": "bf16"},
    "untied f16": {"tied": False, "dtype": "f16"},
    "odd": {
        "hidden": 60, "heads": 6, "kv_heads": 2, "head_dim": 20, "intermediate": 92, "vocab_size": 389, "layers": 3,
    },
    "llama3 rope": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """A tiny model on the device, and where its files are."""

    model: Model
    folder: Path


class TinyModels:
    """Writes and loads each tiny model once a session."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.made: dict[str, Tiny] = {}

    def __getitem__(self, name: str) -> Tiny:
        if name not in self.made:
            folder = write_tiny_model(self.folder / name.replace(" ", "-"), **TINY_MODELS[name])
            self.made[name] = Tiny(load(self.device, folder), folder)
        return self.made[name]


@pytest.fixture(scope="session")
def tiny_models(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """Tiny models by their name in TINY_MODELS."""
    models = TinyModels(device, tmp_path_factory.mktemp("tiny"))
    yield models
    for tiny in models.made.values():
        tiny.model.release()


@pytest.fixture(scope="session")
def tiny(tiny_models: TinyModels) -> Tiny:
    """The plain one: tied, float32."""
    return tiny_models["tied f32"]
