"""Exports as the programs that they are for run them: llama.cpp's greedy tokens are our engine's, of every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, SamplingConfig
from lora_lab.export import FORMS
from lora_lab.formats.gguf_adapter import write_gguf_adapter
from lora_lab.formats.gguf_model import GgufNames
from lora_lab.gpu import Device
from lora_lab.model.families import FAMILIES, family_of, gguf_architectures
from tests.engine_runs import load, run
from tests.export_cases import NAMES, Case, adapter_for, export, make_case, open_path, write_mixed
from tests.gpu.test_tiny_chat import chat_with, complete
from tests.llama_cpp import Job
from tests.llama_cpp import complete as complete_with_llama_cpp

COUNT = 32
GREEDY = SamplingConfig(max_new_tokens=COUNT, temperature=0.0)


@dataclass(frozen=True)
class Ran:
    """Greedy tokens of one family's model: by our engine, and by llama.cpp of each file."""

    engine: dict[str, list[int]]
    llama_cpp: dict[str, list[int] | str]


def swapped(names: GgufNames, heads: tuple[int, int]) -> GgufNames:
    """One permutation the other way: q's rows are left as they are where they are to move, and moved where not."""
    permuted = dict(names.permuted)
    if permuted.pop("attn_q", None) is None:
        name = "attn_q" if "attn_q" in names.layer else "attn_qkv"
        permuted[name] = heads[0] if name == "attn_q" else heads[0] + 2 * heads[1]
    return replace(names, permuted=permuted)


def prompt_of(case: Case) -> list[int]:
    return np.random.default_rng(len(case.family)).integers(3, 384, 20).tolist()


def with_our_engine(device: Device, path: Path, prompt: Sequence[int], lora: LoraConfig, tensors: dict) -> dict:
    model = load(device, path)
    with chat_with(model) as chat:
        base = complete(chat, prompt, GREEDY)
        run(chat.set_adapter(lora, tensors))
        found = {"base": base, "adapter": complete(chat, prompt, GREEDY)}
    model.release()
    return found


@pytest.fixture(scope="module")
def ran(device: Device, tmp_path_factory: pytest.TempPathFactory, node_modules: Path) -> dict[str, Ran]:
    """Everything is written first, then llama.cpp runs once over all of it."""
    root = tmp_path_factory.mktemp("export")
    jobs: dict[tuple[str, str], Job] = {}
    engine = {}
    for family in NAMES:
        case = make_case(root, family)
        base, folder, out = case.base("gguf"), case.base("folder"), root / f"{family}-out"
        lora, tensors = adapter_for(base.config)
        prompt = prompt_of(case)
        engine[family] = with_our_engine(device, case.gguf, prompt, lora, tensors)
        adapters = {}
        for form in ("f32", "f16"):
            export(base, lora, tensors, "gguf-adapter", form, out, file_name=f"{form}.gguf")
            adapters[form] = out / f"{form}.gguf"
        known = family_of(base.config)
        names = swapped(known.gguf_names(base.config), (base.config.num_heads, base.config.num_kv_heads))
        adapters["swapped"] = out / "swapped.gguf"
        adapters["swapped"].write_bytes(write_gguf_adapter(tensors, lora, gguf_architectures(known)[0], names))
        export(base, lora, tensors, "gguf", "f32", out, file_name="merged.gguf")
        export(folder, lora, tensors, "gguf", "f32", out, file_name="from-folder.gguf")
        jobs[family, "base"] = Job(case.gguf, prompt)
        jobs |= {(family, f"adapter {name}"): Job(case.gguf, prompt, path) for name, path in adapters.items()}
        for name in ("merged", "from-folder"):
            jobs[family, name] = Job(out / f"{name}.gguf", prompt)
    results = dict(zip(jobs, complete_with_llama_cpp(node_modules, list(jobs.values())), strict=True))
    return {
        family: Ran(engine[family], {name: found for (one, name), found in results.items() if one == family})
        for family in NAMES
    }


def test_every_family_is_tried() -> None:
    assert set(NAMES) == {family.NAME for family in FAMILIES}


@pytest.mark.parametrize("family", NAMES)
def test_llama_cpp_runs_the_base_as_we_do(ran: dict[str, Ran], family: str) -> None:
    """Else nothing of what follows would say anything."""
    assert ran[family].llama_cpp["base"] == ran[family].engine["base"]


@pytest.mark.parametrize("file", ["adapter f32", "adapter f16", "merged", "from-folder"])
@pytest.mark.parametrize("family", NAMES)
def test_llama_cpp_answers_as_our_engine_with_the_adapter(ran: dict[str, Ran], family: str, file: str) -> None:
    found, engine = ran[family].llama_cpp[file], ran[family].engine
    assert found == engine["adapter"]
    assert len(found) == COUNT
    assert found != engine["base"]


@pytest.mark.parametrize("family", NAMES)
def test_one_permutation_the_other_way_shows(ran: dict[str, Ran], family: str) -> None:
    """The control."""
    found = ran[family].llama_cpp["adapter swapped"]
    assert isinstance(found, list), found
    assert found != ran[family].engine["adapter"]


def test_llama_cpp_loads_every_form(tmp_path: Path, node_modules: Path) -> None:
    """What it computes with is rounded there once more, to 8 bits, so that tokens need not be ours."""
    base = open_path(write_mixed(tmp_path))
    lora, tensors = adapter_for(base.config)
    for form in FORMS["gguf"]:
        export(base, lora, tensors, "gguf", form, tmp_path, file_name=f"{form}.gguf")
    (tmp_path / "broken.gguf").write_bytes((tmp_path / "q8_0.gguf").read_bytes()[:-4096])
    prompt = list(range(10, 30))
    jobs = [Job(tmp_path / f"{form}.gguf", prompt) for form in (*FORMS["gguf"], "broken")]
    *found, broken = complete_with_llama_cpp(node_modules, jobs)
    assert [len(one) for one in found if isinstance(one, list)] == [COUNT] * len(FORMS["gguf"]), found
    assert isinstance(broken, str)  # the control: a file that is cut off
