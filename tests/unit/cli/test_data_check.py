"""`lora-lab data check`: what it prints, what its JSON holds, and when it exits with 1."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lora_lab.cli import main as cli

pytestmark = pytest.mark.unit

GOOD = [{"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}."}]}
        for i in range(12)]  # fmt: skip


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def check_json(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, dict]:
    code = cli.main(["data", "check", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_file_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "good.jsonl", *map(json.dumps, GOOD))
    code, report = check_json(capsys, path)
    assert code == 0
    assert (report["format"], report["formats"]) == ("conversational", {"conversational": 12})
    assert (report["rows"], report["good"], report["problems"], report["tokens"]) == (12, 12, [], None)
    assert cli.main(["data", "check", path]) == 0
    assert "12 rows, 12 good" in capsys.readouterr().out


def test_tokens_are_counted_with_a_model(
    tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / "good.jsonl", *map(json.dumps, GOOD))
    code, report = check_json(capsys, path, "--model", str(tiny_model_folder))
    tokens = report["tokens"]
    assert code == 0
    assert 0 < tokens["trained"] < tokens["total"]
    assert 0 < tokens["p50"] <= tokens["p95"] <= tokens["max"] <= tokens["total"]
    _, last = check_json(capsys, path, "--model", str(tiny_model_folder), "--mask", "all")
    assert last["tokens"]["trained"] == last["tokens"]["total"] - 12  # all but each row's first token
    code, short = check_json(capsys, path, "--model", str(tiny_model_folder), "--max-length", "4", "--on-long", "drop")
    assert code == 1
    assert {problem["kind"] for problem in short["problems"] if problem["severity"] == "error"} == {"too-long"}
    assert cli.main(["data", "check", path, "--model", str(tiny_model_folder)]) == 0
    assert "trained (" in capsys.readouterr().out


def test_errors_give_exit_code_1_and_a_place(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [*map(json.dumps, GOOD), '{"text": "a",}', "{'text': 'b'}", '{"text": "c']
    path = write(tmp_path / "bad.jsonl", *rows)
    code, report = check_json(capsys, path)
    assert code == 1
    errors = [problem for problem in report["problems"] if problem["severity"] == "error"]
    assert [(e["line"], e["column"], e["kind"]) for e in errors] == [
        (13, 13, "trailing-comma"), (14, 2, "single-quotes"), (15, 10, "unclosed"),
    ]  # fmt: skip
    for error in errors:
        assert set(error) >= {"line", "column", "kind", "severity", "message", "hint"}
        assert error["message"] and error["hint"]
    assert [bool(error["repair"]) for error in errors] == [True, True, False]
    assert (report["rows"], report["good"], report["bad"], report["mendable"]) == (15, 12, 3, 2)
    assert cli.main(["data", "check", path]) == 1
    assert "line 13, column 13" in capsys.readouterr().out


def test_repair_and_the_cleaned_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "bad.jsonl", json.dumps(GOOD[0]), '{"text": "a",}')
    out = tmp_path / "cleaned.jsonl"
    code, report = check_json(capsys, path, "--repair", "--cleaned", str(out))
    assert (code, report["good"]) == (0, 2)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [GOOD[0], {"text": "a"}]
    assert check_json(capsys, str(out))[0] == 0


def test_other_columns_are_guessed_and_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "faq.csv", "question,answer", "a,b", "c,d")
    code, report = check_json(capsys, path)
    assert code == 1
    assert report["suggested_mapping"] == {"prompt": "question", "reply": "answer"}
    code, report = check_json(capsys, path, "--map", "prompt=question,reply=answer")
    assert (code, report["good"]) == (0, 2)
    assert cli.main(["data", "check", path, "--map", "color=blue"]) == 1
    assert "color=blue" in capsys.readouterr().err


def test_unused_columns_are_told_and_a_reading_is_to_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [{"id": i, "text": f"A report, number {i}.", "summary": f"Report {i}."} for i in range(12)]
    path = write(tmp_path / "reports.jsonl", *map(json.dumps, rows))
    code, report = check_json(capsys, path)
    assert (code, report["good"], len(report["asks"])) == (1, 12, 1)
    found = {column["column"]: column for column in report["unused"]}
    assert (found["summary"]["rows"], found["summary"]["quiet"], found["id"]["quiet"]) == (12, False, True)
    assert (found["summary"]["offer"], found["id"]["offer"]) == ("prompt=text, reply=summary", "")
    assert [reading["map"] for reading in report["readings"]] == ["prompt=text, reply=summary", "as=known"]
    assert report["readings"][0]["row"]["messages"][1] == {"role": "assistant", "content": "Report 0."}
    assert cli.main(["data", "check", path]) == 1
    said = capsys.readouterr().out
    assert "summary: 12 rows; an answer, or a class, as 'Report 0.'" in said
    assert "numbers or repeats: id" in said
    assert '"summary" may be the reply to the text' in said and "prompt=text, reply=summary" in said
    # What was offered is what --map takes; then nothing is asked.
    for reading, left in zip(report["readings"], (["id"], ["summary", "id"]), strict=True):
        code, chosen = check_json(capsys, path, "--map", reading["map"])
        assert (code, chosen["good"], chosen["asks"]) == (0, 12, [])
        assert [column["column"] for column in chosen["unused"]] == left
    # A control: rows with no column too many ask nothing.
    code, report = check_json(capsys, write(tmp_path / "good.jsonl", *map(json.dumps, GOOD)))
    assert (code, report["asks"], report["unused"], report["readings"]) == (0, [], [], [])


def test_several_files_and_a_validation_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = write(tmp_path / "a.jsonl", *map(json.dumps, GOOD[:6]))
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, GOOD[6:])).encode()))
    validation = write(tmp_path / "v.jsonl", json.dumps(GOOD[2]))
    code, report = check_json(capsys, first, str(packed), "--validation", validation)
    assert (code, report["good"], report["files"]) == (0, 12, ["a.jsonl", "b.jsonl.gz"])
    assert [(p["kind"], p["line"]) for p in report["problems"] if p["severity"] == "warning"] == [("in-validation", 3)]


@pytest.mark.parametrize("arguments", [["missing.jsonl"], ["."], ["FILE", "--model", "nothing.gguf"]])
def test_what_is_not_there_is_named(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "good.jsonl", *map(json.dumps, GOOD))
    assert cli.main(["data", "check", *(path if a == "FILE" else a for a in arguments)]) == 1
    assert "lora-lab: " in capsys.readouterr().err


def test_mistakes_in_the_arguments_exit_with_2(capsys: pytest.CaptureFixture) -> None:
    for arguments in (["data"], ["data", "check"], ["data", "check", "f", "--mask", "some"], ["data", "look", "f"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        capsys.readouterr()
