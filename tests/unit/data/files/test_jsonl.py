"""JSON Lines: every bad row is named with its line, what is wrong, and how to mend it; nothing else is ever raised."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data import DataSource, read_table
from lora_lab.data.problems import Problem
from lora_lab.data.rows.schema import Conversation, RawRow, TextRow, read_row
from tests.unit.data.helpers import parse_items, run

pytestmark = pytest.mark.unit

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}'


def _problem_of_line(line: str | bytes, number: int = 3) -> Problem:
    """Return the one problem of a file whose line `number` is the given one, the others being good."""
    raw = line.encode() if isinstance(line, str) else line
    good = GOOD.encode()
    rows, problems = parse_items(b"\n".join([good] * (number - 1) + [raw, good]))
    assert len(problems) == 1, problems
    assert [row.line for row in rows] == [*range(1, number), number + 1]
    assert problems[0].line == number
    return problems[0]


def _row_problem(value: object) -> str:
    result = read_row(RawRow(7, value))
    assert isinstance(result, Problem), result
    assert result.line == 7
    assert result.severity == "error" and result.kind
    return result.said


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ('{"text": "a",}', 13, "comma with nothing after it"),
        ('{"text": ["a", ]}', 14, "comma with nothing after it"),
        ("{'text': 'a'}", 2, "double quotes"),
        ("{\"text\": 'a'}", 10, "double quotes"),
        ('{"text": None}', 10, "true, false, null"),
        ('{"text": "a"},', 14, "rows are not separated by commas"),
        ('{"text": "a"} and more', 15, "a line of its own"),
        ('{"text": "a\tb"}', 12, "control character"),
        ('{"text": "a', 10, "not closed"),
        ('{"text": "a"', 13, "ends before the row is complete"),
        ('{"text": "C:\\dir"}', 13, "backslash"),
        ('{"text": "say "no""}', 16, "missing"),
        ('{"text" "a"}', 9, "colon"),
        ("{text: 1}", 2, "double quotes"),
        ('{"text": NaN}', 10, "NaN"),
        ('{"text": "a", "text": "b"}', 15, "twice"),
        ("[1, 2]", 1, "a list"),
        ('"just a string"', 1, "a string"),
        ("17", 1, "a number"),
        ("null", 1, "null"),
        ("hello", 1, "must begin with {"),
        ("\ufeff" + GOOD, 1, "byte-order mark"),
    ],
)
def test_a_bad_line_says_where_and_how_to_mend_it(line: str, column: int, words: str) -> None:
    problem = _problem_of_line(line)
    assert words in problem.said
    # Python 3.13 points at the comma itself, older ones behind it.
    assert problem.column is not None
    assert abs(problem.column - column) <= (2 if "comma with" in words else 0)
    assert problem.near
    assert str(problem).startswith(f"line 3, column {problem.column}: ")


def test_columns_count_characters_not_bytes() -> None:
    assert _problem_of_line('{"тест": "ещё" "x"}').column == 16


def test_latin_1_is_named_with_its_byte() -> None:
    problem = _problem_of_line('{"text": "café"}'.encode("latin-1"))
    assert "0xE9" in problem.message
    assert "UTF-8" in problem.message
    assert problem.kind == "encoding"
    assert problem.column == 14
    assert "café" in problem.near


def test_huge_numbers_and_deep_nesting_are_problems() -> None:
    _problem_of_line('{"text": ' + "1" * 5000 + "}")
    assert "nested" in _problem_of_line('{"text": ' + "[" * 200_000 + "]" * 200_000 + "}").message


def test_a_broken_first_row_does_not_hide_the_others() -> None:
    for first in ('{"text": "a"} b', '{"text": "a"', '{"text": "a"},', "hello"):
        rows, problems = parse_items(f"{first}\n{GOOD}\n{GOOD}")
        assert [problem.line for problem in problems] == [1]
        assert [row.line for row in rows] == [2, 3]


@pytest.mark.parametrize(
    "raw",
    [
        f"{GOOD}\n\n  \n{GOOD}\n".encode(),
        f"{GOOD}\r\n\r\n\t\r\n{GOOD}\r\n".encode(),
        b"\xef\xbb\xbf" + f"{GOOD}\n\n\n{GOOD}".encode(),
        f"{GOOD}\r\r\r{GOOD}".encode(),
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks(raw: bytes) -> None:
    rows, problems = parse_items(raw)
    assert problems == []
    assert [row.line for row in rows] == [1, 4]


def test_line_separators_inside_strings_are_text() -> None:
    rows, problems = parse_items('{"text": "a\u2028b\u2029c\u0085d\\ne"}')
    assert problems == []
    assert rows[0].value["text"] == "a\u2028b\u2029c\u0085d\ne"


def test_text_is_taken_like_bytes_and_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    source = DataSource.from_bytes("\n".join([GOOD] * 1000))
    table = run(read_table([source], on_progress=lambda done, total: seen.append((done, total))))
    assert table.good == 1000
    assert seen[-1][0] == seen[-1][1] == 1000 * (len(GOOD) + 1) - 1
    assert seen == sorted(seen)
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "empty object"),
        ({"question": "a", "answer": "b"}, 'the keys "question", "answer"'),
        ({"prompt": "a"}, 'no "completion"'),
        ({"prompt": "a", "completion": None}, '"completion" is null'),
        ({"messages": None}, '"messages" is null'),
        ({"role": "user", "content": "x"}, "single message"),
        ({"messages": "hello"}, "is a string"),
        ({"messages": []}, "empty list"),
        ({"messages": ["a"]}, "messages[0] is a string"),
        ({"messages": [{"content": "a"}]}, 'no "role"'),
        ({"messages": [{"from": "human", "value": "a"}]}, 'ShareGPT\'s "from"'),
        ({"messages": [{"role": "human", "content": "a"}]}, 'write "user"'),
        ({"messages": [{"role": "gpt", "content": "a"}]}, 'write "assistant"'),
        ({"messages": [{"role": "User", "content": "a"}]}, 'write "user"'),
        ({"messages": [{"role": "narrator", "content": "a"}]}, 'unknown role "narrator"'),
        ({"messages": [{"role": 3, "content": "a"}]}, "role is a number"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "tool calls"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "tool calls"),
        ({"messages": [{"role": "user"}]}, 'no "content"'),
        ({"messages": [{"role": "user", "content": None}]}, "is null"),
        ({"messages": [{"role": "user", "content": 5}]}, "is a number"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "content[0] is a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "pictures"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "is empty"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": "a"}]}, "no assistant turn"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 0}]}, "weight 0"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "weight is 2"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": "0.5"}]}, "weight is '0.5'"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "half a character"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, "tool calls"),
        ({"prompt": "", "completion": "b"}, "prompt is empty"),
        ({"prompt": "a", "completion": 1}, '"completion" is a number'),
        ({"prompt": {"a": 1}, "completion": "b"}, '"prompt" is an object'),
        ({"prompt": "a", "completion": [{"role": "user", "content": "b"}]}, "no assistant turn"),
        ({"text": ""}, "text is empty"),
        ({"text": ["a"]}, "text is a list"),
    ],
)
def test_a_row_that_cannot_be_trained_on_says_why(value: object, words: str) -> None:
    assert words in _row_problem(value)


def test_the_three_kinds_of_rows() -> None:
    rows = [
        read_row(raw)
        for raw in (
            RawRow(1, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "id": 5}),
            RawRow(2, {"prompt": "a", "completion": "b"}),
            RawRow(3, {"text": "a", "prompt": None}),
            RawRow(4, {"prompt": [{"role": "user", "content": "a"}], "completion": "b"}),
            RawRow(5, {"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}),
        )
    ]
    assert [row.kind for row in rows] == [
        "conversational",
        "prompt-completion",
        "text",
        "prompt-completion",
        "prompt-completion",
    ]
    assert rows[2] == TextRow(3, "a")
    for row in (rows[0], rows[1], rows[3], rows[4]):
        assert isinstance(row, Conversation)
        assert [(m.role, m.content) for m in row.messages] == [("user", "a"), ("assistant", "b")]
        assert row.messages[1].trained


def test_what_stands_in_a_prompt_is_context_only() -> None:
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    row = read_row(RawRow(1, {"prompt": prompt, "completion": "d"}))
    assert isinstance(row, Conversation)
    assert [m.trained for m in row.messages if m.role == "assistant"] == [False, True]


def test_weights_and_further_keys_of_messages() -> None:
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "a", "name": "Ada", "tool_calls": None},
        {"role": "assistant", "content": "", "weight": 0},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c", "weight": 1.0, "reasoning_content": "hm"},
    ]
    row = read_row(RawRow(1, {"messages": messages}))
    assert isinstance(row, Conversation)
    assert [m.trained for m in row.messages] == [True, True, False, True, True]
    assert row.messages[1].as_dict() == {"role": "user", "content": "a", "name": "Ada"}
    assert row.messages[4].as_dict()["reasoning_content"] == "hm"


_KEYS = st.sampled_from(["messages", "role", "content", "prompt", "completion", "text", "weight", "tools"]) | st.text(
    max_size=4
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(_KEYS, _JSON, max_size=5))
def test_reading_any_object_gives_a_row_or_a_problem(value: dict) -> None:
    result = read_row(RawRow(1, value))
    assert isinstance(result, (Conversation, TextRow, Problem))
    assert not isinstance(result, Problem) or result.message


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from([*b'{}[]",:\\\n\r a1tn\xff\xef']), max_size=60).map(bytes))
def test_any_bytes_give_rows_or_problems_for_every_line_that_is_not_blank(raw: bytes) -> None:
    table = run(read_table([DataSource.from_bytes(raw)]))
    lines = [table.line(index) for index in range(len(table))]
    assert lines == sorted(lines)
    assert table.good or table.problems.counts["error"]
    assert table.bad <= table.problems.counts["error"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), min_size=1), min_size=1, max_size=20))
def test_what_json_writes_is_read_back_in_order(values: list[dict]) -> None:
    for end in ("\n", "\r\n", "\n\n"):
        rows, problems = parse_items(end.join(json.dumps(value) for value in values))
        assert problems == []
        assert [row.value for row in rows] == values
