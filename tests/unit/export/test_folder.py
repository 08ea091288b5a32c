"""Merged folders against transformers and PEFT: of every family, from a folder and from GGUF, in each dtype."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_lab.config import LoraConfig
from lora_lab.export import hf_folder
from lora_lab.export.base import Base
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import open_model
from tests import torch_reference
from tests.close import assert_all_close, assert_close
from tests.export_cases import NAMES, Case, adapter_for, export, open_path
from tests.tiny_model import write_tiny_model
from tests.unit.export.conftest import Cases

# Of the logits with the adapter on.
TOLERANCE = 1e-5
# Of PEFT's merge as torch rounds it. A sum that differs in its last bit may be rounded the other way, one of 40,000.
ROUNDED_TOLERANCE = 1e-4
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}
TOKENS = np.random.default_rng(1).integers(3, 384, 60).tolist()


def with_adapter(case: Case, lora: LoraConfig, tensors: dict[str, np.ndarray]) -> Any:
    return torch_reference.add_adapter(torch_reference.load_base(case.folder), lora, tensors)


def merged_by_peft(case: Case, lora: LoraConfig, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PEFT's own merge, in float32."""
    base = torch_reference.load_base(case.folder, torch.float32)
    merged = torch_reference.add_adapter(base, lora, tensors).merge_and_unload()
    return {name: value.numpy() for name, value in merged.state_dict().items()}


@pytest.mark.parametrize("kind", ["folder", "gguf"])
@pytest.mark.parametrize("family", NAMES)
def test_transformers_computes_what_the_adapter_did(cases: Cases, tmp_path: Path, family: str, kind: str) -> None:
    case = cases[family]
    base = case.base(kind)
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "merged", "f32", tmp_path)
    merged = torch_reference.load_base(tmp_path)
    wanted = torch_reference.logits(with_adapter(case, lora, tensors), TOKENS)
    assert_close(torch_reference.logits(merged, TOKENS), wanted, TOLERANCE)
    # The control: without the adapter it is another model.
    plain = torch_reference.logits(torch_reference.load_base(case.folder), TOKENS)
    assert np.linalg.norm(plain - wanted) > 0.1 * np.linalg.norm(wanted)


@pytest.mark.parametrize("form", DTYPES)
@pytest.mark.parametrize("kind", ["folder", "gguf"])
@pytest.mark.parametrize("family", NAMES)
def test_halves_are_pefts_merge_rounded(cases: Cases, tmp_path: Path, family: str, kind: str, form: str) -> None:
    """Rounding alone moves a tiny random model's logits by 0.1 % (f16) to 2 % (bf16), so that is not what is held."""
    case = cases[family]
    base = case.base(kind)
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "merged", form, tmp_path)
    peft = torch_reference.add_adapter(torch_reference.load_base(case.folder, torch.float32), lora, tensors)
    rounded = peft.merge_and_unload()
    for parameter in rounded.parameters():  # RoPE's frequencies are none, and stay as they are
        parameter.data = parameter.data.to(DTYPES[form]).to(torch.float32)
    wanted = torch_reference.logits(rounded.to(torch.float64), TOKENS)
    assert_close(torch_reference.logits(torch_reference.load_base(tmp_path), TOKENS), wanted, ROUNDED_TOLERANCE)


@pytest.mark.parametrize("kind", ["folder", "gguf"])
@pytest.mark.parametrize("family", NAMES)
def test_weights_are_those_that_peft_merges(cases: Cases, tmp_path: Path, family: str, kind: str) -> None:
    from safetensors.torch import load_file

    case = cases[family]
    base = case.base(kind)
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "merged", "f32", tmp_path)
    found = {name: value.numpy() for name, value in load_file(tmp_path / "model.safetensors").items()}
    wanted = merged_by_peft(case, lora, tensors)
    assert_all_close(found, {name: wanted[name] for name in found}, 1e-6)
    assert set(wanted) - set(found) <= {"lm_head.weight"}  # tied


@pytest.mark.parametrize("form, dtype", DTYPES.items())
def test_rounding_is_torchs_to_the_bit(cases: Cases, tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    """What an adapter does not change is exactly the base, rounded as torch rounds."""
    from safetensors.torch import load_file

    case = cases["llama"]
    lora, tensors = adapter_for(case.base("folder").config, targets=("q_proj",))
    export(case.base("folder"), lora, tensors, "merged", form, tmp_path)
    found, base = load_file(tmp_path / "model.safetensors"), load_file(case.folder / "model.safetensors")
    for name, value in base.items():
        same = torch.equal(found[name], value.to(dtype))
        assert same != ("q_proj" in name), name


@pytest.mark.parametrize("family", ["llama", "smollm3", "granite"])
def test_one_permutation_the_other_way_shows(
    cases: Cases, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: k's rows of a GGUF are taken as they lie."""
    from dataclasses import replace

    case = cases[family]
    base = case.base("gguf")
    wrong = {
        name: replace(tensor, head_permutation=None) if "k_proj" in name else tensor
        for name, tensor in base.files.tensors.items()
    }
    lora, tensors = adapter_for(base.config)
    export(Base(replace(base.files, tensors=wrong), base.gguf), lora, tensors, "merged", "f32", tmp_path)
    merged = torch_reference.load_base(tmp_path)
    wanted = torch_reference.logits(with_adapter(case, lora, tensors), TOKENS)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(torch_reference.logits(merged, TOKENS), wanted, 1000 * TOLERANCE)


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_tokenizer_and_template_are_the_same(cases: Cases, tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    case = cases["llama"]
    base = case.base(kind)
    export(base, *adapter_for(base.config), "merged", None, tmp_path)
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, case.folder))
    text = "The lighthouse keeper, 132 years old: <|im_start|>user\nüß 日本<|im_end|>"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    messages = [{"role": "user", "content": "What is your name?"}]
    texts = [one.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for one in (ours, theirs)]
    assert texts[0] == texts[1]
    assert (ours.eos_token, ours.pad_token) == (theirs.eos_token, theirs.pad_token)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_adapters_own_template_takes_the_place_of_the_models(cases: Cases, tmp_path: Path) -> None:
    for kind in ("folder", "gguf"):
        base = cases["llama"].base(kind)
        export(
            base, *adapter_for(base.config), "merged", None, tmp_path / kind, template="{{ messages[0]['content'] }}"
        )
        assert open_path(tmp_path / kind).files.tokenizer.chat_template == "{{ messages[0]['content'] }}"


def test_large_models_are_sharded_as_transformers_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GB are taken for 100 kB."""
    monkeypatch.setattr(hf_folder, "MAX_SHARD_BYTES", 100_000)
    base = open_path(write_tiny_model(tmp_path / "base"))
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "merged", "f32", tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert not (tmp_path / "out/model.safetensors").exists()
    sizes = [sum(t.nbytes for t in _load(tmp_path / "out" / name).values()) for name in files]
    assert max(sizes) <= 100_000 and sum(sizes) == index["metadata"]["total_size"]
    monkeypatch.undo()
    export(base, lora, tensors, "merged", "f32", tmp_path / "whole")
    sharded, whole = (torch_reference.load_base(tmp_path / name).state_dict() for name in ("out", "whole"))
    assert sharded.keys() == whole.keys() and all(torch.equal(sharded[name], whole[name]) for name in whole)
    asyncio.run(open_model(sources_from_path(tmp_path / "out")))


def _load(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def test_a_setting_that_config_json_would_lose_is_refused(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_lab.errors import ModelError
    from lora_lab.model.families import granite

    write = granite.write_hf
    monkeypatch.setattr(granite, "write_hf", lambda config: {**write(config), "residual_multiplier": 1.0})
    base = cases["granite"].base("gguf")
    with pytest.raises(ModelError, match=r"config\.json cannot say this model's settings: residual_scale"):
        export(base, *adapter_for(base.config), "merged", None, tmp_path)
