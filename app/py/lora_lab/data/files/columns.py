"""CSV, TSV and plain text -> rows with their lines."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from lora_lab.data.files.json_rows import Item, encoding_problem
from lora_lab.data.files.json_text import JsonFailure, load_json
from lora_lab.data.problems import Problem, excerpt, shown

_BAD_BYTE = re.compile("[\udc80-\udcff]")
DELIMITERS = (",", "\t", ";", "|")
# A quoted cell is not followed further than this: a quotation mark that nobody closed would swallow the file.
_MAX_RECORD_LINES = 20_000
_MAX_CELL_CHARACTERS = (1 << 31) - 1
# Columns whose cells may hold a list of messages as JSON.
_JSON_COLUMNS = ("messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected", "history")
_NAME = re.compile(r"[^\W\d][\w .\-/]{0,39}")


def find_delimiter(head: str, name: str, known: frozenset[str]) -> str | None:
    """Return what separates a table's cells; None when the text is no table. `known`: names that columns often have."""
    lines = [line for line in head.replace("\r", "").split("\n")[:20] if line.strip()]
    if not lines:
        return None
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    by_name = {"csv": ",;|\t", "tsv": "\t", "tab": "\t"}.get(suffix)
    for delimiter in DELIMITERS if by_name is None else by_name:
        try:
            cells = [cell.strip() for cell in next(csv.reader([lines[0]], delimiter=delimiter))]
        except (csv.Error, StopIteration):
            continue
        if len(cells) < 2:
            continue
        named = all(_NAME.fullmatch(cell) for cell in cells)
        if by_name is not None:
            return delimiter
        # Prose has commas too: without the file's name to say so, the first line must read like names of columns.
        if named and (any(cell.lower() in known for cell in cells) or (delimiter == "\t" and len(lines) > 1)):
            return delimiter
    if by_name is not None:
        return by_name[0]
    return _find_even(lines) if "." not in name else None


def _find_even(lines: list[str]) -> str | None:
    """Return the delimiter of pasted text that is a table by its looks alone: names, then rows of as many cells.

    Prose has a space behind its commas, and seldom as many of them in each line.
    """
    for delimiter in DELIMITERS:
        try:
            # The last record may go on behind what is looked at here.
            first, *records = csv.reader(lines, delimiter=delimiter)
        except (csv.Error, ValueError):
            continue
        named = len(first) > 1 and all(_NAME.fullmatch(cell) and cell == cell.strip() for cell in first)
        whole = records[:-1] if len(records) > 1 else records
        if named and len(set(first)) == len(first) and whole and all(len(cells) == len(first) for cells in whole):
            return delimiter
    return None


async def csv_rows(lists: AsyncIterator[list[str]], delimiter: str) -> AsyncIterator[list[Item]]:
    """Yield the items of a table whose first line names the columns; a row of other size is a problem."""
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    header: list[str] | None = None
    async for records in _records(lists):
        items: list[Item] = []
        for first, text, whole in records:
            for line, cells, problem in _parse(first, text, delimiter, whole):
                if problem is not None:
                    items.append(Item(line, problem=problem))
                elif header is None:
                    header = [cell.strip().lstrip("\ufeff") for cell in cells]
                    items.extend(_header_problems(line, header, delimiter))
                    if items:
                        yield items
                        return
                else:
                    items.append(_row(line, text, cells, header))
        yield items


Record = tuple[int, str, bool]  # first line, text, whether its quotes are closed


async def _records(lists: AsyncIterator[list[str]]) -> AsyncIterator[list[Record]]:
    """Group lines into records: a line break inside quotes belongs to the cell. Blank lines are left out."""
    line, first = 0, 0
    pending: list[str] = []
    async for lines in lists:
        records: list[Record] = []
        for text in lines:
            line += 1
            if not pending and not text.strip():
                continue
            if not pending:
                first = line
            odd = text.count('"') % 2 == 1
            if not pending and not odd:
                records.append((line, text, True))
                continue
            pending.append(text)
            if odd and len(pending) > 1:
                records.append((first, "\n".join(pending), True))
                pending = []
            elif len(pending) > _MAX_RECORD_LINES:
                records.extend(_unclosed(first, pending))
                pending = []
        yield records
    if pending:
        yield list(_unclosed(first, pending))


def _unclosed(first: int, pending: list[str]) -> Iterator[Record]:
    """A quotation mark that is never closed: its line is bad, those behind it are rows of their own again."""
    yield first, pending[0], False
    for number, text in enumerate(pending[1:], first + 1):
        if text.strip():
            yield number, text, True


def _parse(first: int, text: str, delimiter: str, whole: bool) -> Iterator[tuple[int, list[str], Problem | None]]:
    """Yield (line, cells, problem) of a record; of several where a quotation mark was only part of a cell's text."""
    if not text.isascii() and (bad := _BAD_BYTE.search(text)):
        yield first, [], encoding_problem(first, 1, text, bad.start())
        return
    done = 0
    try:
        # Strict: a quotation mark left open is an error, not the end of the cell.
        reader = csv.reader(_keep_breaks(text), delimiter=delimiter, strict=not whole)
        for cells in reader:
            if cells:
                yield first + done, cells, None
            done = reader.line_num
    except csv.Error as error:
        place = text.rfind('"')
        if whole or place < 0:
            yield (
                first + done,
                [],
                Problem(
                    first + done,
                    f"not a row of a table: {error}",
                    1,
                    excerpt(text, 0),
                    "csv",
                    hint="check its quotation marks",
                ),
            )
            return
        message, hint = "a quotation mark is opened here and not closed", 'close it; inside a cell write ""'
        yield first, [], Problem(first, message, place + 1, excerpt(text, place), "csv-quote", hint=hint)


def _keep_breaks(text: str) -> list[str]:
    return [part + "\n" for part in text.split("\n")]


def _header_problems(line: int, header: list[str], delimiter: str) -> list[Item]:
    def item(message: str, kind: str, hint: str) -> Item:
        near = excerpt(delimiter.join(header), 0)
        return Item(line, problem=Problem(line, message, 1, near, kind, hint=hint), is_row=False)

    if "" in header:
        place = header.index("") + 1
        return [item(f"column {place} has no name", "csv-header", "name every column in the first line")]
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        return [item(f'two columns are called "{shown(repeated[0])}"', "csv-header", "give each a name of its own")]
    return []


def _row(line: int, text: str, cells: list[str], header: list[str]) -> Item:
    if cells and not cells[-1].strip() and len(cells) == len(header) + 1:
        cells = cells[:-1]  # a delimiter at the line's end
    if len(cells) != len(header):
        message = f"{len(cells)} cell{'s' if len(cells) != 1 else ''}; the first line names {len(header)} columns"
        hint = "put cells that hold the separator or a line break into quotation marks"
        return Item(line, problem=Problem(line, message, 1, excerpt(text, 0), "csv-columns", hint=hint))
    value: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        value[name] = _from_json(cell) if name in _JSON_COLUMNS and cell[:1] in ("[", "{") else cell
        # An empty cell of an optional column says nothing.
        if value[name] == "" and name in ("system", "input", "history"):
            value[name] = None
    return Item(line, value)


def _from_json(cell: str) -> Any:
    value = load_json(cell)
    return cell if isinstance(value, JsonFailure) else value


async def text_rows(lists: AsyncIterator[list[str]]) -> AsyncIterator[list[Item]]:
    """Yield the paragraphs of a plain text, which blank lines separate, as `text` rows."""
    line, first = 0, 1
    paragraph: list[str] = []
    async for lines in lists:
        items: list[Item] = []
        for text in lines:
            line += 1
            if text.strip():
                first = first if paragraph else line
                paragraph.append(text.removesuffix("\r"))
            elif paragraph:
                items.append(_paragraph(first, paragraph))
                paragraph = []
        yield items
    if paragraph:
        yield [_paragraph(first, paragraph)]


def _paragraph(line: int, lines: list[str]) -> Item:
    text = "\n".join(lines)
    if not text.isascii() and (bad := _BAD_BYTE.search(text)):
        return Item(line, problem=encoding_problem(line, 1, text, bad.start()))
    return Item(line, {"text": text.lstrip("\ufeff")})
