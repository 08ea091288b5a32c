"""JSON text -> rows with their lines: JSON Lines line by line, an array or pretty-printed objects value by value.

Every value gives exactly one item in the file's order, good or bad: nothing is skipped silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from lora_lab.data.files.items import BAD_BYTE, Item, broken_item, place_in, to_json, value_items
from lora_lab.data.files.json_text import DECODER, MAX_DEPTH, is_deep_from, is_too_deep
from lora_lab.data.problems import CAN_MEND, Problem, excerpt, shown
from lora_lab.formats.json_reader import may_be_deep

_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_STRUCTURE = re.compile(r'"(?:[^"\\\n]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_GROWTH_CHARACTERS = 1 << 20
_NEARBY_CHARACTERS = 1 << 16
_MAX_BROKEN_CHARACTERS = 1 << 20
_PATIENCE, _LEAST_PATIENCE = 1 << 23, 1 << 11
_TURNS_AHEAD = re.compile(r'\[\s*\{\s*"(?:role|from)"\s*:')
_AHEAD_CHARACTERS = 1 << 10


def line_items(line: int, text: str) -> list[Item]:
    """Return what one line of JSON Lines that is not blank holds: a row, as a rule."""
    try:
        if len(text) > 4 * MAX_DEPTH and is_too_deep(text):
            raise RecursionError
        value = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        values = _side_by_side(text) if isinstance(error, json.JSONDecodeError) else []
        if not values:
            return [broken_item(line, 1, text)]
        message = f"{len(values)} values stand on this line, none but white space between them; each was read"
        remark = Problem(line, message, 1, excerpt(text, 0), "extra-data", "info")
        found = [item for value in values for item in value_items(line, 1, value, to_json(value))]
        return [Item(line, problem=remark, is_row=False), *found]
    if not text.isascii() and BAD_BYTE.search(text):
        return [broken_item(line, 1, text)]
    if type(value) is dict:
        return [Item(line, value, text)]
    return value_items(line, 1, value, text)


def _side_by_side(text: str) -> list[Any]:
    """Return the objects and lists that stand one behind the other on a line: `{…}{…}`, `[…] […]`; else none."""
    values: list[Any] = []
    place = 0
    try:
        while found := _NOT_SPACE.search(text, place):
            value, place = DECODER.raw_decode(text, found.start())
            if not isinstance(value, (dict, list)):
                return []
            values.append(value)
    except (ValueError, RecursionError):
        return []
    return values if len(values) > 1 and not BAD_BYTE.search(text) else []


async def json_lines(lists: AsyncIterator[list[str]]) -> AsyncIterator[list[Item]]:
    """Yield the items of JSON Lines, a list for each list of lines; blank lines give none."""
    line = 0
    async for lines in lists:
        items = []
        for text in lines:
            line += 1
            if text and not text.isspace():
                items.extend(line_items(line, text))
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
        self.may_be_deep = may_be_deep(self.text)

    def place(self) -> tuple[int, int]:
        """Return line and column of `pos`; only what lies behind the last place asked for is gone through."""
        if self.pos > self._mark:
            line, column = place_in(
                self.text[self._mark : self.pos + 1], self.pos - self._mark, self._line, self._column
            )
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


async def json_values(blocks: AsyncIterator[str]) -> AsyncIterator[list[Item]]:
    """Yield the items of JSON arrays of rows and of objects, one behind the other over any number of lines."""
    buffer = _Buffer(blocks)
    items: list[Item] = []
    in_array, arrays = False, 0  # `arrays`: how many have begun
    comma: tuple[int, int] | None = None  # the last comma, while nothing has followed it
    needs_comma = False
    while True:
        first = await buffer.skip_space()
        line, column = buffer.place()
        if first == "[" and not in_array and not await _is_conversation(buffer):
            if arrays or items:
                what = "another array" if arrays else "an array"
                message = f"{what} begins here, behind the end of what stood before; its rows are read too"
                remark = Problem(line, message, column, excerpt(buffer.text, buffer.pos), "joined-arrays", "info")
                items.append(Item(line, problem=remark, is_row=False))
            in_array, comma, needs_comma = True, None, False
            arrays += 1
            buffer.pos += 1
        elif first == ",":
            if not needs_comma or not in_array:
                hint = "rows of an array are separated by one comma" if in_array else "delete the comma"
                items.append(_about(line, column, "extra-comma", "a comma with no row before it", hint, buffer))
            comma, needs_comma = (line, column), False
            buffer.pos += 1
        elif first == "" or (first == "]" and in_array):
            if comma and in_array:
                hint = "delete the comma; the rows are read all the same"
                items.append(_about(*comma, "trailing-comma", "a comma with nothing after it", hint, buffer, True))
            if first == "":
                break
            in_array, comma = False, None
            buffer.pos += 1
        elif arrays and not in_array and first not in "{[":
            items.append(
                _about(line, column, "extra-data", "more text follows the JSON array", "it is left out", buffer)
            )
            break
        else:
            found = await _next_items(buffer, line, column)
            if needs_comma and in_array and found[0].value is not None:
                found[0] = _behind_no_comma(found[0], column, buffer)
            items.extend(found)
            comma, needs_comma = None, in_array
        if len(items) >= 256:
            yield items
            items = []
        if buffer.pos > _GROWTH_CHARACTERS:
            await buffer.grow(0)
    if in_array and first == "":
        hint = "was the file cut off? The rows before are read"
        items.append(_about(line, column, "unclosed", "the JSON array is not closed with ]", hint, buffer))
    yield items


async def _is_conversation(buffer: _Buffer) -> bool:
    """Whether the array at the buffer's place is one conversation, a bare list of turns, instead of rows."""
    if len(buffer.text) - buffer.pos < _AHEAD_CHARACTERS and not buffer.is_end:
        await buffer.grow(_AHEAD_CHARACTERS)
    return _TURNS_AHEAD.match(buffer.text, buffer.pos) is not None


def _behind_no_comma(item: Item, column: int, buffer: _Buffer) -> Item:
    assert item.value is not None, "broken rows have a problem of their own"
    row = to_json(item.value)
    problem = Problem(item.line, "a comma is missing between this row and the one before", column,
                      excerpt(buffer.text, buffer.pos), "missing-comma",
                      hint=f"put a comma between the rows; {CAN_MEND}",
                      repair=row, before=shown(row, 56), after=", " + shown(row, 56))  # fmt: skip
    return Item(item.line, problem=problem, repaired=(item.value,))


def _about(
    line: int, column: int, kind: str, message: str, hint: str, buffer: _Buffer, mends: bool = False
) -> Item:  # fmt: skip
    around = excerpt(buffer.text, buffer.pos)
    problem = Problem(line, message, column, around, kind, hint=hint, repair="]" if mends else "")
    return Item(line, problem=problem, is_row=False)


async def _next_items(buffer: _Buffer, line: int, column: int) -> list[Item]:
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
            return [broken_item(line, column, broken)]
        await buffer.grow(max(1, len(text) - start))  # doubling: a row of any size is gone through a few times only
    buffer.pos = end
    row = text[start:end]
    if not row.isascii() and BAD_BYTE.search(row):
        return [broken_item(line, column, row)]
    return value_items(line, column, value, row)


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
