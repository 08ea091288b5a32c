"""The command line with several adapters, with two sides, and what adapters change: against PEFT and torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_lab.cli import commands
from lora_lab.cli import main as cli
from lora_lab.config import LoraConfig
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.gpu import Device
from lora_lab.model import Model, load_model
from lora_lab.model.files import open_model
from tests.gpu.test_changes import LOG_TOLERANCE
from tests.unit.data.helpers import run

SHIPS = LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj"))
STARS = LoraConfig(rank=6, alpha=3, targets=("q_proj", "v_proj"), use_rslora=True)
PROMPT = "What is the way to the lighthouse?"
DRAWN = ("--max-new-tokens", "10", "--seed", "7", "--temperature", "1.2")


@pytest.fixture(scope="module")
def adapters(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adapters `ships` and `stars`."""
    folder = tmp_path_factory.mktemp("adapters")
    config = run(open_model(sources_from_path(tiny_model_folder))).config
    for seed, (name, lora) in enumerate({"ships": SHIPS, "stars": STARS}.items()):
        rng = np.random.default_rng(seed)
        tensors = {key: rng.normal(0, 0.25, shape).astype(np.float32) for key, shape in
                   expected_shapes(lora, config).items()}  # fmt: skip
        (folder / name).mkdir()
        for file, data in write_adapter(tensors, lora, config, None).items():
            (folder / name / file).write_bytes(data)
    return folder


class Line:
    """Runs a command in the folder of the adapters."""

    def __init__(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.capsys = str(model), capsys

    def __call__(self, name: str, *arguments: str, code: int = 0) -> tuple[str, str]:
        assert cli.main([name, "--model", self.model, *arguments]) == code
        output = self.capsys.readouterr()
        return output.out, output.err

    def generate(self, *arguments: str) -> str:
        return self("generate", "--prompt", PROMPT, *DRAWN, *arguments)[0].removesuffix("\n")

    def diff(self, *arguments: str) -> dict[str, Any]:
        return json.loads(self("diff", *arguments, "--json")[0])


@pytest.fixture
def line(
    device: Device, tiny_model_folder: Path, adapters: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Line]:  # fmt: skip
    """Commands on the session's device, whose kernels are compiled, each with a model of its own."""
    before = device.num_buffers, device.memory_in_use_bytes
    models: list[Model] = []

    async def opened(_: str | None) -> Device:
        return device

    async def left_open() -> None: ...

    async def loaded(*arguments: Any, **more: Any) -> Model:
        models.append(await load_model(*arguments, **more))
        return models[-1]

    monkeypatch.setattr(commands, "open_device", opened)
    monkeypatch.setattr(commands, "load_model", loaded)
    monkeypatch.setattr(device, "close", left_open)
    monkeypatch.chdir(adapters)
    yield Line(tiny_model_folder, capsys)
    for model in models:
        model.release()
    assert (device.num_buffers, device.memory_in_use_bytes) == before


def test_two_sides_are_the_two_replies(line: Line) -> None:
    base = line.generate()
    ships, half = line.generate("--adapter", "ships"), line.generate("--adapter", "ships", "--strength", "0.5")
    stars = line.generate("--adapter", "stars")
    assert len({base, ships, half, stars}) == 4
    for arguments, sides in (
        (["--adapter", "ships", "--compare"], [("base", base), ("ships at 1", ships)]),
        (["--compare", "ships"], [("base", base), ("ships at 1", ships)]),
        (["--adapter", "ships", "--compare", "0.5"], [("ships at 1", ships), ("ships at 0.5", half)]),
        (["--adapter", "ships", "--compare", "stars"], [("ships at 1", ships), ("stars at 1", stars)]),
    ):
        assert line.generate(*arguments) == "\n".join(f"--- {label}\n{text}" for label, text in sides), arguments
    assert line.generate("--adapter", "ships", "--compare", "--seed", "8") != line.generate(
        "--adapter", "ships", "--compare"
    )


def test_a_comparison_as_json(line: Line) -> None:
    found = json.loads(line.generate("--adapter", "ships", "--compare", "0.5", "--json"))
    assert found["seed"] == 7
    for reply, strength in zip(found["replies"], (1.0, 0.5), strict=True):
        assert reply["adapters"] == [{"path": "ships", "strength": strength}]
        alone = json.loads(line.generate("--adapter", "ships", "--strength", str(strength), "--json"))
        assert alone == reply and len(reply["token_ids"]) == 10 and reply["finish_reason"] == "length"


def test_several_adapters_are_pefts(line: Line, adapters: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Their logits: of PEFT's weighted adapter, in float64."""
    text = "<|im_start|>user\nWhat is 7?<|im_end|>\n"
    both = ("--adapter", "ships", "--adapter", "stars", "--strength", "0.5", "--strength", "1.5")
    out = tmp_path / "x.npy"
    line("logits", *both, "--text", text, "--out", str(out))
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    model = PeftModel.from_pretrained(base, str(adapters / "ships"), adapter_name="ships")
    model.load_adapter(str(adapters / "stars"), adapter_name="stars")
    model.to(torch.float64).eval()
    model.add_weighted_adapter(["ships", "stars"], [0.5, 1.5], "both", combination_type="cat")
    model.to(torch.float64)
    ids = torch.tensor([AutoTokenizer.from_pretrained(tiny_model_folder)(text, add_special_tokens=False).input_ids])
    distances = {}
    for name in ("both", "ships", "stars"):
        model.set_adapter(name)
        with torch.no_grad():
            wanted = model(ids).logits[0].numpy()
        distances[name] = np.linalg.norm(np.load(out) - wanted) / np.linalg.norm(wanted)
    assert distances["both"] < 1e-5 < 1e-2 < min(distances["ships"], distances["stars"])


def test_a_diff_is_transformers_and_pefts(line: Line, adapters: Path, tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    model = PeftModel.from_pretrained(base, str(adapters / "ships")).to(torch.float64).eval()
    asked = [{"role": "user", "content": PROMPT}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    reply = "The lighthouse: 你好, 😀."
    found = line.diff("--adapter", "ships", "--prompt", PROMPT, "--reply", reply, "--alternatives", "4")
    assert found["adapters"] == [{"path": "ships", "strength": 1.0}]
    first, ids = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, reply))
    assert [token["token_id"] for token in found["tokens"]] == ids
    assert "".join(token["text"] for token in found["tokens"]) == reply
    both = torch.tensor([[*first, *ids]])
    with torch.no_grad():
        tuned = torch.log_softmax(model(both).logits[0], -1)[len(first) - 1 : -1].numpy()
        with model.disable_adapter():
            plain = torch.log_softmax(model(both).logits[0], -1)[len(first) - 1 : -1].numpy()
    for row, token in enumerate(found["tokens"]):
        assert abs(token["tuned"] - tuned[row, ids[row]]) < LOG_TOLERANCE
        assert abs(token["base"] - plain[row, ids[row]]) < LOG_TOLERANCE
        assert token["log_ratio"] == token["tuned"] - token["base"]
        for by, order in (("base", plain), ("tuned", tuned)):
            told = [one["token_id"] for one in token[f"{by}_top"]]
            assert np.abs(order[row, told] - np.sort(order[row])[::-1][:4]).max() < LOG_TOLERANCE
    assert max(abs(token["log_ratio"]) for token in found["tokens"]) > 1000 * LOG_TOLERANCE  # the control


def test_a_diff_of_what_the_adapter_answers(line: Line) -> None:
    found = line.diff("--adapter", "ships", "--prompt", PROMPT, *DRAWN)
    reply = json.loads(line.generate("--adapter", "ships", "--json"))
    assert [token["token_id"] for token in found["tokens"]] == reply["token_ids"]
    again = line.diff("--adapter", "ships", "--prompt", PROMPT, *DRAWN, "--strength", "0")
    assert all(token["log_ratio"] == 0 for token in again["tokens"])
    text = line.diff("--adapter", "ships", "--text", "What is it?")
    assert "".join(token["text"] for token in text["tokens"]) in "What is it?" and text["tokens"]


def test_a_diff_can_be_read(line: Line) -> None:
    out, err = line("diff", "--adapter", "ships", "--prompt", PROMPT, "--reply", "The\nway", "--alternatives", "2")
    found = line.diff("--adapter", "ships", "--prompt", PROMPT, "--reply", "The\nway", "--alternatives", "2")["tokens"]
    heading, *rows = out.splitlines()
    assert heading.split()[:4] == ["token", "base", "adapter", "ratio"] and len(rows) == len(found)
    for row, token in zip(rows, found, strict=True):
        quoted = json.dumps(token["text"])
        base, tuned, ratio = row[len(quoted) :].split()[:3]
        assert row.startswith(quoted)
        assert (base, tuned) == tuple(f"{100 * np.exp(token[by]):.2f}%" for by in ("base", "tuned"))
        assert ratio == f"{token['log_ratio']:+.2f}" and row.count("|") == 1 and row.count("%") == 6
    total = sum(token["log_ratio"] for token in found)
    said = f"{len(found)} tokens; with ships at 1 the text is e^{total:+.2f} times as likely as by the base model"
    assert said in err


def test_an_adapter_of_another_model_is_named(line: Line, adapters: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    for file in (adapters / "ships").iterdir():
        data = file.read_bytes()
        (wide / file.name).write_bytes(data.replace(b"model.layers.1", b"model.layers.7"))
    _, err = line("generate", "--prompt", "x", "--adapter", "ships", "--adapter", str(wide), code=1)
    assert f"{wide}: " in err and "layers" in err
