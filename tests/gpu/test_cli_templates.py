"""A base model on the command line: trained with a chosen chat format, which goes along and ends its replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_lab.cli import main as cli
from lora_lab.data.tokens.chat_formats import CHATML, PLAIN

ROWS = [{"prompt": f"What is {n}?", "completion": f"It is the number {n}."} for n in range(6)]
SETTINGS = ["--steps", "36", "--lr", "0.01", "--batch", "6", "--rank", "8", "--seed", "1"]
GREEDY = ["--prompt", "What is 3?", "--temperature", "0", "--max-new-tokens", "24"]
# Its markers are ordinary text to the tokenizer, whole tokens or not.
TEXT_MARKERS = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}<end of turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, str]:
    assert cli.main(list(map(str, arguments))) == 0, capsys.readouterr()
    return capsys.readouterr()


@pytest.mark.parametrize("markers", ["tokens", "text"])
def test_a_reply_ends_at_the_marker_of_the_format_that_was_learned(
    base_model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], markers: str
) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text(TEXT_MARKERS)
    asked, source = ("chatml", CHATML.source) if markers == "tokens" else (mine, TEXT_MARKERS)
    out = tmp_path / "adapter"
    base = ["--model", base_model_folder]
    run(capsys, "train", *base, "--data", data, "--out", out, "--chat-template", asked, *SETTINGS)
    assert (out / "chat_template.jinja").read_text() == source
    said, told = run(capsys, "generate", *base, "--adapter", out, *GREEDY)
    assert said == "It is the number 3.\n" and "cut off" not in told
    if markers == "text":
        return
    # The control: without the format it was trained with it neither answers so nor ends.
    other, told = run(capsys, "generate", *base, "--adapter", out, "--chat-template", "plain", *GREEDY)
    assert other != said and "Chat format: Plain text" in told
    # PEFT does not mind the file more.
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model_folder), out)


def test_plain_text_is_continued_up_to_the_end_of_the_text(
    base_model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    base = ["--model", base_model_folder]
    run(capsys, "train", *base, "--data", data, "--out", out, "--chat-template", "plain", *SETTINGS)
    assert (out / "chat_template.jinja").read_text() == PLAIN.source
    said, told = run(capsys, "generate", *base, "--adapter", out, *GREEDY)
    assert said == "It is the number 3.\n" and "cut off" not in told


def test_an_adapter_of_a_model_with_a_template_gets_none(
    tiny_model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where an earlier adapter, trained with another one, was in the folder."""
    arguments = ["train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path, "--steps", "1"]
    run(capsys, *arguments, "--chat-template", "plain")
    assert (tmp_path / "chat_template.jinja").exists()
    run(capsys, *arguments)
    assert not (tmp_path / "chat_template.jinja").exists()
