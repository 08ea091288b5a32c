"""Merged GGUFs: the base's own mixture of forms, the others, what of the file stays as it is, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.errors import LoraLabError, ModelError
from lora_lab.export.base import Base
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.gguf import read_gguf
from lora_lab.formats.tensors import StoredTensor
from lora_lab.model.families import FAMILIES
from lora_lab.model.files import open_model
from tests.export_cases import NAMES, adapter_for, export, open_path, write_mixed
from tests.tiny_families import write_tiny_family
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import write_tiny_model
from tests.unit.export.conftest import Cases


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed(tmp_path_factory.mktemp("mixed"))


def stored(path: Path) -> dict[str, StoredTensor]:
    return asyncio.run(read_gguf(sources_from_path(path)[0])).tensors


def raw(tensor: StoredTensor) -> bytes:
    return asyncio.run(tensor.read()).tobytes()


def weights(path: Path) -> dict[str, np.ndarray]:
    """Return every tensor under Hugging Face's names and in its order of rows."""
    files = asyncio.run(open_model(sources_from_path(path)))
    return {name: asyncio.run(tensor.to_f32()) for name, tensor in files.tensors.items()}


def merged_in_float64(path: Path, lora: LoraConfig, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    wanted = {name: values.astype(np.float64) for name, values in weights(path).items()}
    for key, a in tensors.items():
        if ".lora_A." in key:
            b = tensors[key.replace("lora_A", "lora_B")].astype(np.float64)
            wanted[key.removeprefix("base_model.model.").replace(".lora_A", "")] += lora.scale * b @ a
    return wanted


def test_the_bases_own_mixture_is_kept(mixed: Path, tmp_path: Path) -> None:
    base = open_path(mixed)
    lora, tensors = adapter_for(base.config, targets=("q_proj", "v_proj", "down_proj", "up_proj"))
    planned = export(base, lora, tensors, "gguf", "same", tmp_path)
    assert planned.requantised
    before, after = stored(mixed), stored(tmp_path / "model.gguf")
    assert list(before) == list(after)
    assert {name: tensor.form for name, tensor in before.items()} == {name: t.form for name, t in after.items()}
    changed = {name for name in before if raw(before[name]) != raw(after[name])}
    assert changed == {
        f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in ("attn_q", "attn_v", "ffn_down", "ffn_up")
    }


# What rounding leaves of a random weight, in the norm: ggml's own encoders leave as much (test_quantize.py).
LEFT = {"f32": 1e-7, "f16": 4e-4, "bf16": 3e-3, "q8_0": 0.01, "same": 0.2}


@pytest.mark.parametrize("form", LEFT)
def test_the_weights_are_the_merged_ones(mixed: Path, tmp_path: Path, form: str) -> None:
    base = open_path(mixed)
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "gguf", form, tmp_path)
    wanted = merged_in_float64(mixed, lora, tensors)
    for name, values in weights(tmp_path / "model.gguf").items():
        error = np.linalg.norm(values - wanted[name]) / np.linalg.norm(wanted[name])
        assert error <= LEFT[form], name
    if form != "same":
        forms = {tensor.form for name, tensor in stored(tmp_path / "model.gguf").items() if "norm" not in name}
        assert forms == {form}


def test_an_adapter_that_is_left_out_shows(mixed: Path, tmp_path: Path) -> None:
    """The control."""
    base = open_path(mixed)
    lora, tensors = adapter_for(base.config)
    export(base, replace(lora, alpha=0.001), tensors, "gguf", "f32", tmp_path)
    wanted = merged_in_float64(mixed, lora, tensors)
    found = weights(tmp_path / "model.gguf")
    name = "model.layers.1.mlp.up_proj.weight"
    assert np.linalg.norm(found[name] - wanted[name]) > LEFT["same"] * np.linalg.norm(wanted[name])


def test_entries_stay_byte_for_byte_and_the_template_is_inside(mixed: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    base = open_path(mixed)
    export(base, *adapter_for(base.config), "gguf", "q8_0", tmp_path, template="{{ 'own' }}")
    readers = [GGUFReader(path) for path in (mixed, tmp_path / "model.gguf")]
    before, after = (
        {field.name: b"".join(part.tobytes() for part in field.parts) for field in reader.fields.values()}
        for reader in readers
    )
    own = {"general.name", "general.file_type", "general.quantization_version", "tokenizer.chat_template"}
    for name in before.keys() - own:
        assert before[name] == after[name] or name.startswith("GGUF."), name
    gguf = asyncio.run(read_gguf(sources_from_path(tmp_path / "model.gguf")[0]))
    assert gguf.metadata["tokenizer.chat_template"] == "{{ 'own' }}"
    assert (gguf.metadata["general.file_type"], gguf.metadata["general.quantization_version"]) == (7, 2)


def test_parts_become_one_file(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "folder")
    write_tiny_gguf(folder, tmp_path / "tiny.gguf", tensors_a_part=7)
    base = open_path(tmp_path / "tiny-00001-of-00003.gguf")
    export(base, *adapter_for(base.config), "gguf", "same", tmp_path / "out")
    gguf = asyncio.run(read_gguf(sources_from_path(tmp_path / "out/model.gguf")[0]))
    assert not [key for key in gguf.metadata if key.startswith("split.")]
    open_path(tmp_path / "out/model.gguf")


@pytest.mark.parametrize("family", NAMES)
def test_a_folders_gguf_has_what_the_converter_writes(cases: Cases, tmp_path: Path, family: str) -> None:
    """Names, shapes and values of every tensor, and every setting that the converter's file has."""
    case = cases[family]
    base = case.base("folder")
    lora, tensors = adapter_for(base.config)
    export(base, replace(lora, alpha=1e-30), tensors, "gguf", "f32", tmp_path)  # as good as no adapter
    wanted, found = (
        asyncio.run(read_gguf(sources_from_path(path)[0])) for path in (case.gguf, tmp_path / "model.gguf")
    )
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].shape == tensor.shape, name
        assert np.allclose(
            asyncio.run(found.tensors[name].to_f32()), asyncio.run(tensor.to_f32()), rtol=1e-6, atol=1e-7
        ), name
    passed_over = {"general.name", "general.quantization_version", "general.size_label", "general.sampling.temp"}
    for key, value in wanted.metadata.items():
        if key in passed_over or key.startswith(("general.sampling", "general.finetune", "general.basename")):
            continue
        if key == "tokenizer.ggml.add_eos_token" or key not in found.metadata:
            assert key in MAY_BE_LEFT_OUT, key
            continue
        mine = found.metadata[key]
        same = np.allclose(mine, value, rtol=1e-6) if isinstance(value, float | np.ndarray) else mine == value
        assert same, f"{key}: {str(mine)[:100]} and {str(value)[:100]}"


# Settings that llama.cpp takes from elsewhere, or that say what it assumes.
MAY_BE_LEFT_OUT = frozenset({
    "tokenizer.ggml.add_eos_token", "general.version", "general.organization", "gemma3.rope.scaling.type",
    "gemma3.attention.sliding_window_pattern", "qwen3.rope.scaling.type", "general.tags", "general.languages",
})  # fmt: skip


def test_a_setting_that_gguf_cannot_say_is_refused(tmp_path: Path) -> None:
    base = open_path(
        write_tiny_family(tmp_path / "gemma", "gemma3")
    )  # its query_pre_attn_scalar is not the head's size
    with pytest.raises(ModelError, match="attention_scale cannot be said in GGUF"):
        export(base, *adapter_for(base.config), "gguf", None, tmp_path / "out")


def test_a_window_that_gguf_does_not_say_is_said(tmp_path: Path) -> None:
    base = open_path(write_tiny_family(tmp_path / "mistral", "mistral"))
    planned = export(base, *adapter_for(base.config), "gguf", None, tmp_path / "out")
    (said,) = planned.remarks
    assert said == "GGUF does not say this model's window of 16 tokens: llama.cpp sees all of a longer text"


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("folder")
    tokenizer = base.files.tokenizer
    split = {"type": "Whitespace"}
    other = replace(tokenizer, tokenizer_json={**tokenizer.tokenizer_json, "pre_tokenizer": split})
    with pytest.raises(ModelError, match=r"splits text in a way that llama\.cpp has no name for"):
        export(Base(replace(base.files, tokenizer=other), None, base.small), *adapter_for(base.config), "gguf", None,
               tmp_path)  # fmt: skip


def test_values_that_f16_does_not_reach_are_refused(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("gguf")
    lora, tensors = adapter_for(base.config)
    with pytest.raises(
        LoraLabError, match=r"blk\.0\.\w+\.weight holds .* which f16 does not reach; choose bf16 or f32"
    ):
        export(base, replace(lora, alpha=1e7), tensors, "gguf", "f16", tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_every_family_is_tried() -> None:
    assert set(NAMES) == {family.NAME for family in FAMILIES}
