"""--chat-template: what a command uses, what it says of it, and what goes into the adapter's folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lora_lab.cli import main as cli
from lora_lab.cli.templates import choose_template, own_template, written_template
from lora_lab.data.tokens.chat_formats import CHATML, LLAMA3, PLAIN
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.errors import LoraLabError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.zipping import pack_adapter
from lora_lab.model.files import ModelFiles, open_model

pytestmark = pytest.mark.unit

SHOUT = "{% for message in messages %}{{ message.content }}!END!{% endfor %}"


def opened(folder: Path) -> tuple[ModelFiles, Tokenizer]:
    files = asyncio.run(open_model(sources_from_path(folder)))
    return files, load_tokenizer(files.tokenizer)


def test_a_model_without_a_template_gets_what_suits_or_what_is_asked_for(
    base_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = opened(base_model_folder)
    assert own_template(model[0]) is None
    sources = {"auto": CHATML, "family": CHATML, "chatml": CHATML, "plain": PLAIN}
    for asked, chat_format in sources.items():
        template = choose_template(asked, *model)
        assert template.source == chat_format.source == written_template(template, model[0])
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "Chat format: ChatML (<|im_end|> ends an answer, and is a token of this model)"
    assert told[-1] == "Chat format: Plain text"


def test_a_models_own_template_wins_unless_another_is_asked_for(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, tokenizer = opened(tiny_model_folder)
    template = choose_template("auto", files, tokenizer)
    assert template.source == files.tokenizer.chat_template and template.end_of_turn == ""
    assert written_template(template, files) is None and capsys.readouterr().err == ""
    path = tmp_path / "mine.jinja"
    path.write_text(SHOUT)
    for asked, source in (("chatml", CHATML.source), (str(path), SHOUT)):
        template = choose_template(asked, files, tokenizer)
        assert template.source == source == written_template(template, files)
    assert template.end_of_turn == "!END!"


@pytest.mark.parametrize("packed", [False, True])
def test_an_adapters_template_is_used_unless_another_is_asked_for(
    tiny_model_folder: Path, tmp_path: Path, packed: bool
) -> None:
    model = opened(tiny_model_folder)
    path = tmp_path / "a.zip" if packed else tmp_path
    content = {"adapter_config.json": b"{}", "chat_template.jinja": SHOUT.encode()}
    if packed:
        path.write_bytes(pack_adapter(content))
    else:
        for name, data in content.items():
            (path / name).write_bytes(data)
    assert choose_template("auto", *model, path).source == SHOUT
    assert choose_template("chatml", *model, path).source == CHATML.source


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{% for %}", "line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{{ ''.__class__.__mro__ }}", "unsafe"),
        (b"x" * (2 << 20), "most"),
    ],
)
def test_a_broken_template_of_an_adapter_is_told_and_the_models_own_is_used(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, said: str
) -> None:
    files, tokenizer = opened(tiny_model_folder)
    (tmp_path / "chat_template.jinja").write_bytes(data)
    assert choose_template("auto", files, tokenizer, tmp_path).source == files.tokenizer.chat_template
    told = capsys.readouterr().err
    assert "chat_template.jinja" in told and said in told and "the model's own is used in its place" in told
    with pytest.raises(LoraLabError, match=f"--chat-template .*{said}"):
        choose_template(str(tmp_path / "chat_template.jinja"), files, tokenizer)


def test_a_path_that_is_none_names_what_can_be_chosen(base_model_folder: Path) -> None:
    with pytest.raises(LoraLabError, match="no such file; wanted auto, plain, chatml, family, or a file"):
        choose_template("chatlm", *opened(base_model_folder))


def test_data_check_reads_conversations_for_a_model_without_a_template(
    base_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"prompt": "What is 7?", "completion": "It is 7."}\n{"text": "A text."}\n' * 6)
    for asked in ("plain", "chatml"):
        arguments = ["data", "check", str(data), "--model", str(base_model_folder), "--chat-template", asked]
        assert cli.main(arguments) == 0, capsys.readouterr()
    assert LLAMA3.source not in capsys.readouterr().out
