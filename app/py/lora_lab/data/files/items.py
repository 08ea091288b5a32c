"""What stands at one place of a file: a row, or a problem and the rows that mending gives. JSON values as items."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from lora_lab.data.files.json_text import JsonFailure, load_json, near
from lora_lab.data.files.repair import repair, show_change
from lora_lab.data.files.shapes import Shape, shape_of_list, shape_of_text
from lora_lab.data.problems import CAN_MEND, Problem, excerpt, json_kind, shown

BAD_BYTE = re.compile("[\udc80-\udcff]")
_OBJECT_HINT = "a row must be a JSON object: {…}"
# Rows that a problem shows as they become; all of them are kept beside it.
_SHOWN_ROWS = 20
_AROUND_CHARACTERS = 60


@dataclass(frozen=True)
class Item:
    """What stands at one place of a file: a row's object (`value`, and its own text where that is one line of JSON),
    or a problem, with the rows that mending gives (`repaired`). A problem beside neither is about the file.

    A value with a problem is a row that can be used as it stands, and would be better mended. `not_utf8`: the bytes
    around one that is no UTF-8, to be shown in other encodings.
    """

    line: int
    value: dict[str, Any] | None = None
    text: str | None = None
    problem: Problem | None = None
    repaired: tuple[dict[str, Any], ...] = ()
    is_row: bool = True
    not_utf8: bytes = b""


def value_items(line: int, column: int, value: Any, text: str) -> list[Item]:
    """Return the items of a JSON value in a row's place; `text` is its JSON, which begins at `line` and `column`."""
    if type(value) is dict:
        return [Item(line, value, text if "\n" not in text and "\r" not in text else None)]
    shape = shape_of_list(value) if type(value) is list else shape_of_text(value) if type(value) is str else None
    if shape is None:
        return [broken_item(line, column, text)]
    if not shape.as_they_are:
        return [shape_item(line, column, shape, text)]
    remark = Problem(line, shape.message, column, kind=shape.kind, severity="info")
    return [Item(line, problem=remark, is_row=False), *(Item(line, row) for row in shape.rows)]


def shape_item(line: int, column: int | None, shape: Shape, text: str) -> Item:
    """Return the item of rows in another shape: a problem, and the rows that it becomes."""
    can_mend = f"; {CAN_MEND}" if shape.rows else ""
    begins = [shown(to_json(row), 56) for row in shape.rows[:4]]
    after = " ¶ ".join(begins + ["…"] * (len(shape.rows) > 4))
    written = "\n".join(map(to_json, shape.rows[:_SHOWN_ROWS]))
    around = excerpt(text, 0)
    problem = Problem(line, shape.message, column, around, shape.kind, "error", shape.hint + can_mend, written,
                      before=excerpt(text, 0, 112) if shape.rows else "", after=after)  # fmt: skip
    return Item(line, problem=problem, repaired=shape.rows)


def broken_item(line: int, column: int, text: str, end: Problem | None = None) -> Item:
    """Return the item of a text that is no JSON object; `line` and `column` are those of its first character."""
    if bad := BAD_BYTE.search(text):
        return undecoded_item(line, column, text, bad.start())
    failure = load_json(text)
    if not isinstance(failure, JsonFailure):
        failure = JsonFailure("not-an-object", f"the row is {json_kind(failure)}", _OBJECT_HINT, 0)
    at_line, at_column = place_in(text, failure.position or 0, line, column)
    rows = tuple(repair(text))
    written = "\n".join(to_json(row) for row in rows)
    hint = f"{failure.hint}; {CAN_MEND}" if failure.hint and rows else failure.hint
    before, after = show_change(text, list(rows)) if rows else ("", "")
    return Item(
        line,
        problem=Problem(at_line, failure.message, at_column if failure.position is not None else None,
                        near(text, failure), failure.kind, "error", hint, written, before=before, after=after),
        repaired=rows,
    )  # fmt: skip


def undecoded_item(line: int, column: int, text: str, position: int) -> Item:
    """Return the item of a row with a byte that is no UTF-8, which `TextStream` has turned into a half character."""
    at_line, at_column = place_in(text, position, line, column)
    begin = text.rfind("\n", 0, position) + 1
    line_end = text.find("\n", position)
    end = min(len(text) if line_end < 0 else line_end, position + _AROUND_CHARACTERS)
    around = text[max(begin, position - _AROUND_CHARACTERS) : end].encode("utf-8", "surrogateescape")
    byte = ord(text[position]) - 0xDC00
    hint = "save the file in the encoding UTF-8, or say which one it is in"
    near = text[max(0, position - 24) : position + 24].encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    problem = Problem(at_line, f"not UTF-8: byte 0x{byte:02X}", at_column, near.strip(), "encoding", hint=hint)
    return Item(line, problem=problem, not_utf8=around)


def place_in(text: str, position: int, line: int, column: int) -> tuple[int, int]:
    """Return line and column of a character of a text that itself begins at a line and column."""
    breaks = text.count("\n", 0, position)
    if not breaks:
        return line, column + position
    return line + breaks, position - text.rfind("\n", 0, position)


def to_json(value: Any) -> str:
    """Return a row as one line of JSON that UTF-8 can hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a number like 1e999, which Python reads as infinite
        text = json.dumps(_finite(value), ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(_finite(value))
    return text


def _finite(value: Any) -> Any:
    """Return the value with null in place of numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
