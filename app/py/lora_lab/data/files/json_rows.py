"""JSON text -> rows with their lines: JSON Lines line by line, an array or pretty-printed objects value by value.

Every value gives exactly one item in the file's order, good or bad: nothing is skipped silently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_lab.data.files.json_text import DECODER, MAX_DEPTH, JsonFailure, is_deep_from, is_too_deep, load_json, near
from lora_lab.data.files.repair import repair, show_change
from lora_lab.data.problems import Problem, excerpt, json_kind, shown

_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_BAD_BYTE = re.compile("[\udc80-\udcff]")
_STRUCTURE = re.compile(r'"(?:[^"\\\n]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_GROWTH_CHARACTERS = 1 << 20
_NEARBY_CHARACTERS = 1 << 16
_MAX_BROKEN_CHARACTERS = 1 << 20
_PATIENCE, _LEAST_PATIENCE = 1 << 23, 1 << 11
_OBJECT_HINT = "a row must be a JSON object: {…}"


@dataclass(frozen=True)
class Item:
    """What stands at one place of a file: a row's object (`value`, and its own text where that is one line of JSON),
    or a problem, with the rows that mending gives (`repaired`). A problem beside neither is about the file."""

    line: int
    value: dict[str, Any] | None = None
    text: str | None = None
    problem: Problem | None = None
    repaired: tuple[dict[str, Any], ...] = ()
    is_row: bool = True


def line_item(line: int, text: str) -> Item:
    """Return what one line of JSON Lines that is not blank holds."""
    try:
        if len(text) > 4 * MAX_DEPTH and is_too_deep(text):
            raise RecursionError
        value = DECODER.decode(text)
        if not text.isascii() and _BAD_BYTE.search(text):
            return broken_item(line, 1, text)
        if type(value) is dict:
            return Item(line, value, text)
        kind = json_kind(value)
        return Item(line, problem=Problem(line, f"the row is {kind}", 1, excerpt(text, 0), "not-an-object",
                                          hint=_OBJECT_HINT))  # fmt: skip
    except (ValueError, RecursionError):
        return broken_item(line, 1, text)


def broken_item(line: int, column: int, text: str, end: Problem | None = None) -> Item:
    """Return the item of a text that is no JSON object; `line` and `column` are those of its first character."""
    if bad := _BAD_BYTE.search(text):
        return Item(line, problem=encoding_problem(line, column, text, bad.start()))
    failure = load_json(text)
    if not isinstance(failure, JsonFailure):
        failure = JsonFailure("not-an-object", f"the row is {json_kind(failure)}", _OBJECT_HINT, 0)
    at_line, at_column = _place(text, failure.position or 0, line, column)
    rows = tuple(repair(text))
    written = "\n".join(to_json(row) for row in rows)
    hint = f"{failure.hint}; this can be mended" if failure.hint and rows else failure.hint
    before, after = show_change(text, list(rows)) if rows else ("", "")
    return Item(
        line,
        problem=Problem(at_line, failure.message, at_column if failure.position is not None else None,
                        near(text, failure), failure.kind, "error", hint, written, before=before, after=after),
        repaired=rows,
    )  # fmt: skip


def encoding_problem(line: int, column: int, text: str, position: int) -> Problem:
    """Return the problem of a byte that is no UTF-8, which `TextStream` has turned into a half character."""
    at_line, at_column = _place(text, position, line, column)
    around = text[max(0, position - 24) : position + 24].encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    byte = ord(text[position]) - 0xDC00
    return Problem(at_line, f"not UTF-8: byte 0x{byte:02X}", at_column, around.strip(), "encoding",
                   hint="save the file in the encoding UTF-8")  # fmt: skip


def _place(text: str, position: int, line: int, column: int) -> tuple[int, int]:
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


async def json_lines(lists: AsyncIterator[list[str]]) -> AsyncIterator[list[Item]]:
    """Yield the items of JSON Lines, a list for each list of lines; blank lines give none."""
    line = 0
    async for lines in lists:
        items = []
        for text in lines:
            line += 1
            if text and not text.isspace():
                items.append(line_item(line, text))
            if len(items) >= 256:
                yield items
                items = []
        yield items


class _Buffer:
    """The part of the text that is being read: grows at its end, is cut at its beginning, knows lines and columns."""

    def __init__(self, blocks: AsyncIterator[str]) -> None:
        self._blocks = blocks
        self.text, self.pos, self.is_end = "", 0, False
        self.may_be_deep = False
        self.patience = _PATIENCE  # characters that are gone through in search of the ends of broken rows
        self._mark, self._line, self._column = 0, 1, 1

    async def grow(self, least: int = 1) -> None:
        """Drop what is done and read on, at least `least` characters unless the text ends."""
        self.place()
        parts, size = [self.text[self.pos :]], 0
        while size < least and not self.is_end:
            try:
                parts.append(await anext(self._blocks))
                size += len(parts[-1])
            except StopAsyncIteration:
                self.is_end = True
        self.text, self._mark, self.pos = "".join(parts), 0, 0
        self.may_be_deep = _may_be_deep(self.text)

    def place(self) -> tuple[int, int]:
        """Return line and column of `pos`; only what lies behind the last place asked for is gone through."""
        if self.pos > self._mark:
            line, column = _place(self.text[self._mark : self.pos + 1], self.pos - self._mark, self._line, self._column)
            self._mark, self._line, self._column = self.pos, line, column
        return self._line, self._column

    async def skip_space(self) -> str:
        """Move to the next character that is no white space and return it, "" at the end."""
        while True:
            found = _NOT_SPACE.search(self.text, self.pos)
            if found:
                self.pos = found.start()
                return found.group()
            self.pos = len(self.text)
            if self.is_end:
                return ""
            await self.grow()


def _may_be_deep(text: str) -> bool:
    """Whether brackets could be nested too deeply anywhere in the text; brackets inside strings count as well."""
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    opens = (codes == 0x5B) | (codes == 0x7B)
    closes = (codes == 0x5D) | (codes == 0x7D)
    depth = np.cumsum(opens.astype(np.int8) - closes.astype(np.int8), dtype=np.int32)
    # The text may begin inside an element: from its lowest point on, not from 0.
    return len(depth) > 0 and int((depth - np.minimum.accumulate(np.minimum(depth, 0))).max()) > MAX_DEPTH


async def json_values(blocks: AsyncIterator[str]) -> AsyncIterator[list[Item]]:
    """Yield the items of a JSON array of rows, or of objects one behind the other over any number of lines."""
    buffer = _Buffer(blocks)
    is_array = await buffer.skip_space() == "["
    if is_array:
        buffer.pos += 1
    items: list[Item] = []
    comma: tuple[int, int] | None = None  # the last comma, while nothing has followed it
    needs_comma = False
    while True:
        first = await buffer.skip_space()
        line, column = buffer.place()
        if first == ",":
            if not needs_comma or not is_array:
                hint = "rows of an array are separated by one comma" if is_array else "delete the comma"
                items.append(_about(line, column, "extra-comma", "a comma with no row before it", hint, buffer))
            comma, needs_comma = (line, column), False
            buffer.pos += 1
        elif first == "" or (first == "]" and is_array):
            if comma and is_array:
                hint = "delete the comma; the rows are read all the same"
                items.append(_about(*comma, "trailing-comma", "a comma with nothing after it", hint, buffer, True))
            break
        else:
            item = await _next_item(buffer, line, column)
            if needs_comma and is_array and item.value is not None:
                row = to_json(item.value)
                problem = Problem(line, "a comma is missing between this row and the one before", column,
                                  excerpt(buffer.text, buffer.pos), "missing-comma",
                                  hint="put a comma between the rows; this can be mended",
                                  repair=row, before=shown(row, 56), after=", " + shown(row, 56))  # fmt: skip
                item = Item(line, problem=problem, repaired=(item.value,))
            items.append(item)
            comma, needs_comma = None, is_array
        if len(items) >= 256:
            yield items
            items = []
        if buffer.pos > _GROWTH_CHARACTERS:
            await buffer.grow(0)
    if is_array:
        items.extend(await _array_end(buffer))
    yield items


def _about(
    line: int, column: int, kind: str, message: str, hint: str, buffer: _Buffer, mends: bool = False
) -> Item:  # fmt: skip
    shown_text = excerpt(buffer.text, buffer.pos)
    problem = Problem(line, message, column, shown_text, kind, hint=hint, repair="]" if mends else "")
    return Item(line, problem=problem, is_row=False)


async def _array_end(buffer: _Buffer) -> list[Item]:
    line, column = buffer.place()
    if buffer.pos >= len(buffer.text):
        hint = "was the file cut off? The rows before are read"
        return [_about(line, column, "unclosed", "the JSON array is not closed with ]", hint, buffer)]
    buffer.pos += 1
    if await buffer.skip_space() == "":
        return []
    line, column = buffer.place()
    return [_about(line, column, "extra-data", "more text follows the JSON array", "it is left out", buffer)]


async def _next_item(buffer: _Buffer, line: int, column: int) -> Item:
    """Read the value at the buffer's place, and move behind it."""
    while True:
        text, start = buffer.text, buffer.pos
        failure: Exception | None = None
        value, end = None, start
        try:
            if buffer.may_be_deep and is_deep_from(text, start):
                raise RecursionError
            value, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            failure = error
        if failure is None:
            # A number at the buffer's end may go on behind it.
            if end < len(text) or buffer.is_end or isinstance(value, (dict, list, str)):
                break
        elif buffer.is_end or not _could_go_on(failure, len(text), len(text) - start):
            end = await _end_of_broken(buffer, column)
            # A comma behind it separates rows, it does not belong to this one.
            broken = buffer.text[buffer.pos : end].rstrip(" \t\r\n,")
            buffer.pos += max(1, len(broken))
            return broken_item(line, column, broken)
        await buffer.grow(max(1, len(text) - start))  # doubling: a row of any size is gone through a few times only
    buffer.pos = end
    row = text[start:end]
    if not isinstance(value, dict) or (not row.isascii() and _BAD_BYTE.search(row)):
        return broken_item(line, column, row)
    return Item(line, value, None if "\n" in row or "\r" in row else row)


def _could_go_on(error: Exception, length: int, size: int) -> bool:
    """Whether a failure may be only because the text ends too early."""
    if isinstance(error, json.JSONDecodeError):
        # A string without an end: in a file of many lines the line break inside it is the error instead.
        if error.msg.startswith("Unterminated string"):
            return size < 1 << 28
        return error.pos >= length - 16
    return False


async def _end_of_broken(buffer: _Buffer, column: int) -> int:
    """Return where a broken value at the buffer's place probably ends: at its last bracket, or before the next row."""
    if len(buffer.text) - buffer.pos < _GROWTH_CHARACTERS and not buffer.is_end:
        await buffer.grow(_GROWTH_CHARACTERS)
    text, start = buffer.text, buffer.pos
    if text[start] not in '{["':  # no row at all: up to whatever may follow it
        return re.compile(r"[,\n\]{]|$").search(text, start + 1).start()  # type: ignore[union-attr]
    # The next row begins as this one does: at the same indentation, or behind "}, ".
    rows = re.compile(rf"\n[ \t]{{{column - 1}}}\{{") if column < 200 else re.compile(r"\n\s*\{")
    # In one line of megabytes there may be none, and there may be many broken rows: look nearby only.
    near_end = start + _NEARBY_CHARACTERS
    first = rows.search(text, start + 1, near_end) if text.find("\n", start + 1, near_end) >= 0 else None
    limit = first.start() if first else min(len(text), start + min(_MAX_BROKEN_CHARACTERS, buffer.patience))
    depth = 0
    for match in _STRUCTURE.finditer(text, start, limit):
        bracket = match.group()[0]
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        if depth <= 0 and bracket in "]}":
            return match.end()
    # Looking for an end that is not there takes time; with many such rows there is less and less of it.
    buffer.patience = max(_LEAST_PATIENCE, buffer.patience - (limit - start))
    first = first or (rows.search(text, start + 1) if text.find("\n", start + 1) >= 0 else None)
    limit = first.start() if first else len(text)
    if first:
        return limit
    again = re.compile(r"\}\s*,?\s*(?=\{\s*\")").search(text, start + 1)
    return again.end() if again else len(text)
