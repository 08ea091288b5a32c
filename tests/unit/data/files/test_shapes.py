"""Rows in other shapes than one object a row: none is lost, none invented, and nothing is changed unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data import ColumnMapping, DataSource, RowTable, build_report, read_table
from lora_lab.data.files.container import begins_as_json, find_container
from lora_lab.data.files.mojibake import undo
from lora_lab.data.files.shapes import is_turns, shape_of_object, turns_in
from lora_lab.data.rows.mapping import KNOWN_COLUMNS
from tests.unit.data.helpers import run

pytestmark = pytest.mark.unit

# None that reads like UTF-8 taken for Latin-1, which would be mended with the rest.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace() and undo(text) is None
)
PAIRS = st.builds(lambda a, b: {"prompt": a, "completion": b}, WORDS, WORDS)
TURNS = st.lists(WORDS, min_size=1, max_size=6).map(
    lambda words: [{"role": "assistant" if place % 2 else "user", "content": word} for place, word in enumerate(words)]
)
INDENT = st.sampled_from([None, None, 0, 2, "\t"])


def table_of(raw: bytes | str, name: str = "", **options: Any) -> RowTable:
    return run(read_table([DataSource.from_bytes(raw, name)], **options))


def values(table: RowTable) -> list[dict[str, Any]]:
    return [table.value(index) for index in range(len(table))]


# --- arrays one behind the other ---


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.tuples(st.lists(PAIRS, min_size=1, max_size=4), INDENT), min_size=1, max_size=6),
    st.sampled_from(["", "\n", " ", "\n\n", "\r\n"]),
    st.sampled_from(["d.json", "d.jsonl", "", "d.txt"]),
)
def test_arrays_one_behind_the_other_lose_no_row(parts: list[tuple[list[dict], Any]], between: str, name: str) -> None:
    table = table_of(between.join(json.dumps(rows, indent=indent) for rows, indent in parts), name)
    assert values(table) == [row for rows, _ in parts for row in rows]
    assert not table.problems.counts["error"]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.lists(PAIRS, min_size=1, max_size=3) | PAIRS, min_size=1, max_size=8),
       st.sampled_from(["", " ", "\n"]))  # fmt: skip
def test_arrays_and_objects_mixed_lose_no_row(parts: list[Any], between: str) -> None:
    table = table_of(between.join(map(json.dumps, parts)), "d.jsonl")
    assert values(table) == [row for part in parts for row in (part if isinstance(part, list) else [part])]
    assert not table.problems.counts["error"]


def test_a_row_behind_the_end_of_an_array_was_lost_before() -> None:
    """The control: what is no row there is still told as an error, and nothing but that is left out."""
    pair = '{"prompt": "a", "completion": "b"}'
    for between, errors in (("", 0), ("\n", 0), (" and ", 1)):
        table = table_of(f"[{pair}]{between}[{pair}]", "d.json")
        assert (len(table), table.problems.counts["error"]) == (2 - errors, errors)


def test_reading_many_arrays_takes_time_in_proportion() -> None:
    """A million values that are gone through once: twice as many would not be read in twice the time if not."""
    raw = '[{"prompt": "a", "completion": "b"}]' * 20_000
    table = table_of(raw, "d.json")
    assert len(table) == 20_000 and not table.problems.counts["error"]


# --- strings that hold JSON ---


@settings(max_examples=200, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=5), st.booleans())
def test_rows_in_strings_are_mended_only_when_asked(rows: list[dict], whole: bool) -> None:
    raw = json.dumps(json.dumps(rows)) if whole else "\n".join(json.dumps(json.dumps(row)) for row in rows)
    table = table_of(raw, "d.jsonl")
    assert (table.good, table.mendable, table.usable()) == (0, len(rows), [])
    mended = table_of(raw, "d.jsonl", use_mended=True)
    assert values(mended) == rows and mended.good == len(rows) == mended.rows


@settings(max_examples=300, deadline=None)
@given(TURNS)
def test_turns_written_as_json_or_by_python_are_found(turns: list[dict]) -> None:
    assert turns_in(json.dumps(turns)) == turns
    assert turns_in(repr(turns)) == turns
    assert turns_in("[" + "\n ".join(map(repr, turns)) + "]") == turns  # as numpy prints a column of pandas


@pytest.mark.parametrize("text", ["[see above]", "[1, 2]", "{}", "[]", "[{'role': 'user'}]", "[open('x')]", "[-" * 999,
                                  "[" * 999, "[{'role': 'a', 'content': (1,)}]", "['a']", '[{"a": 1}]'])  # fmt: skip
def test_other_strings_are_no_turns(text: str) -> None:
    assert turns_in(text) is None


def test_a_prompt_that_holds_turns_is_used_as_it_stands_until_somebody_agrees() -> None:
    turns = [{"role": "user", "content": "a"}]
    raw = json.dumps({"prompt": json.dumps(turns), "completion": "b"})
    table = table_of(raw, "d.jsonl")
    assert (table.good, table.improvable) == (1, 1)
    assert table.row(0).texts == (json.dumps(turns), "b")
    assert table_of(raw, "d.jsonl", use_mended=True).row(0).texts == ("a", "b")


# --- other shapes ---


@settings(max_examples=150, deadline=None)
@given(st.lists(PAIRS, min_size=2, max_size=5))
def test_columns_and_wrapped_rows_are_the_rows_again(rows: list[dict]) -> None:
    shapes = [
        {key: {str(number): row[key] for number, row in enumerate(rows)} for key in rows[0]},
        {key: [row[key] for row in rows] for key in rows[0]},
        {"columns": list(rows[0]), "index": list(range(len(rows))), "data": [list(row.values()) for row in rows]},
        {"data": rows, "version": "1"},
        {"rows": [{"row_idx": number, "row": row} for number, row in enumerate(rows)], "num_rows_total": len(rows)},
        {"train": rows, "test": rows[:1]},
        {"my rows": rows},
        {str(number): row for number, row in enumerate(rows)},
    ]
    for shape in shapes:
        found = shape_of_object(shape)
        assert found is not None and list(found.rows) == rows and found.message and found.hint
        assert values(table_of(json.dumps(shape), "d.json", use_mended=True)) == rows


@settings(max_examples=200, deadline=None)
@given(st.one_of(
    PAIRS, TURNS.map(lambda turns: {"messages": turns, "id": 1}), TURNS.map(lambda turns: {"messages": turns}),
    st.builds(lambda a, b: {"prompt": a, "completion": b}, TURNS, TURNS),
    st.builds(lambda a, b: {"instruction": a, "output": b, "history": [[a, b]], "tags": ["x"]}, WORDS, WORDS),
    st.builds(lambda a, b: {"chosen": a, "rejected": b}, TURNS, TURNS),
    st.builds(lambda a, b: {"text": a, "meta": {"0": b}, "spans": [{"start": 0}, {"start": 1}]}, WORDS, WORDS),
))  # fmt: skip
def test_a_row_is_never_taken_for_another_shape(row: dict) -> None:
    assert shape_of_object(row) is None


def test_wrapped_rows_of_other_columns_ask_for_the_columns_first() -> None:
    raw = json.dumps({"data": [{"ask": "a", "reply": "b"}, {"ask": "c", "reply": "d"}]})
    table = table_of(raw, "d.json")
    assert (table.good, table.mendable) == (0, 0)
    mapping = table.guess()
    assert mapping == ColumnMapping("ask", "reply")
    assert table_of(raw, "d.json", mapping=mapping).mendable == 2
    mapped = table_of(raw, "d.json", mapping=mapping, use_mended=True)
    assert [mapped.row(index).texts for index in range(len(mapped))] == [("a", "b"), ("c", "d")]


def test_rows_that_cannot_be_used_are_told_when_the_others_are_mended() -> None:
    raw = json.dumps({"data": [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": ""}]})
    table = table_of(raw, "d.json", use_mended=True)
    report = build_report(table)
    assert (report.rows, report.good) == (2, 1)
    assert {problem.kind: problem.severity for problem in report.noted if problem.severity != "info"} == {
        "wrapped-rows": "warning", "empty-content": "error", "few-rows": "warning",
    }  # fmt: skip


def test_the_first_of_listed_answers_can_be_mapped() -> None:
    rows = [{"question": "a", "answers": {"text": ["b", "c"], "answer_start": [0, 2]}}] * 2
    raw = "\n".join(map(json.dumps, rows))
    mapping = table_of(raw, "d.jsonl").guess()
    assert mapping == ColumnMapping("question", "answer")
    mapped = table_of(raw, "d.jsonl", mapping=mapping, use_mended=True)
    assert [mapped.row(index).texts for index in range(len(mapped))] == [("a", "b")] * 2
    assert "2 answers; the first is taken" in next(iter(mapped.problems)).message


def test_what_is_left_beside_the_rows_is_named() -> None:
    found = shape_of_object({"train": [{"prompt": "a"}], "test": [{"prompt": "b"}], "dev": [{"prompt": "c"}]})
    assert found is not None and '"test", "dev" beside it are left out' in found.message


def test_turns_and_other_lists() -> None:
    assert is_turns([{"role": "user", "content": "a"}]) and is_turns([{"from": "human", "value": "a"}])
    for other in ([], [{"role": "user"}], [{"from": "Ann", "to": "Bob"}], ["a"], {"role": "user", "content": "a"}):
        assert not is_turns(other)


# --- text or JSON ---


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[Verse 1]\nWords", False), ("[12/03/2024, 09:15] Ann: hi", False), ("[![b](u)](v)", False), ("[1] A", False),
        ("{{Infobox x\n}}", False), ("{a, b}", False), ("{% raw %}", False), ("[x] done", False), ("[]  Rope", False),
        ('{"text": 1}', True), ('[{"text"', True), ("{'text': 'a'}", True), ("{text: 'a'}", True), ("[\n\n{", True),
        ("{“text”: “a”}", True), ("[1, 2]\n", True), ("{}", True), ('{"text" "a"}', True), ('{ // c\n"a": 1}', True),
    ],
)  # fmt: skip
def test_what_begins_as_json(text: str, kind: bool) -> None:
    assert begins_as_json(text) is kind
    wanted = {"text"} if not kind else {"lines", "array", "objects"}
    assert find_container(text, "notes.txt", KNOWN_COLUMNS) in wanted
    # The control: a name that says JSON is believed, so that damage at the beginning is told and not read as prose.
    assert find_container(text, "notes.json", KNOWN_COLUMNS) in {"lines", "array", "objects"}
