"""Properties of reading: nothing is raised, no good row is lost or moved, our JSON reader agrees with CPython's."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data import ColumnMapping, DataSource, RowTable, build_report, guess_mapping, read_table
from lora_lab.data.files.json_text import JsonFailure, load_json
from lora_lab.data.files.repair import repair
from lora_lab.data.problems import Problem
from lora_lab.data.report import histogram, padding_and_packing
from lora_lab.data.rows.content import NUM_HASHES, signatures
from lora_lab.data.rows.overlap import find_overlap
from lora_lab.data.rows.schema import RawRow, read_row
from lora_lab.data.tokens.batches import Example, batch_order, make_batch
from lora_lab.errors import DatasetError
from tests.unit.data.helpers import run

pytestmark = pytest.mark.unit

NAMES = st.sampled_from(["", "d.jsonl", "d.json", "d.csv", "d.tsv", "d.txt", "d.jsonl.gz"])
PIECES = st.lists(
    st.sampled_from(
        ['{"text": "a"}', '{"messages": [', "]", "}", "[", "{", ",", "\n", "\r\n", '"', "'", "\\", "NaN", "None", ":",
         "prompt,completion\n", "a,b\n", '"x\n', "\t", "\0", "\ud800", "\ufeff", "//", "#", "1e999", " ", "é", "text"]
    ),
    max_size=40,
)  # fmt: skip


def table_of(raw: bytes | str, name: str = "", **options: Any) -> RowTable:
    return run(read_table([DataSource.from_bytes(raw, name)], **options))


def texts(table: RowTable) -> list[tuple[str, ...]]:
    return [table.row(index).texts for index in range(len(table))]


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=300) | PIECES.map("".join), NAMES, st.booleans())
def test_any_file_is_read_without_an_exception(raw: bytes | str, name: str, mend: bool) -> None:
    table = table_of(raw, name, use_mended=mend)
    report = build_report(table)
    json.dumps(report.as_dict())
    report.as_text().encode()
    assert 0 <= table.good <= table.rows
    assert table.good or report.counts["error"]
    assert table.bad <= report.counts["error"]
    assert len(table.usable()) >= table.good


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: not text.isspace())
ROWS = st.one_of(
    st.builds(lambda text: {"text": text}, WORDS),
    st.builds(lambda a, b: {"prompt": a, "completion": b}, WORDS, WORDS),
    st.builds(
        lambda a, b: {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}, WORDS, WORDS
    ),
    st.builds(
        lambda a, b: {"conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": b}]}, WORDS, WORDS
    ),
    st.builds(lambda a, b: {"instruction": a, "input": "", "output": b}, WORDS, WORDS),
)
BAD_LINES = ["{", '{"text": 1}', "[]", "oops", '{"text": ""}', '{"text": "a" "b"}', "}", '{"a": 1}', "{'a", '"text"']


def _texts_of(row: dict[str, Any]) -> tuple[str, ...]:
    if "messages" in row:
        return tuple(message["content"] for message in row["messages"])
    if "conversations" in row:
        return tuple(message["value"] for message in row["conversations"])
    return tuple(value for value in row.values() if value)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS | st.sampled_from(BAD_LINES), min_size=1, max_size=20), st.booleans())
def test_no_good_row_is_lost_or_moved_among_bad_ones(rows: list[dict | str], ascii_only: bool) -> None:
    good = [row for row in rows if isinstance(row, dict)]
    # The first lines decide what a file is; with a good one in front it is JSON Lines whatever follows.
    lines = [
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=ascii_only) for row in [{"text": "a"}, *rows]
    ]
    table = table_of("\n".join(lines), "d.jsonl")
    assert texts(table) == [("a",), *map(_texts_of, good)]
    assert table.good == len(good) + 1
    assert table.rows == len(rows) + 1


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=12), st.sampled_from([None, 0, 1, 2, "\t"]), st.booleans())
def test_an_array_and_pretty_printed_objects_hold_what_json_lines_hold(
    rows: list[dict], indent: int | str | None, ascii_only: bool
) -> None:
    wanted = [_texts_of(row) for row in rows]
    written = [json.dumps(row, indent=indent, ensure_ascii=ascii_only) for row in rows]
    array = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    for raw in ("\n".join(written), array, array.encode("utf-16"), "[" + " ,\n".join(written) + "\n]\n"):
        table = table_of(raw, "d.json")
        assert texts(table) == wanted
        assert [table.value(index) for index in range(len(table))] == rows
        assert not table.problems.counts["error"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=10), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_a_table_that_csv_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str, quote: bool) -> None:
    # A lone carriage return in a cell is where the formats called CSV differ; control characters are no text.
    rows = [(a, b) for a, b in rows if not re.search(r"[\x00-\x08\r\x0e-\x1f\ufeff]", a + b)]
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writerows([("prompt", "completion"), *rows])
    table = table_of(out.getvalue(), "d.csv")
    assert texts(table) == rows


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=8), st.data())
def test_a_broken_row_of_an_array_costs_no_other(rows: list[dict], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    lines = [json.dumps(row) for row in rows]
    lines[place] = data.draw(st.sampled_from(['{"text": "a" "b" 1}', '{"text": oops}', '{"text": "a"', "oops", "{}"]))
    table = table_of("[\n" + ",\n".join(lines) + "\n]", "d.json")
    assert texts(table) == [_texts_of(row) for index, row in enumerate(rows) if index != place]
    assert table.good == len(rows) - 1 == table.rows - 1
    assert {problem.line for problem in table.problems if problem.severity == "error"} >= {place + 2} or (
        lines[place] == '{"text": "a"'  # what is missing is missed on the next line
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_valid_json_is_read_as_cpython_reads_it(value: Any, indent: int | None, ascii_only: bool) -> None:
    assert load_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


@settings(max_examples=300, deadline=None)
@given(PIECES.map("".join))
def test_what_cpython_refuses_is_refused_and_the_other_way_round(text: str) -> None:
    found = load_json(text)
    try:
        wanted = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except ValueError:
        assert isinstance(found, JsonFailure)
        assert found.kind and found.message
    else:
        assert found == wanted or (isinstance(found, float) and math.isinf(found))


def _unique(pairs: list) -> dict:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _refuse(name: str) -> None:
    raise ValueError(name)


@settings(max_examples=300, deadline=None)
@given(PIECES.map("".join))
def test_repair_never_raises_and_gives_only_objects(text: str) -> None:
    rows = repair(text)
    assert all(isinstance(row, dict) for row in rows)
    assert not rows or all(load_json(json.dumps(row)) == row for row in rows)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON, min_size=1, max_size=4))
def test_repair_changes_nothing_about_a_row_that_only_python_could_read(row: dict) -> None:
    assert repair(json.dumps(row)) == [row]
    assert repair(json.dumps(row)[:-1] + ",}") == [row]
    assert repair(json.dumps(row) + ",") == [row]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{'a': 'it\\'s', 'b': True}", {"a": "it's", "b": True}),
        ('{"a": [1, 2,], "b": {"c": NaN,},}', {"a": [1, 2], "b": {"c": None}}),
        ("{a: .5, b: +1, c: 1.}", {"a": 0.5, "b": 1, "c": 1.0}),
        ('{"a": "x"\n "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": "C:\\dir", "b": "\\u00e9\\q"}', {"a": "C:\\dir", "b": "é\\q"}),
        ('{"a": "one\ntwo\tthree"}', {"a": "one\ntwo\tthree"}),
        ("{'say': 'a \"word\"'}", {"say": 'a "word"'}),
        ('{"a": 1} // why', {"a": 1}),
    ],
)
def test_slips_that_are_mended(text: str, wanted: dict) -> None:
    assert repair(text) == [wanted]


@pytest.mark.parametrize(
    "text", ['{"a": "say "no" loud"}', '{"a": 1', '{"a": "x', "{'a': 'it's'}", "a b", '{"a" "b"}', '{"a": 007}', "{,}"]
)
def test_what_could_mean_two_things_is_not_mended(text: str) -> None:
    assert repair(text) == [] or text == "{,}"


# --- the mapping ---


def test_columns_of_other_names_are_guessed_mapped_and_previewed() -> None:
    raw = "Question,Answer,Note\nWho?,Me.,x\nWhy?,,y\nHow?,So.,z\n"
    table = table_of(raw, "faq.csv")
    guess = table.guess()
    assert (table.good, guess) == (0, ColumnMapping("Question", "Answer"))
    assert guess is not None
    preview = table.mapping_preview(guess)
    assert preview[0]["messages"][1] == {"role": "assistant", "content": "Me."}
    assert "is empty" in preview[1]["problem"]
    mapped = table_of(raw, "faq.csv", mapping=guess)
    assert texts(mapped) == [("Who?", "Me."), ("How?", "So.")]
    assert mapped.format == "prompt-completion"
    wrong = table_of(raw, "faq.csv", mapping=ColumnMapping("Question", "Reply"))
    assert {problem.kind for problem in wrong.problems if problem.severity == "error"} == {"missing-key"}
    assert wrong.good == 0


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (("instruction", "response"), "prompt=instruction, reply=response"),
        (("id", "USER MESSAGE", "bot", "system_prompt"), "prompt=USER MESSAGE, reply=bot, system=system_prompt"),
        (("body", "date"), "text=body"),
        (("x", "y"), None),
    ],
)
def test_guesses(columns: tuple[str, ...], wanted: str | None) -> None:
    guess = guess_mapping(columns)
    assert (guess.describe() if guess else None) == wanted


@pytest.mark.parametrize("text", ["", "prompt", "prompt=a", "prompt=a,text=b", "color=a", "text=a,text=b", "text=",
                                  "prompt=a,reply=b,text=c", "text=a,system=b"])  # fmt: skip
def test_a_mapping_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(DatasetError):
        ColumnMapping.parse(text)
    assert ColumnMapping.parse("prompt=a, reply=b,system=c") == ColumnMapping("a", "b", "c")


def test_a_row_without_the_column_is_named() -> None:
    row = read_row(RawRow(1, {"c": 1}), ColumnMapping(text="b"))
    assert isinstance(row, Problem) and '"b" is not there; the row has "c"' in row.message


# --- what is counted ---


def test_near_duplicates_are_found_and_others_are_not() -> None:
    generator = np.random.default_rng(0)
    words = [f"w{i}" for i in range(3000)]

    def sentence() -> list[str]:
        return [words[i] for i in generator.integers(0, 3000, 60)]

    rows = [sentence() for _ in range(300)]
    near = [[*row[:30], "changed", *row[31:]] for row in rows[:40]]
    far = [[*row[:20], *sentence()[:40]] for row in rows[40:80]]
    table = table_of("\n".join(json.dumps({"text": " ".join(row)}) for row in [*rows, *near, *far, *rows[:5]]))
    content = build_report(table).content
    assert content.exact_duplicates.count == 5
    assert content.exact_duplicates.examples[0] == (381, 1)
    assert 36 <= content.near_duplicates.count <= 40  # MinHash: a pair of 95 % in common is missed once in a while
    assert all(301 <= line <= 340 for line, _ in content.near_duplicates.examples)


def test_signatures_do_not_depend_on_their_neighbours() -> None:
    lines = [b"one two three four five six", b"", b"x", "日本語のテキスト".encode(), b"word " * 500]
    together = signatures(lines)
    assert together.shape == (5, NUM_HASHES)
    for index, text in enumerate(lines):
        assert (signatures([text])[0] == together[index]).all()
    assert not together[1].any() and together[3].any()


def test_scripts_turns_and_system_prompts() -> None:
    rows = [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Привет"},
                      {"role": "assistant", "content": "日本 and Ελλάδα"}]},
        {"text": "العربية"}, {"text": "123 !"},
    ]  # fmt: skip
    content = build_report(table_of("\n".join(map(json.dumps, rows)))).content
    assert set(content.scripts) == {"Latin", "Cyrillic", "Han", "Greek", "Arabic"}
    assert content.turns == {"system": 1, "user": 1, "assistant": 1}
    assert content.system_prompts == (("Be kind.", 1),)


def test_rows_of_a_validation_file_are_found_whatever_their_format() -> None:
    training = table_of('{"prompt": "a", "completion": "b"}\n{"text": "x"}\n{"text": "y"}')
    validation = table_of(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"text": "y"}'
    )
    overlap = run(find_overlap(training, validation))
    assert overlap.indices == {0, 2}
    assert overlap.lines == ((1, 1), (3, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 400), min_size=1, max_size=60))
def test_padding_is_what_batches_have(lengths: list[int]) -> None:
    share, saves = padding_and_packing(np.array(lengths), 8, 0)
    order = batch_order(len(lengths), 0, 0)
    padded = 0
    for start in range(0, len(order), 8):
        # An example of n + 1 tokens has n inputs, which is what a batch is made of.
        part = [
            Example(np.zeros(lengths[i] + 1, np.int32), np.ones(lengths[i] + 1, np.bool_))
            for i in order[start : start + 8]
        ]
        padded += make_batch(part).tokens.size
    assert share == pytest.approx(1 - sum(lengths) / padded)
    assert 0 <= saves < 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=80))
def test_the_histogram_holds_every_row_once(lengths: list[int]) -> None:
    bars = histogram(sorted(lengths))
    assert sum(count for _, _, count in bars) == len(lengths)
    assert len(bars) <= 41
    for start, end, count in bars:
        assert count == sum(start <= length < end for length in lengths)


def test_search_and_cleaned_rows_as_conversations() -> None:
    rows = [{"prompt": "Größe?", "completion": "Ten METRES."}, {"text": 'a "quoted" word'}, {"text": "line\nbreak"}]
    for ascii_only in (True, False):
        table = table_of("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows))
        for words, wanted in [
            ("metres", [0]),
            ("GRÖSSE", [0]),
            ('"quoted"', [1]),
            ("e\nb", [2]),
            ("zzz", []),
            ("o", [1]),
        ]:
            assert run(table.search(words)) == wanted, words
        assert run(table.search("a", start=1)) == [1, 2]

    async def cleaned() -> bytes:
        return b"".join([piece async for piece in table.cleaned(as_conversations=True)])

    written = [json.loads(line) for line in run(cleaned()).splitlines()]
    assert written[0]["messages"][0] == {"role": "user", "content": "Größe?"}
    assert written[1] == {"text": 'a "quoted" word'}
