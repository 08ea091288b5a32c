"""What the tests of opening models share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from lora_lab.errors import ModelError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import ModelFiles, open_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def opened(path: Path) -> ModelFiles:
    return asyncio.run(open_model(sources_from_path(path)))


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ModelError) as error:
        opened(path)
    return str(error.value).splitlines()


def weights_of(model: ModelFiles) -> dict[str, np.ndarray]:
    return {name: asyncio.run(tensor.to_f32()) for name, tensor in model.tensors.items()}
