"""`lora-lab data show`: rows as they are read, as a model sees them, and rows that are refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main as cli
from lora_lab.data.row_view import turns_of
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.row import Conversation

pytestmark = pytest.mark.unit

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What\nnow?"},
    {"role": "assistant", "content": "Sail.", "weight": 0},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "Land.", "name": "Ada"},
]
ROWS = [
    json.dumps({"id": 7, "messages": TURNS}),
    json.dumps({"prompt": "a", "completion": ""}),
    json.dumps({"prompt": "Where?", "completion": "Here."}),
    '{"text": "no end',
    json.dumps({"text": "Once upon a time."}),
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join(ROWS), encoding="utf-8")
    return str(path)


def shown(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict[str, Any]]:
    assert cli.main(["data", "show", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_as_they_are_read(file: str, capsys: pytest.CaptureFixture) -> None:
    first, second, third = shown(capsys, file)
    assert (first["row"], first["line"], first["format"]) == (1, 1, "conversational")
    assert first["turns"] == [
        {"role": role, "content": content, "trained": trained}
        for role, content, trained in (
            ("system", "Be brief.", False), ("user", "What\nnow?", False), ("assistant", "Sail.", False),
            ("user", "And then?", False), ("assistant", "Land.", True),
        )
    ]  # fmt: skip
    assert sorted(first["unused"]) == ["id", "messages[].name"] and "tokens" not in first and "text" not in first
    assert (second["row"], second["line"], second["format"], second["turns"]) == (2, 3, "prompt-completion", [])
    assert second["problems"][0]["kind"] == "empty-content" and second["value"] == {"prompt": "a", "completion": ""}
    assert third["turns"][1] == {"role": "assistant", "content": "Here.", "trained": True} and third["problems"] == []


def test_one_row_by_its_number_or_its_line(file: str, capsys: pytest.CaptureFixture) -> None:
    (by_number,) = shown(capsys, file, "--row", "5")
    (by_line,) = shown(capsys, file, "--line", "9")
    assert by_number == by_line and by_number["turns"] == [
        {"role": "text", "content": "Once upon a time.", "trained": True}
    ]
    (broken,) = shown(capsys, file, "--row", "4")
    assert (broken["line"], broken["format"], broken["problems"][0]["kind"]) == (7, None, "unclosed")
    (mapped,) = shown(capsys, file, "--row", "3", "--map", "prompt=completion,reply=prompt")
    assert [turn["content"] for turn in mapped["turns"]] == ["Here.", "Where?"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--row", "6"), "--row 6: rows.jsonl has 5 rows"),
        (("--line", "2"), "--line 2: no row of rows.jsonl begins there; 5 rows begin on lines 1 to 9, the nearest on "
                          "line 1 and line 3"),
        (("--line", "70"), "the nearest on line 9"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_there(
    file: str, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["data", "show", file, *arguments]) == 1
    assert said in capsys.readouterr().err
    for wrong in (("--row", "0"), ("--row", "1", "--line", "1"), ("--random", "0")):
        with pytest.raises(SystemExit):
            cli.main(["data", "show", file, *wrong])


def test_a_file_without_rows_says_why(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"PAR1 and so on")
    assert cli.main(["data", "show", str(path)]) == 1
    said = capsys.readouterr().err
    assert "there is no row to show" in said and "Parquet" in said


def test_rows_by_lot_are_the_same_for_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Row {i}."}) for i in range(200)), encoding="utf-8")

    def numbers(*more: str) -> list[int]:
        return [row["row"] for row in shown(capsys, str(path), "--random", "5", *more)]

    assert len(set(numbers())) == 5 and numbers() == sorted(numbers()) == numbers("--seed", "0") != numbers(
        "--seed", "1"
    )
    all_of_them = shown(capsys, str(path), "--random", "900")
    assert len(all_of_them) == 200


def test_as_a_model_sees_them(file: str, tiny_model_folder: Path, capsys: pytest.CaptureFixture) -> None:
    model = ("--model", str(tiny_model_folder))
    (row,) = shown(capsys, file, "--row", "1", *model)
    assert "".join(token["text"] for token in row["tokens"]) == row["text"]
    assert "Be brief." in row["text"] and all(isinstance(token["id"], int) for token in row["tokens"])
    trained = "".join(token["text"] for token in row["tokens"] if token["trained"])
    assert trained == "Land.<|im_end|>"
    (everything,) = shown(capsys, file, "--row", "1", *model, "--mask", "all")
    assert [turn["trained"] for turn in everything["turns"]] == [True, True, False, True, True]
    assert sum(token["trained"] for token in everything["tokens"]) > len(row["tokens"]) // 2
    (cut,) = shown(capsys, file, "--row", "1", *model, "--max-length", "8")
    assert not any(token["trained"] for token in cut["tokens"]) and "cut off at 8" in " ".join(cut["notes"])
    (refused,) = shown(capsys, file, "--row", "2", *model)
    assert refused["problems"][0]["kind"] == "empty-content" and "tokens" not in refused


def test_what_the_template_refuses_is_shown_with_its_problem(
    tmp_path: Path, file: str, tiny_model_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    template = tmp_path / "only.jinja"
    template.write_text('{{ raise_exception("no system turns") if messages[0].role == "system" }}'
                        '{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}', encoding="utf-8")  # fmt: skip
    model = ("--model", str(tiny_model_folder), "--chat-template", str(template))
    (row,) = shown(capsys, file, "--row", "1", *model)
    assert len(row["turns"]) == 5 and "tokens" not in row
    assert "no system turns" in row["problems"][-1]["message"] and row["problems"][-1]["kind"] == "template"


def test_marks_for_a_pipe_and_colour_for_a_terminal(
    file: str, tiny_model_folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.main(["data", "show", file, "--row", "1"])
    plain = capsys.readouterr().out
    assert "assistant: ⟦Land.⟧" in plain and "assistant: Sail." in plain and "not used: messages[].name, id" in plain
    cli.main(["data", "show", file, "--row", "1", "--model", str(tiny_model_folder)])
    assert "⟦Land.<|im_end|>⟧" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    cli.main(["data", "show", file, "--row", "1"])
    assert "\x1b[32mLand.\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(["data", "show", file, "--row", "1"])
    assert "⟦Land.⟧" in capsys.readouterr().out


def test_nothing_of_a_file_reaches_the_terminal_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "hostile.jsonl"
    rows = [{"text": "\x1b[2J\u202egone\x07"}, {"\x1b[31mkey": 1, "text": "x"}, {"messages": "\x1b[2J"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert cli.main(["data", "show", str(path)]) == 0
    assert not set(capsys.readouterr().out) & set("\x1b\x07\u202e")


def test_a_stream_that_has_not_all_letters(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.main(["data", "show", file, "--row", "1"]) == 0
    sys.stdout.flush()
    assert b"[[Land.]]" in raw.getvalue()


def test_which_turns_are_trained() -> None:
    row = Conversation(
        1, (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    )
    trained = {masking: [turn.trained for turn in turns_of(row, masking)] for masking in ("assistant", "last", "all")}
    assert trained == {"assistant": [False, True, False, True], "last": [False, False, False, True], "all": [True] * 4}
