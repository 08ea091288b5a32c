"""An adapter that goes out alone and comes back is the same bit by bit, of every make."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.record import StepColumns, ValidationColumns, record_bytes
from lora_lab.export.plan import FORMS
from lora_lab.formats.peft import CARD_FILE, TEMPLATE_FILE
from lora_lab.formats.peft_card import model_card
from lora_lab.formats.run_facts import RUN_FILE
from lora_lab.model.adapter_files import BroughtAdapter, open_adapter
from tests.export_cases import NAMES, adapter_for, export
from tests.unit.evaluation.records import record
from tests.unit.export.conftest import Cases

ALONE = ("peft", "gguf-adapter", "mlx")


def brought_back(folder: Path, config: object) -> BroughtAdapter:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return asyncio.run(open_adapter(files, config))  # type: ignore[arg-type]


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("family", NAMES)
def test_out_and_back_is_the_same_bit_by_bit(
    cases: Cases, tmp_path: Path, family: str, kind: str, rslora: bool
) -> None:
    base = cases[family].base("folder")
    lora, tensors = adapter_for(base.config, use_rslora=rslora)
    export(base, lora, tensors, kind, None, tmp_path)
    back = brought_back(tmp_path, base.config)
    assert back.tensors.keys() == tensors.keys()
    for key, values in tensors.items():
        assert np.array_equal(back.tensors[key].view(np.uint32), values.view(np.uint32)), key
    assert back.lora.scale == pytest.approx(lora.scale, rel=1e-7)
    assert (back.lora.rank, back.lora.targets) == (lora.rank, lora.targets)


@pytest.mark.parametrize("family", NAMES)
def test_the_gguf_adapter_is_what_the_gguf_package_writes(cases: Cases, tmp_path: Path, family: str) -> None:
    """The same tensors by its reader, names, shapes and permutations as in a file made by llama.cpp's rules."""
    from gguf import GGUFReader

    from lora_lab.model.families import family_of, gguf_architectures
    from tests.adapter_makes import as_gguf

    base = cases[family].base("folder")
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "gguf-adapter", "f32", tmp_path)
    known = family_of(base.config)
    permuted = family in ("llama", "mistral", "smollm3", "granite")  # what the converter permutes
    architecture = gguf_architectures(known)[0]
    as_gguf(tmp_path / "wanted.gguf", tensors, lora, base.config, architecture, permuted)
    readers = [GGUFReader(tmp_path / name) for name in ("model.gguf", "wanted.gguf")]
    found, wanted = ({tensor.name: tensor.data for tensor in reader.tensors} for reader in readers)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_f16_is_half_as_large_and_near(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("folder")
    lora, tensors = adapter_for(base.config)
    sizes = {
        form: export(base, lora, tensors, "gguf-adapter", form, tmp_path / form).size_bytes for form in ("f32", "f16")
    }
    assert sizes["f16"] < 0.6 * sizes["f32"]
    back = brought_back(tmp_path / "f16", base.config)
    for key, values in tensors.items():
        assert np.abs(back.tensors[key] - values).max() <= 2**-11 * np.abs(values).max()


def test_values_that_f16_does_not_reach_are_refused(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("folder")
    lora, tensors = adapter_for(base.config)
    key = next(iter(tensors))
    tensors[key][0, 0] = 70_000
    with pytest.raises(AdapterError, match=f"{key} holds values that f16 does not reach; wanted f32"):
        export(base, lora, tensors, "gguf-adapter", "f16", tmp_path)


def test_mlx_computes_the_same(cases: Cases, tmp_path: Path) -> None:
    """y = x W^T + scale (x a) b, by mlx-lm's own formula on its own files."""
    from safetensors.numpy import load_file

    base = cases["lfm2"].base("folder")
    lora, tensors = adapter_for(base.config, use_rslora=True)
    export(base, lora, tensors, "mlx", None, tmp_path, base_name="owner/name")
    config, files = (
        json.loads((tmp_path / "adapter_config.json").read_text()),
        load_file(tmp_path / "adapters.safetensors"),
    )
    assert (config["model"], config["num_layers"]) == ("owner/name", 5)
    assert config["lora_parameters"]["keys"][:2] == ["conv.in_proj", "conv.out_proj"]
    x = np.random.default_rng(0).normal(size=(3, 64))
    name = "model.layers.2.self_attn.q_proj"
    found = config["lora_parameters"]["scale"] * (x @ files[f"{name}.lora_a"]) @ files[f"{name}.lora_b"]
    a, b = (tensors[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
    assert np.allclose(found, 10 / 5**0.5 * x @ a.T @ b.T, rtol=1e-5)


RECORD = record()  # of 60 steps, the adapter of step 40 was kept


def test_peft_goes_out_with_record_card_and_template(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("folder")
    base.small["README.md"] = b"---\nlicense: apache-2.0\ntags:\n- x\n---\n"
    lora, tensors = adapter_for(base.config)
    export(
        base,
        lora,
        tensors,
        "peft",
        None,
        tmp_path,
        base_name="owner/name",
        run=card_facts(RECORD, record_bytes(RECORD)),
    )
    assert (tmp_path / RUN_FILE).read_bytes() == record_bytes(RECORD)
    assert (tmp_path / TEMPLATE_FILE).read_text() == base.files.tokenizer.chat_template
    card = (tmp_path / CARD_FILE).read_text()
    losses = f"first step 3.0000, last step {3 / 40**0.5:.4f}, held-back rows 0.4800"
    data = ("`lighthouse.jsonl` (sha256 `cdcd", "120 rows", "12 more", "| steps | 40 |", "lora-lab 0.1.0")
    for said in (
        'base_model: "owner/name"',
        'license: "apache-2.0"',
        *data,
        losses,
        "learning_rate 0.002",
        "PeftModel",
    ):
        assert said in card, said


def test_peft_loads_what_goes_out(cases: Cases, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    from tests import torch_reference

    case = cases["qwen2"]
    base = case.base("folder")
    lora, tensors = adapter_for(base.config)
    export(base, lora, tensors, "peft", None, tmp_path)
    loaded = PeftModel.from_pretrained(torch_reference.load_base(case.folder, torch.float32), tmp_path)
    found = {key.replace(".default.", "."): value for key, value in loaded.state_dict().items() if ".lora_" in key}
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[key].numpy(), tensors[key]) for key in tensors)


def test_a_card_says_only_what_is_known() -> None:
    """Of a run without validation, and of an adapter whose record went lost: no line that says nothing."""
    bare = replace(RECORD, validation=ValidationColumns(), steps=StepColumns(), data=replace(RECORD.data, held_rows=0))
    card = model_card(LoraConfig(), None, card_facts(bare))
    assert "held" not in card and "| loss |" not in card and "120 rows" in card
    assert "## Training" not in model_card(LoraConfig(), None)


def test_a_name_cannot_break_the_cards_table() -> None:
    files = (replace(RECORD.data.files[0], name="a|b\n| x | y |"),)
    card = model_card(LoraConfig(), None, card_facts(replace(RECORD, data=replace(RECORD.data, files=files))))
    assert "| data | `a b x y ` (sha256" in card


def test_a_form_that_is_none_is_refused(cases: Cases, tmp_path: Path) -> None:
    base = cases["llama"].base("folder")
    for kind, form, said in (("mlx", "f16", "mlx cannot be f16; wanted f32"), ("onnx", None, "'onnx' is nothing")):
        with pytest.raises(LoraLabError, match=said):
            export(base, LoraConfig(), {}, kind, form, tmp_path)
    assert "gguf" in FORMS
