"""Files whose parts are of the wrong kind anywhere: our own error, or a model; never a traceback."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError, ModelError
from lora_lab.formats import gguf, gguf_split
from lora_lab.formats.byte_source import BytesSource, FileSource
from lora_lab.formats.peft import expected_shapes, read_adapter, write_adapter
from lora_lab.model.adapter_files import open_adapter
from lora_lab.model.families import llama
from lora_lab.model.files import open_model
from tests.adapter_makes import as_gguf, as_mlx
from tests.tiny_gguf import write_tiny_gguf
from tests.unit.formats.helpers import opened

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
slow_but_fine = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def spoiled(value: Any, data: st.DataObject) -> Any:
    """The same JSON value with something else in one place, at any depth."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(value)))
        if not data.draw(st.integers(0, 9)):
            return {other: item for other, item in value.items() if other != key}
        return {**value, key: spoiled(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoiled(value[at], data), *value[at + 1 :]]
    return data.draw(json_values)


@pytest.fixture(scope="module")
def folder_files(tiny_model_folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in tiny_model_folder.iterdir()}
    # Everything that may be in a folder, so that it can be spoiled.
    files["special_tokens_map.json"] = b'{"bos_token": {"content": "<|im_start|>"}, "pad_token": "<|im_end|>"}'
    files["tokenizer_config.json"] = json.dumps(
        {**json.loads(files["tokenizer_config.json"]), "chat_template": [{"name": "default", "template": "x"}]}
    ).encode()
    config = json.loads(files["config.json"])
    config |= {"quantization_config": None, "rope_scaling": {"type": "linear", "factor": 2.0}}
    return files | {"config.json": json.dumps(config).encode()}


MODEL = llama.make_config(
    vocab_size=9, hidden_size=8, intermediate_size=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4,
    rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=64, tie_word_embeddings=True,
)  # fmt: skip


@slow_but_fine
@given(st.data())
def test_folders(folder_files: dict[str, bytes], data: st.DataObject) -> None:
    files = dict(folder_files)
    if data.draw(st.booleans()):
        del files["chat_template.jinja"]
    name = data.draw(st.sampled_from(sorted(name for name in files if name.endswith(".json"))))
    files[name] = json.dumps(spoiled(json.loads(files[name]), data)).encode()
    try:
        asyncio.run(open_model([BytesSource(content, f"tiny/{name}") for name, content in files.items()]))
    except ModelError as error:
        assert str(error).strip()


@slow_but_fine
@given(st.data())
def test_adapters(data: st.DataObject) -> None:
    model = MODEL
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    zeros = {key: np.zeros(shape, np.float32) for key, shape in expected_shapes(lora, model).items()}
    files = write_adapter(zeros, lora, model, "x")
    config = json.loads(files["adapter_config.json"]) | {"exclude_modules": None, "layer_replication": None}
    for _ in range(data.draw(st.integers(1, 3))):
        config = spoiled(config, data)
    files["adapter_config.json"] = json.dumps(config).encode()
    try:
        read_adapter(files, model)
    except AdapterError as error:
        assert str(error).strip()


@pytest.fixture(scope="module")
def other_makes(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelConfig, dict[str, bytes], dict[str, bytes]]:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "down_proj"))
    ones = {key: np.ones(shape, np.float32) for key, shape in expected_shapes(lora, MODEL).items()}
    path = tmp_path_factory.mktemp("adapter") / "a.gguf"
    return MODEL, as_mlx(ones, lora), as_gguf(path, ones, lora, MODEL, "llama", permuted=True)


@slow_but_fine
@given(st.data())
def test_adapters_of_other_makes(
    other_makes: tuple[ModelConfig, dict[str, bytes], dict[str, bytes]], data: st.DataObject
) -> None:
    """Settings of other kinds, and bytes of the headers that were changed: an adapter, or what is wrong with it."""
    model, mlx, llama_cpp = other_makes
    assert asyncio.run(open_adapter(mlx, model)).lora == asyncio.run(open_adapter(llama_cpp, model)).lora
    files = dict(data.draw(st.sampled_from([mlx, llama_cpp])))
    if "adapter_config.json" in files and data.draw(st.booleans()):
        files["adapter_config.json"] = json.dumps(spoiled(json.loads(files["adapter_config.json"]), data)).encode()
    else:
        name = next(name for name in files if name != "adapter_config.json")
        raw = bytearray(files[name])
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, min(1200, len(raw) - 1)))] = data.draw(st.integers(0, 255))
        files[name] = bytes(raw)
    try:
        asyncio.run(open_adapter(files, model))
    except AdapterError as error:
        assert str(error).strip()


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    return write_tiny_gguf(tiny_model_folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


gguf_values = (
    st.booleans()
    | st.integers(-3, 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=5), max_size=3)
    | st.lists(st.integers(0, 9), max_size=3).map(np.array)
    | st.lists(st.booleans(), max_size=3).map(np.array)
)


@slow_but_fine
@given(st.data())
def test_gguf_metadata(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    """A header that is well-formed, with a value of another kind under some key."""
    header = asyncio.run(gguf.read_gguf(FileSource(tiny_gguf)))
    optional = ["split.count", "llama.expert_count", "llama.rope.scaling.type", "llama.rope.scaling.factor"]
    optional += ["tokenizer.ggml.eot_token_id", "general.name"]
    metadata = copy.copy(header.metadata)
    for key in data.draw(st.lists(st.sampled_from([*sorted(metadata), *optional]), min_size=1, max_size=2)):
        metadata[key] = data.draw(gguf_values)

    async def read_spoiled(source: Any) -> gguf.GgufFile:
        return gguf.GgufFile(source, header.version, metadata, header.tensors)

    with monkeypatch.context() as patch:
        patch.setattr(gguf_split, "read_gguf", read_spoiled)
        try:
            opened(tiny_gguf)
        except ModelError as error:
            assert str(error).strip()


def test_the_unspoiled_ones_open(tiny_gguf: Path, folder_files: dict[str, bytes]) -> None:
    """The control: each starting point is good."""
    assert opened(tiny_gguf).config.num_layers == 2
    sources = [BytesSource(content, f"tiny/{name}") for name, content in folder_files.items()]
    assert asyncio.run(open_model(sources)).config.rope_scaling == {"rope_type": "linear", "factor": 2.0}
