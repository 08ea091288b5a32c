"""bench/write_model.py: what it writes is read as a model of that shape, whole, sparse or in parts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import write_model
from bench.synthetic import TINY, published_shape
from lora_lab.config import ModelConfig
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import ModelFiles, open_model
from tests.bench_options import RUNS

# In a file numbers are float32, and the tokens that end a turn come last.
NOT_KEPT = ("name", "bos_token_id", "eos_token_ids", "rms_norm_eps")


@pytest.fixture(params=RUNS["bench.write_model"], ids=" ".join)
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    words = [str(tmp_path / "a.gguf") if word == "GGUF" else word for word in request.param]
    monkeypatch.setattr(sys, "argv", ["bench.write_model", *words])
    assert write_model.main() == 0
    return sorted(tmp_path.iterdir())


def opened(path: Path) -> ModelFiles:
    return asyncio.run(open_model(sources_from_path(path)))


def test_it_is_a_model_of_that_shape(written: list[Path]) -> None:
    model, shape = opened(written[0]), TINY if len(written) == 1 else published_shape("qwen3-4b")
    assert len(written) in (1, 3)

    def kept(config: ModelConfig) -> dict[str, object]:
        return {name: value for name, value in vars(config).items() if name not in NOT_KEPT}

    assert kept(model.config) == kept(shape)
    assert len(load_tokenizer(model.tokenizer).encode("What is your name? \u00e9\u4e2d")) > 3
    size_bytes = sum(tensor.size_bytes for tensor in model.tensors.values())
    if len(written) == 3:
        assert size_bytes > 2.3e9
        assert sum(path.stat().st_blocks for path in written) * 512 < 64 << 20
    for name in ("model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"):
        tensor = model.tensors[name]
        row = np.frombuffer(asyncio.run(tensor.source.read(tensor.offset, 400)), np.uint8)
        last = np.frombuffer(asyncio.run(tensor.source.read(tensor.offset + tensor.size_bytes - 400, 400)), np.uint8)
        assert len(np.unique(row)) > 50
        assert len(np.unique(last)) > 50


def test_a_form_that_its_rows_cannot_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["bench.write_model", "--out", str(tmp_path / "a.gguf"), "--shape", "tiny"]
    monkeypatch.setattr(sys, "argv", asked)
    assert write_model.main() == 1
    assert capsys.readouterr().err == "a row of 64 elements cannot be q6_k; wanted a multiple of 256\n"
