"""What `lora-lab train` trains on: --mask, --on-long, --map, --repair, several files, files to validate on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lora_lab.cli import main as cli
from lora_lab.cli.data_check import rows_to_train, within_context
from lora_lab.data import Example
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.errors import DatasetError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import open_model
from tests.unit.workers.helpers import pairs

TALK = {
    "messages": [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes, one."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "No, three."},
    ]
}


def write(path: Path, rows: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chosen(model: Path, *arguments: str | Path) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return what a run with these arguments would train on and validate on."""
    words = ["train", "--model", str(model), "--out", "unused", *map(str, arguments)]
    options = cli.make_parser().parse_args(words)
    files = asyncio.run(open_model(sources_from_path(model))).tokenizer
    assert files.chat_template is not None
    template = ChatTemplate(files.chat_template, files.special_tokens)
    rows = asyncio.run(rows_to_train(options, load_tokenizer(files), template, cli.train_config(options)))
    return rows.trained, rows.held


def texts(model: Path, examples: Sequence[Example], *, only_trained: bool = False) -> list[str]:
    tokenizer = load_tokenizer(asyncio.run(open_model(sources_from_path(model))).tokenizer)
    return [
        tokenizer.decode((example.tokens[example.trained] if only_trained else example.tokens).tolist())
        for example in examples
    ]


def test_the_mask_decides_what_is_trained(tiny_model_folder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [TALK])
    said = {
        mask: texts(tiny_model_folder, chosen(tiny_model_folder, "--data", data, "--mask", mask)[0], only_trained=True)[
            0
        ]
        for mask in ("assistant", "last", "all")
    }
    assert "Yes, one." in said["assistant"] and "No, three." in said["assistant"] and "Two?" not in said["assistant"]
    assert "Yes, one." not in said["last"] and "No, three." in said["last"]
    assert "Two?" in said["all"] and "user" in said["all"]


def test_long_rows_are_cut_or_left_out_and_that_needs_no_consent(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "d.jsonl", [*pairs(3), {"prompt": "Hi", "completion": "word " * 200}])
    sizes = ("--data", data, "--max-length", "150")
    assert [len(example.tokens) for example in chosen(tiny_model_folder, *sizes)[0]][3] == 150
    assert len(chosen(tiny_model_folder, *sizes, "--on-long", "drop")[0]) == 3
    assert "more than 150" in capsys.readouterr().err


def test_rows_end_where_the_models_context_does(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = asyncio.run(open_model(sources_from_path(tiny_model_folder))).config
    context = config.max_position_embeddings
    assert within_context(context, config) == context
    assert capsys.readouterr().err == ""
    assert within_context(2 * context, config) == context
    assert f"{context:,} tokens, not the {2 * context:,}" in capsys.readouterr().err


def test_columns_can_be_named_and_slips_mended(tiny_model_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("frage,antwort\nWo?,Hier.\nWann?,Jetzt.\n")
    with pytest.raises(DatasetError, match="choose which column"):
        chosen(tiny_model_folder, "--data", data)
    trained, _ = chosen(tiny_model_folder, "--data", data, "--map", "prompt=frage,reply=antwort")
    assert [words for words in ("Hier.", "Jetzt.") if words in "".join(texts(tiny_model_folder, trained))] == [
        "Hier.",
        "Jetzt.",
    ]
    with pytest.raises(DatasetError, match="wanted are columns as prompt=NAME"):
        chosen(tiny_model_folder, "--data", data, "--map", "frage")
    slip = tmp_path / "slip.jsonl"
    slip.write_text('{"text": "a good row"}\n{"text": "a slip",}\n')
    with pytest.raises(DatasetError, match="1 bad row"):
        chosen(tiny_model_folder, "--data", slip)
    assert len(chosen(tiny_model_folder, "--data", slip, "--skip-bad-rows")[0]) == 1
    assert len(chosen(tiny_model_folder, "--data", slip, "--repair")[0]) == 2


def test_a_validation_file_keeps_its_rows_out_of_training(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "a.jsonl", pairs(6)), write(tmp_path / "b.jsonl", pairs(6, 6))
    held = write(tmp_path / "v.jsonl", pairs(5, 9))
    without, nothing = chosen(tiny_model_folder, "--data", first, second)
    assert (len(without), len(nothing)) == (12, 0)
    trained, validated = chosen(tiny_model_folder, "--data", first, second, "--val-file", held)
    assert (len(trained), len(validated)) == (9, 5)
    rows = [{example.tokens.tobytes() for example in part} for part in (trained, validated, without)]
    assert not rows[0] & rows[1]
    assert len(rows[2] & rows[1]) == 3  # the control: they would have been trained on
    assert (
        "3 rows are left out: also in the validation file (the first: line 4, there line 1)" in capsys.readouterr().err
    )
    with pytest.raises(DatasetError, match="nothing is left"):
        chosen(tiny_model_folder, "--data", held, "--val-file", held)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{")
    with pytest.raises(DatasetError, match="the validation file: 1 bad row"):
        chosen(tiny_model_folder, "--data", first, "--val-file", bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mask", "some"), "--mask"),
        (("--on-long", "keep"), "--on-long"),
        (("--val-file", "v.jsonl", "--val-fraction", "0.1"), "not allowed with"),
    ],
)
def test_mistakes_exit_2(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--model", "m", "--data", "d", "--out", "o", *arguments])
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_training_waits_for_a_reading_where_there_are_several(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"A report, number {i}.", "summary": f"Nr {i}."} for i in range(3)]
    data = write(tmp_path / "d.jsonl", rows)
    with pytest.raises(DatasetError, match="say how the rows are to be read, with --map"):
        chosen(tiny_model_folder, "--data", data)
    said = texts(tiny_model_folder, chosen(tiny_model_folder, "--data", data, "--map", "prompt=text,reply=summary")[0],
                 only_trained=True)  # fmt: skip
    assert [text[:5] for text in said] == ["Nr 0.", "Nr 1.", "Nr 2."]
    said = texts(tiny_model_folder, chosen(tiny_model_folder, "--data", data, "--map", "as=known")[0])
    assert all("report" in text and "Nr" not in text for text in said)


def test_bad_answers_are_trained_by_nobody(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "completion": f"word{i}", "label": i != 1, "stars": i} for i in range(3)]
    data = write(tmp_path / "d.jsonl", rows)
    with pytest.raises(DatasetError, match="1 bad row"):
        chosen(tiny_model_folder, "--data", data)
    for options, wanted in (
        (["--skip-bad-rows"], ["word0", "word2"]),
        (["--map", "prompt=prompt,reply=completion"], ["word0", "word1", "word2"]),
        (["--map", "prompt=prompt,reply=completion,label=stars>=2", "--skip-bad-rows"], ["word2"]),
    ):
        examples = chosen(tiny_model_folder, "--data", data, *options)[0]
        said = texts(tiny_model_folder, examples, only_trained=True)
        assert [text[:5] for text in said] == wanted
