"""Adapters of other makes: the same adapter as PEFT's, to the bit, and the same logits; and those that do not fit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load, save
from transformers import AutoModelForCausalLM

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, read_adapter, write_adapter
from lora_lab.model.adapter_files import BroughtAdapter, open_adapter
from lora_lab.model.families import FAMILIES
from lora_lab.model.files import open_model
from tests.adapter_makes import as_gguf, as_mlx
from tests.tiny_families import tiny_config, write_tiny_family
from tests.tiny_gguf import permute

TOKENS = torch.tensor([[1, 20, 30, 40, 50, 7, 8, 9]])
LORA = LoraConfig(rank=4, alpha=6)


def brought(files: dict[str, bytes], model: ModelConfig) -> BroughtAdapter:
    return asyncio.run(open_adapter(files, model))


def random_tensors(lora: LoraConfig, model: ModelConfig) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {key: generator.normal(scale=0.1, size=shape).astype(np.float32)
            for key, shape in expected_shapes(lora, model).items()}  # fmt: skip


def peft_logits(folder: Path, files: dict[str, bytes], into: Path) -> np.ndarray:
    """What the model says with the adapter that these PEFT files are, by transformers and PEFT."""
    into.mkdir()
    for name, data in files.items():
        (into / name).write_bytes(data)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), into)
    with torch.no_grad():
        return model(TOKENS).logits.float().numpy()


@pytest.fixture(scope="module")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_family(tmp_path_factory.mktemp("qwen3") / "tiny", "qwen3")


@pytest.fixture(params=["llama", "qwen3"])
def family(
    request: pytest.FixtureRequest, tiny_model_folder: Path, qwen3_folder: Path
) -> tuple[str, Path, ModelConfig]:
    folder = tiny_model_folder if request.param == "llama" else qwen3_folder
    return request.param, folder, asyncio.run(open_model(sources_from_path(folder))).config


@pytest.mark.parametrize("make", ["mlx", "gguf"])
def test_another_make_says_what_peft_says(family: tuple[str, Path, ModelConfig], make: str, tmp_path: Path) -> None:
    name, folder, model = family
    tensors = random_tensors(LORA, model)
    reference = peft_logits(folder, write_adapter(tensors, LORA, model, None), tmp_path / "peft")
    is_llama = name == "llama"
    files = (
        as_mlx(tensors, LORA) if make == "mlx" else as_gguf(tmp_path / "a.gguf", tensors, LORA, model, name, is_llama)
    )
    adapter = brought(files, model)
    assert adapter.lora == LORA and adapter.tensors.keys() == tensors.keys()
    assert all(adapter.tensors[key].tobytes() == values.tobytes() for key, values in tensors.items())
    assert len(adapter.remarks) == 1 and "it is kept as PEFT's" in adapter.remarks[0]
    np.testing.assert_array_equal(peft_logits(folder, adapter.files, tmp_path / "kept"), reference)
    # The controls: not turned (MLX), or its rows in the other order (GGUF), it says something else.
    wrong = {key: values.T.reshape(values.shape) for key, values in tensors.items()}
    if make == "gguf":
        other = as_gguf(tmp_path / "b.gguf", tensors, LORA, model, name, not is_llama)
        wrong = brought(other, model).tensors
    other_logits = peft_logits(folder, write_adapter(wrong, LORA, model, None), tmp_path / "wrong")
    assert np.linalg.norm(other_logits - reference) > 1e-2 * np.linalg.norm(reference)


def test_the_rows_are_interleaved_as_llama_cpp_does() -> None:
    from conversion.llama import LlamaModel

    weight = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    theirs = LlamaModel.permute(torch.from_numpy(weight), 4, 4).numpy()
    np.testing.assert_array_equal(permute(weight, 4), theirs)


@pytest.mark.parametrize("name", [family.NAME for family in FAMILIES])
def test_every_family_takes_a_gguf_adapter(name: str, tmp_path: Path) -> None:
    from tests.unit.formats.test_zipping import MODEL

    model = MODEL if name == "llama" else tiny_config(name)
    lora = LoraConfig(rank=4, alpha=6, targets=model.linear_names)
    tensors = random_tensors(lora, model)
    architecture = "llama" if name == "mistral" else name
    files = as_gguf(
        tmp_path / "a.gguf", tensors, lora, model, architecture, name in ("llama", "mistral", "smollm3", "granite")
    )
    found = brought(files, model)
    assert found.lora == lora and all((found.tensors[key] == values).all() for key, values in tensors.items())


@pytest.fixture
def model(tiny_model_folder: Path) -> ModelConfig:
    return asyncio.run(open_model(sources_from_path(tiny_model_folder))).config


def test_forms_that_a_gguf_adapter_may_have(model: ModelConfig, tmp_path: Path) -> None:
    lora = LoraConfig(rank=32, alpha=6.5, targets=("q_proj", "down_proj"))
    tensors = {key: values.astype(np.float16).astype(np.float32) for key, values in random_tensors(lora, model).items()}
    found = brought(as_gguf(tmp_path / "a.gguf", tensors, lora, model, "llama", True, "f16"), model)
    assert found.lora == lora and all((found.tensors[key] == values).all() for key, values in tensors.items())


def test_layers_without_an_adapter_are_filled_with_what_changes_nothing(
    model: ModelConfig, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """mlx-lm adapts the last layers only, sixteen unless told otherwise."""
    lora = LoraConfig(rank=4, alpha=80, targets=("q_proj", "v_proj"))
    tensors = random_tensors(lora, model)
    last = {key: values for key, values in tensors.items() if ".layers.1." in key}
    found = brought(as_mlx(last, lora, num_layers=1), model)
    assert (
        found.lora == lora and found.remarks[1] == "2 of 4 linear layers had no adapter in it; there it changes nothing"
    )
    zeroed = {key: values if key in last else values * (".lora_A." in key) for key, values in tensors.items()}
    logits = [peft_logits(tiny_model_folder, files, tmp_path / str(number))
              for number, files in enumerate((found.files, write_adapter(zeroed, lora, model, None)))]  # fmt: skip
    np.testing.assert_array_equal(*logits)
    assert found.tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].any()  # so that it can learn


def mlx(model: ModelConfig, **config: Any) -> dict[str, bytes]:
    return as_mlx(random_tensors(LORA, model), LORA, **config)


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({"lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.1, "keys": ["self_attn.q_proj"]}}, 80),
        ({"lora_parameters": {"rank": 4, "alpha": 16, "scale": 10.0}}, 40),
        ({"lora_parameters": {"rank": 4, "alpha": 16}}, 16),
    ],
)
def test_the_scale_of_mlx(model: ModelConfig, config: dict[str, Any], alpha: float) -> None:
    found = brought(mlx(model, **config), model)
    assert (found.lora.alpha, found.lora.rank, found.base_model) == (alpha, 4, "tests/tiny")
    assert any("counts, as in mlx-lm" in remark for remark in found.remarks) == (alpha == 40)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"fine_tune_type": "dora"}, 'fine_tune_type is "dora"; wanted "lora"'),
        ({"fine_tune_type": "full"}, 'fine_tune_type is "full"; wanted "lora"'),
        ({"lora_parameters": {"rank": 4}}, "lora_parameters.scale is null; wanted a number"),
        ({"lora_parameters": {"rank": 4, "scale": True}}, "lora_parameters.scale is true"),
        ({"lora_parameters": {"rank": 8, "scale": 2}}, "lora_parameters.rank is 8; the matrices have rank 4"),
        ({"lora_parameters": {"rank": 0, "scale": 2}}, "lora_parameters.rank is 0; wanted a whole number above 0"),
        ({"lora_parameters": 5}, "has no lora_parameters"),
    ],
)
def test_what_mlx_says_wrong(model: ModelConfig, config: dict[str, Any], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        brought(mlx(model, **config), model)
    brought(mlx(model), model)  # the control


def test_mlx_files_that_are_damaged(model: ModelConfig) -> None:
    files = mlx(model)
    weights = load(files["adapters.safetensors"])
    first = "model.layers.0.self_attn.q_proj.lora_a"
    cases: list[tuple[dict[str, bytes], str]] = [
        ({"adapters.safetensors": files["adapters.safetensors"]}, r"adapter_config\.json is missing beside"),
        (files | {"adapter_config.json": b"\xff"}, "is not JSON"),
        (files | {"adapters.safetensors": b"x"}, "a safetensors file has at least 8"),
        (files | {"adapters.safetensors": save({k: v for k, v in weights.items() if k != first})},
         r"layers\.0\.self_attn\.q_proj has lora_B and no lora_A"),
        (files | {"adapters.safetensors": save({**weights, "model.embed_tokens.lora_a": np.zeros((2, 2), np.float32)})},
         r"model\.embed_tokens\.lora_a \(2, 2\) is no LoRA matrix of a layer"),
        (files | {"adapters.safetensors": save({**weights, first: weights[first] * np.float32("nan")})},
         r"q_proj\.lora_A\.weight holds 256 values that are NaN"),
    ]  # fmt: skip
    for broken, said in cases:
        with pytest.raises(AdapterError, match=said):
            brought(broken, model)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "model"}, "general.type is 'model'; wanted 'adapter'"),
        ({"adapter_type": "ia3"}, "adapter.type is 'ia3'; wanted 'lora'"),
        ({"alpha": float("nan")}, "adapter.lora.alpha is nan; wanted a number"),
        ({"architecture": "qwen2"}, "made for the architecture 'qwen2'; this model is 'llama'"),
    ],
)
def test_what_a_gguf_says_wrong(model: ModelConfig, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    tensors, architecture = random_tensors(LORA, model), fields.pop("architecture", "llama")
    with pytest.raises(AdapterError, match=said):
        brought(as_gguf(tmp_path / "a.gguf", tensors, LORA, model, architecture, True, **fields), model)
    for data in (b"", b"GGUF", b"GGUF" + bytes(40)):
        with pytest.raises(AdapterError):
            brought({"a.gguf": data}, model)


@pytest.mark.parametrize("make", ["mlx", "gguf"])
def test_one_of_another_model_ends_in_one_sentence(model: ModelConfig, make: str, tmp_path: Path) -> None:
    other = tiny_config("qwen3", num_hidden_layers=3)
    tensors = random_tensors(LORA, other)
    files = (
        as_mlx(tensors, LORA) if make == "mlx" else as_gguf(tmp_path / "a.gguf", tensors, LORA, other, "qwen3", False)
    )
    with pytest.raises(AdapterError) as error:
        brought(files, model)
    assert str(error.value) == "the adapter was made for a model of 3 layers and width 64; this one has 2 and 64"


def test_an_adapter_that_changes_nothing_is_told(model: ModelConfig, tmp_path: Path) -> None:
    tensors = {key: values * (".lora_A." in key) for key, values in random_tensors(LORA, model).items()}
    for files in (
        as_mlx(tensors, LORA),
        as_gguf(tmp_path / "a.gguf", tensors, LORA, model, "llama", True),
        write_adapter(tensors, LORA, model, None),
    ):
        assert "every B is zero" in brought(files, model).remarks[-1]


def test_peft_files_are_kept_as_they_came(model: ModelConfig) -> None:
    files = write_adapter(random_tensors(LORA, model), LORA, model, "owner/name", "{{ template }}")
    found = brought({f"run/{name}": data for name, data in files.items()}, model)
    assert (found.files, found.base_model, found.remarks) == (files, "owner/name", ())
    # But for a base that is a place on somebody's machine, and names that PEFT would not find.
    config = json.loads(files["adapter_config.json"])
    for base, wanted in (("/home/x/model", None), ("model.gguf", None), ("https://huggingface.co/a/b", "a/b")):
        moved = {**files, "adapter_config.json": json.dumps({**config, "base_model_name_or_path": base}).encode()}
        assert json.loads(brought(moved, model).files["adapter_config.json"])["base_model_name_or_path"] == wanted
    weights = {
        key.replace(".weight", ".default.weight"): values
        for key, values in load(files["adapter_model.safetensors"]).items()
    }
    found = brought({**files, "adapter_model.safetensors": save(weights)}, model)
    assert found.files == files and len(found.remarks) == 1
    assert read_adapter(found.files, model)[0] == LORA
