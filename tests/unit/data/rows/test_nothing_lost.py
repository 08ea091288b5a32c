"""Not a word of a row is lost in silence: each stands in a turn, or under a column that the report names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data import ColumnMapping, DataSource, build_report, read_table
from lora_lab.data.rows import names
from lora_lab.data.rows.parts import Unused
from lora_lab.errors import DatasetError
from tests.unit.data.helpers import run

pytestmark = pytest.mark.unit

WORD = re.compile(r"word\d+")
# Words that no format gives a meaning, each of them most likely the only one of its kind in a row.
WORDS = st.integers(10**8, 10**9).map("word{}".format)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.just("") | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "text", "b.c"]), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.one_of(
    st.sampled_from(sorted({*names.PROMPT, *names.REPLY, *names.SYSTEM, *names.TEXT, *names.CONTEXT, *names.HISTORY,
                            *names.REPLY_TO_TEXT, *names.LABEL, *names.RATING})),
    st.sampled_from(["id", "name", "train", "loss", "weight", "mask", "tools", "systemInstruction", "from", "value",
                     "type", "reasoning_content", "cache_control", "a.b", "messages[]", "x[].y", "chosen"]),
    st.text(min_size=1, max_size=6),
)  # fmt: skip
EXTRA = st.dictionaries(KEYS, VALUES, max_size=3)


def with_extra(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    return {**extra, **base}


PARTS = st.lists(
    st.builds(with_extra, st.builds(lambda words: {"type": "text", "text": words}, WORDS), EXTRA),
    min_size=1,
    max_size=2,
)
CONTENT = WORDS | PARTS


def turns(first: str, second: str, role: str, content: str, words: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def turn(who: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.builds(with_extra, st.builds(lambda said: {role: who, content: said}, words), EXTRA)

    return st.lists(st.tuples(turn(first), turn(second)), min_size=1, max_size=2).map(
        lambda pairs: [message for pair in pairs for message in pair]
    )


MESSAGES = turns("user", "assistant", "role", "content", CONTENT)
HISTORY = st.lists(st.tuples(WORDS, WORDS).map(list), max_size=2)
BASES = st.one_of(
    st.builds(lambda messages: {"messages": messages}, MESSAGES),
    st.builds(lambda messages: {"conversations": messages}, turns("human", "gpt", "from", "value", CONTENT)),
    st.builds(lambda one, other: {"prompt": one, "completion": other}, WORDS, WORDS),
    st.builds(lambda one, other: {"prompt": one, "completion": other}, MESSAGES, MESSAGES),
    st.builds(lambda one, other, more, before: {"instruction": one, "input": more, "output": other, "history": before},
              WORDS, WORDS, WORDS | st.just(""), HISTORY),
    st.builds(lambda text: {"text": text}, WORDS),
    st.builds(lambda one, other, label: {"prompt": one, "completion": other, "label": label},
              WORDS, WORDS, st.booleans()),
    st.builds(lambda one, good, bad: {"prompt": one, "chosen": good, "rejected": bad}, WORDS, WORDS, WORDS),
    st.builds(lambda one, good, more: {"input": {"messages": one, **more}, "preferred_output": good,
                                       "non_preferred_output": good}, MESSAGES, MESSAGES, EXTRA),
)  # fmt: skip
ROWS = st.builds(with_extra, BASES, EXTRA)


@st.composite
def rows_and_mappings(draw: st.DrawFn) -> tuple[dict[str, Any], ColumnMapping | None]:
    """Draw a row, and perhaps a mapping of its columns."""
    row = draw(ROWS)
    roles = draw(st.sampled_from(["", "as", "text", "conversation", "prompt reply", "prompt reply context",
                                  "prompt reply system", "prompt reply history", "conversation reply"]))  # fmt: skip
    columns = [draw(st.sampled_from(sorted(row))) for _ in roles.split()]
    if roles == "as":
        columns = ["known"]
    try:
        return row, ColumnMapping.of(dict(zip(roles.split(), columns, strict=True))) if roles else None
    except DatasetError:
        return row, None


def words_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every word with its path; a list adds `[]`."""
    if isinstance(value, str):
        yield from ((path, word) for word in WORD.findall(value))
    elif isinstance(value, list):
        for item in value:
            yield from words_of(item, f"{path}[]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from words_of(item, f"{path}.{key}" if path else key)


def lost(row: dict[str, Any], mapping: ColumnMapping | None) -> list[str] | None:
    """Return the words in no turn and under no column that the report names; None where the row is refused."""
    table = run(read_table([DataSource.from_bytes(json.dumps(row) + "\n", "d.jsonl")], mapping))
    report = build_report(table)
    json.dumps(report.as_dict())
    assert report.as_text()
    for reading in report.readings:
        assert ColumnMapping.parse(reading.mapping.describe()) == reading.mapping
    if not report.good:
        assert report.counts["error"]
        return None
    said = " ".join(table.row(0).texts)
    named = [column.column for column in report.unused]
    return [
        path
        for path, word in words_of(row)
        if word not in said and not any(path == one or path.startswith((f"{one}.", f"{one}[]")) for one in named)
    ]


@settings(max_examples=400, deadline=None)
@given(rows_and_mappings())
def test_every_word_is_in_a_turn_or_under_a_named_column(drawn: tuple[dict[str, Any], ColumnMapping | None]) -> None:
    assert not lost(*drawn)


ALL_DEPTHS = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "word1", "note": "word2"}], "name": "word3"},
        {"role": "assistant", "content": "word4", "train": True, "a.b": {"c": "word5"}},
    ],
    "meta": [{"deep": "word6"}],
    "system": "word7",
}


def test_the_names_are_those_of_every_depth() -> None:
    table = run(read_table([DataSource.from_bytes(json.dumps(ALL_DEPTHS))]))
    assert table.row(0).texts == ("word7", "word1", "word4")
    assert set(table.row(0).unused) == {"messages[].content[].note", "messages[].name", "messages[].a.b", "meta"}
    assert lost(ALL_DEPTHS, None) == []


def test_a_reader_that_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: rows whose rest is not noted lose words, and the test above says so."""
    note = Unused.note
    monkeypatch.setattr(Unused, "note", lambda self, path, value: None if "[]" in path else note(self, path, value))
    assert lost(ALL_DEPTHS, None) == ["messages[].content[].note", "messages[].name", "messages[].a.b.c"]
    with pytest.raises(AssertionError):
        test_every_word_is_in_a_turn_or_under_a_named_column()


# --- the mapping's words ---

ROLES = ("prompt", "context", "history", "reply", "system", "label")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=6, max_size=6), st.none() | st.integers(-5, 100))
def test_a_mapping_is_read_back_as_it_is_written(columns: list[str], least: int | None) -> None:
    mapping = ColumnMapping(**dict(zip(ROLES, columns, strict=True)), at_least=least)
    assert ColumnMapping.parse(mapping.describe()) == mapping
    assert ColumnMapping.of(mapping.as_dict()) == mapping
    assert ColumnMapping.parse(ColumnMapping(text=columns[0]).describe()) == ColumnMapping(text=columns[0])
    # The control: another column is another mapping.
    assert ColumnMapping.parse(mapping.describe()) != ColumnMapping(columns[0], columns[3] + "x")


@pytest.mark.parametrize(
    "text", ["prompt=a,context=b", "conversation=a,prompt=b", "conversation=a,text=b", "as=known,text=a", "as=b",
             "history=a", "prompt=a,reply=b,label=c>=x", "prompt=a>=3,reply=b", "prompt=a,reply=b,at_least=3",
              'text="a', "label=a"],
)  # fmt: skip
def test_columns_that_make_no_row_are_refused(text: str) -> None:
    with pytest.raises(DatasetError):
        ColumnMapping.parse(text)
