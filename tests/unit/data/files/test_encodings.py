"""Files that are not UTF-8: what a choice of encoding makes of them, and what is shown to choose by."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lora_lab.cli import main as cli
from lora_lab.data import DataSource, RowTable, build_report, read_table
from lora_lab.data.files.encodings import CHOICES, codec_of, previews
from tests.unit.data.helpers import run

pytestmark = pytest.mark.unit

ROWS = "prompt,completion\r\nOù est le café ?,Près du quai\r\nA,Ü\r\n"


def read(raw: bytes, name: str = "d.csv", **options: object) -> RowTable:
    return run(read_table([DataSource.from_bytes(raw, name)], **options))


def texts(table: RowTable) -> list[tuple[str, ...]]:
    return [table.row(index).texts for index in range(len(table))]


WANTED = [("Où est le café ?", "Près du quai"), ("A", "Ü")]


@pytest.mark.parametrize("name", ["cp1252", "mac-roman"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_chosen_encoding_is_read_and_told(name: str, pack: object) -> None:
    raw = pack(ROWS.encode(codec_of(name)))  # type: ignore[operator]
    table = read(raw, "d.csv.gz" if pack is gzip.compress else "d.csv", encoding=name)
    assert texts(table) == WANTED
    report = build_report(table)
    assert report.counts["error"] == 0 and report.encoding == name and report.encodings == ()
    assert any(name in problem.message for problem in report.noted if problem.kind == "encoding")


@pytest.mark.parametrize(("name", "text"), [("cp1250", "Łódź, żółw"), ("cp1251", "Привет"), ("shift-jis", "日本の海"),
                                            ("gb18030", "港口的灯"), ("euc-kr", "항구의 등불")])  # fmt: skip
def test_the_other_encodings(name: str, text: str) -> None:
    raw = json.dumps({"text": text}, ensure_ascii=False).encode(codec_of(name))
    assert texts(read(raw, "d.jsonl", encoding=name)) == [(text,)]
    assert text in {choice.name: choice.text for choice in previews(text.encode(codec_of(name)))}[name]


def test_without_a_choice_the_rows_are_bad_and_each_encoding_is_shown() -> None:
    report = build_report(read(ROWS.encode("cp1252")))
    assert (report.rows, report.good, report.counts["error"]) == (2, 0, 2)
    shown = {choice.name: choice.text for choice in report.encodings}
    assert shown["cp1252"] == "Où est le café ?,Près du quai"
    assert "caf" in shown["mac-roman"] and shown["mac-roman"] != shown["cp1252"]
    assert not {"shift-jis", "gb18030", "euc-kr"} & set(shown)
    assert "--encoding" in report.as_text() and json.dumps(report.as_dict())


def test_a_file_that_is_utf8_or_marked_stays_what_it_is() -> None:
    for raw in (ROWS.encode(), ROWS.encode("utf-8-sig"), ROWS.encode("utf-16"), ROWS.encode("utf-16-le")):
        assert texts(read(raw, encoding="cp1252")) == WANTED
    # The control: a file with one byte that is none is read as it was chosen, all of it.
    assert texts(read(ROWS.encode() + b"\xe9,b\r\n", encoding="cp1252"))[0] == ("OÃ¹ est le cafÃ© ?", "PrÃ¨s du quai")


def test_a_byte_that_the_chosen_encoding_has_not_is_told() -> None:
    table = read(ROWS.encode("cp1252") + b"\x81,b\r\n", encoding="cp1252")
    bad = [problem for problem in table.problems if problem.severity == "error"]
    assert texts(table) == WANTED
    assert [(problem.line, problem.kind) for problem in bad] == [(4, "encoding")]
    assert "not cp1252" in bad[0].message and "0x81" in bad[0].message


def test_several_files_each_by_itself() -> None:
    sources = [DataSource.from_bytes(ROWS.encode(), "a.csv"), DataSource.from_bytes(ROWS.encode("cp1252"), "b.csv")]
    assert texts(run(read_table(sources, encoding="cp1252"))) == WANTED * 2


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(ROWS.encode("mac_roman"))
    assert cli.main(["data", "check", str(path)]) == 1
    assert "mac-roman Où est le café" in capsys.readouterr().out
    assert cli.main(["data", "check", str(path), "--encoding", "mac-roman", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["good"], report["encoding"], report["encodings"]) == (2, "mac-roman", [])
    with pytest.raises(SystemExit):
        cli.main(["data", "check", str(path), "--encoding", "utf-9"])
    said = capsys.readouterr().err
    assert all(name in said for name in CHOICES)
