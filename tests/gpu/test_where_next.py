"""docs/where-next.md: every command in it is run, in its order, and leaves what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from build_tools.base import ROOT
from lora_lab.cli.main import main
from lora_lab.formats.peft import write_adapter
from tests.export_cases import adapter_for, open_path
from tests.hub_upload import UploadHub

PAGE = (ROOT / "docs/where-next.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    lora-lab (.+)$", PAGE, re.MULTILINE)
ROWS = [{"prompt": f"What is {number}?", "completion": f"It is the number {number}."} for number in range(8)]


def test_every_section_has_a_command_and_three_lines() -> None:
    parts = re.split(r"^\*\*", PAGE, flags=re.MULTILINE)[1:]
    assert len(parts) == len(COMMANDS) == 9
    for part in parts:
        text = part.split("\n\n    lora-lab")[0]
        assert len(text.strip().splitlines()) == 3, text
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == ["Chat elsewhere", "Share", "Serve", "Train more"]


def test_every_command_works(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "more.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = open_path(tiny_model_folder).config
    lora, tensors = adapter_for(config)
    Path("my-adapter").mkdir()
    for name, content in write_adapter(tensors, lora, config, None).items():
        Path("my-adapter", name).write_bytes(content)
    with UploadHub("hf_test") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        for command in COMMANDS:
            arguments = [str(tiny_model_folder) if one == "MODEL" else one for one in shlex.split(command)]
            arguments = ["owner/ships" if one == "OWNER/NAME" else one for one in arguments]
            assert main(arguments) == 0, command
        close_session()
        assert "adapter_model.safetensors" in hub.repositories["owner/ships"]
    made = {"for-ollama", "merged.gguf", "adapter.gguf", "for-mlx", "to-send", "merged", "my-adapter-2", "back-again"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    record = json.loads(Path("my-adapter-2/lora-lab-run.json").read_text())
    assert (record["data"]["rows"], record["outcome"]["steps"], record["data"]["name"]) == (8, 2, "more.jsonl")
    card = Path("my-adapter-2/README.md").read_text()
    assert "`more.jsonl` (sha256 `" in card and "8 rows" in card and "last step " in card and "learning_rate" in card
    said = capsys.readouterr().err
    before, after = (float(number) for number in re.findall(r"on 8 rows: ([\d.]+) with.* on, ([\d.]+) of", said)[0])
    assert before != 0 and abs(before - after) < 0.05 * before
    # The control: the model without the adapter has another loss, so the first number is not just the base's.
    main(["export", "my-adapter-2", "--to", "gguf", "--model", str(tiny_model_folder), "--out", "x.gguf", "--measure",
          "rows.jsonl", "--form", "f32"])  # fmt: skip
    other = re.findall(r"on 8 rows: ([\d.]+) with.* on, ([\d.]+) of", capsys.readouterr().err)[0]
    assert other[0] == other[1] != f"{before:.4f}"
