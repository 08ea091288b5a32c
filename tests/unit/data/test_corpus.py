"""Over a hundred files as people drop them: each gets the report that was worked out for it by hand."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from build_tools.base import ROOT
from lora_lab.data import ColumnMapping, DataSource, RowTable, build_report, read_table
from lora_lab.data.problem_titles import TITLES
from lora_lab.data.rows.row import Row, TextRow
from tests.unit.data.corpus.cases import CASES as FILE_CASES
from tests.unit.data.corpus.cases import Case
from tests.unit.data.corpus.row_cases import ROW_CASES
from tests.unit.data.helpers import run

pytestmark = pytest.mark.unit

CASES = [*FILE_CASES, *ROW_CASES]
QUIET = ("few-rows", "container", "crlf", "blank-lines")


def read(case: Case, **options: object) -> RowTable:
    mapping = ColumnMapping.parse(case.map) if case.map else None
    return run(read_table([DataSource.from_bytes(case.raw, case.name)], mapping, **options))


def as_turns(row: Row) -> tuple[str, ...]:
    """Return a row as a case's `turns` write it."""
    if isinstance(row, TextRow):
        return (row.text,)
    written = [f"{message.role[0]}: {message.content}" for message in row.messages]
    is_read = [message.role == "assistant" and not message.trained for message in row.messages]
    return tuple(f"({turn})" if only_read else turn for turn, only_read in zip(written, is_read, strict=True))


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_gets_its_report(case: Case) -> None:
    table = read(case)
    report = build_report(table)
    found = Counter(problem.kind for problem in report.noted)
    wanted = {kind: count for kind, count in case.kinds.items() if count}
    assert {k: c for k, c in found.items() if k not in QUIET or k in wanted} == wanted, report.as_text()
    assert (report.format, report.rows, report.good) == (case.format, case.rows, case.good)
    assert (report.mendable, report.improvable) == (case.mendable, case.improvable)
    assert {column.column: column.rows for column in report.unused} == case.unused
    assert [reading.mapping.describe() for reading in report.readings] == list(case.readings)
    assert bool(report.asks) == case.asks, report.asks
    assert not case.turns or as_turns(table.row(0)) == case.turns
    places = {(problem.kind, problem.line, problem.column) for problem in report.noted}
    assert set(case.at) <= places, places
    # Everything can be shown, printed and sent, whatever the file holds.
    plain = json.loads(json.dumps(report.as_dict()))
    report.as_text().encode("utf-8")
    assert len(plain["problems"]) == len(report.noted)
    for problem in report.noted:
        assert problem.line >= 1 and problem.message and problem.kind
        assert len(problem.near) <= 200 and problem.near.isprintable() and problem.message.isprintable()
        assert problem.severity != "error" or problem.hint, problem


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cleaned_file_reads_without_errors_and_holds_every_good_row(case: Case) -> None:
    table = read(case)

    async def cleaned() -> bytes:
        return b"".join([piece async for piece in table.cleaned()])

    raw = run(cleaned())
    again = run(read_table([DataSource.from_bytes(raw, "cleaned.jsonl")], table.mapping))
    assert again.good == again.rows == case.good + case.mendable
    assert not [p for p in again.problems if p.severity == "error" and p.kind != "empty-file"]
    mended = read(case, use_mended=True)
    assert [again.row(i).texts for i in range(len(again))] == [mended.row(i).texts for i in range(len(mended))]


@pytest.mark.parametrize("case", [c for c in CASES if c.mendable or c.improvable], ids=lambda case: case.name)
def test_mended_rows_are_good_where_they_are_asked_for(case: Case) -> None:
    table = read(case, use_mended=True)
    report = build_report(table)
    assert len(table.usable()) == case.good + case.mendable
    assert (report.mendable, report.improvable) == (0, 0)
    assert table.good == case.good + case.mendable
    assert any(problem.message.startswith("mended: ") for problem in report.warnings)


def test_a_wrong_expectation_would_be_seen() -> None:
    """The negative control: a corpus case read under another one's expectations fails."""
    case = next(case for case in CASES if case.name == "trailing-comma.jsonl")
    with pytest.raises(AssertionError):
        test_a_file_gets_its_report(Case(case.name, case.raw, case.format, case.rows, case.good + 1, case.kinds))
    with pytest.raises(AssertionError):
        test_a_file_gets_its_report(Case(case.name, case.raw, case.format, case.rows, case.good, {}))
    case = next(case for case in CASES if case.name == "kto-label.jsonl")
    for name, wrong in {"unused": {"label": 4}, "turns": ("u: a",), "readings": (), "asks": True, "good": 4}.items():
        with pytest.raises(AssertionError):
            test_a_file_gets_its_report(replace(case, **{name: wrong}))


def test_every_kind_of_problem_has_a_title_and_stands_in_the_docs() -> None:
    docs = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    listed = docs.partition("## Problems")[2].partition("A row with a slip")[0]
    named = set(re.findall(r"`([a-z][a-z-]+)`", listed)) - {"error", "warning", "info"}
    assert named == set(TITLES)
    found = {problem.kind for case in CASES for problem in build_report(read(case)).noted}
    assert found <= named
    assert len(found) > 40


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("trailing-comma.jsonl", '{"text": "b",}', '{"text": "b"}'),
        ("inner-trailing-comma.jsonl", '…"assistant", "content": "b"},]}', '…"assistant", "content": "b"}]}'),
        ("single-quotes.jsonl", "{'text': 'it\\'s me'}", '{"text":"it\'s me"}'),
        ("raw-tab.jsonl", '{"text": "a b"}', '{"text": "a\\tb"}'),
        ("joined-with-bom.jsonl", '\ufffd{"text": "two"}', '{"text":"two"}'),
        ("to-dict.json", '{"prompt": ["a", "b"], "completion": ["c", "d"]}',
         '{"prompt": "a", "completion": "c"} ¶ {"prompt": "b", "completion": "d"}'),
        ("curly-quotes.jsonl", "{“text”: “she said \"no\"”}", '{"text":"she said \\"no\\""}'),
        ("array-missing-comma.json", '{"text": "two"}', ', {"text": "two"}'),
    ],
)
def test_what_mending_changes_is_shown(name: str, before: str, after: str) -> None:
    case = next(case for case in CASES if case.name == name)
    mended = [problem for problem in build_report(read(case)).noted if problem.repair]
    assert (mended[0].before, mended[0].after) == (before, after)


def test_every_mended_row_shows_a_change() -> None:
    rows = [problem for case in CASES for problem in build_report(read(case)).noted if problem.repair not in ("", "]")]
    assert len(rows) > 15
    assert all(problem.before and problem.before != problem.after for problem in rows)


def test_files_cut_into_any_chunks_read_the_same() -> None:
    for case in CASES:
        if len(case.raw) > 5000:
            continue
        whole = build_report(read(case)).as_dict()
        for size in (1, 2, 7):
            raw = case.raw

            async def chunks(raw: bytes = raw, size: int = size):
                for start in range(0, len(raw), size):
                    yield raw[start : start + size]

            mapping = ColumnMapping.parse(case.map) if case.map else None
            table = run(read_table([DataSource(case.name, chunks, len(raw))], mapping))
            assert build_report(table).as_dict() == whole, (case.name, size)


def test_several_files_name_their_problems_sources() -> None:
    sources = [DataSource.from_bytes(b'{"text": "a"}\n{', "one.jsonl"), DataSource.from_bytes(b"PAR1", "two.parquet")]
    table = run(read_table(sources))
    assert [(p.source, p.line, p.kind) for p in table.problems] == [
        ("one.jsonl", 2, "unclosed"), ("two.parquet", 1, "parquet"),
    ]  # fmt: skip
    assert table.source(0) == "one.jsonl"


def test_a_long_reading_can_be_cancelled_and_tells_its_progress() -> None:
    raw = b'{"text": "some words"}\n' * 200_000
    seen: list[tuple[int, int]] = []

    async def main() -> None:
        task = asyncio.ensure_future(
            read_table([DataSource.from_bytes(raw)], on_progress=lambda d, t: seen.append((d, t)))
        )
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert 2 < len(seen) < 700
    assert seen == sorted(seen) and seen[0][1] == len(raw)


def test_problems_without_number_are_counted_not_kept() -> None:
    table = run(read_table([DataSource.from_bytes(b"{}\n" * 5000)]))
    report = build_report(table)
    assert report.counts["error"] == 5000
    assert len(report.problems) == 1000
    assert report.groups[0].count == 5000
    assert "4990 more" in report.as_text(10)


def test_a_gzip_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    from lora_lab.data.files.source import TextStream
    from lora_lab.data.rows import read

    monkeypatch.setattr(read, "TextStream", lambda source, **more: TextStream(source, max_bytes=3 << 20))
    table = run(read_table([DataSource.from_bytes(gzip.compress(b" \n" * (8 << 20)), "bomb.gz")]))
    assert [problem.kind for problem in table.problems if problem.severity == "error"] == ["too-large"]
