"""What the tests of opening models share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.errors import ModelError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import ModelFiles, open_model

Run = Callable[..., Any]  # what `in_pyodide` is

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


def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()
