"""CSV, TSV and plain text -> rows with their lines."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator
from typing import Any

from lora_lab.data.files.container import SEPARATOR_LINE
from lora_lab.data.files.header import Header, read_header
from lora_lab.data.files.items import BAD_BYTE, Item, undecoded_item
from lora_lab.data.files.json_text import load_json
from lora_lab.data.files.shapes import TEXT_COLUMNS, TURN_COLUMNS, is_turns
from lora_lab.data.problems import Problem, excerpt

# A quoted cell is not followed further than this: a quotation mark that nobody closed would swallow the file.
_MAX_RECORD_LINES = 20_000
_MAX_CELL_CHARACTERS = (1 << 31) - 1


async def csv_rows(
    lists: AsyncIterator[list[str]],
    delimiter: str,
    known: frozenset[str] = frozenset(),
    kept: frozenset[str] = frozenset(),
) -> AsyncIterator[list[Item]]:
    """Yield the items of a table whose first line names the columns; a row of other size is a problem.

    `known` are names that columns often have, `kept` those that are not to be read by another name.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    header: Header | None = None
    async for records in _records(lists):
        items: list[Item] = []
        for first, text, whole in records:
            if first == 1 and SEPARATOR_LINE.fullmatch(text.strip().lstrip("\ufeff")):
                said = f"the first line says how cells are separated ({text.strip()}), as Excel wants it; it is no row"
                items.append(Item(1, problem=Problem(1, said, kind="csv-separator", severity="info"), is_row=False))
                continue
            for line, cells, bad in _parse(first, text, delimiter, whole, header is not None and header.spaced):
                if bad is not None:
                    items.append(bad)
                    continue
                if header is None:
                    header = read_header(line, cells, delimiter, known, kept)
                    items.extend(Item(line, problem=problem, is_row=False) for problem in header.problems)
                    if any(problem.severity == "error" for problem in header.problems):
                        yield items
                        return
                    if not header.is_row:
                        continue
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


def _parse(
    first: int, text: str, delimiter: str, whole: bool, spaced: bool
) -> Iterator[tuple[int, list[str], Item | None]]:
    """Yield (line, cells, what is wrong) of a record; of several where a quotation mark was only part of a text."""
    if not text.isascii() and (bad := BAD_BYTE.search(text)):
        yield first, [], undecoded_item(first, 1, text, bad.start())
        return
    done = 0
    try:
        # Strict: a quotation mark left open is an error, not the end of the cell.
        reader = csv.reader(_keep_breaks(text), delimiter=delimiter, strict=not whole, skipinitialspace=spaced)
        for cells in reader:
            if cells:
                yield first + done, cells, None
            done = reader.line_num
    except csv.Error as error:
        place = text.rfind('"')
        line, at, kind = first + done, 0, "csv"
        message, hint = f"not a row of a table: {error}", "check its quotation marks"
        if not whole and place >= 0:
            line, at, kind = first, place, "csv-quote"
            message, hint = "a quotation mark is opened here and not closed", 'close it; inside a cell write ""'
        yield line, [], Item(line, problem=Problem(line, message, at + 1, excerpt(text, at), kind, hint=hint))


def _keep_breaks(text: str) -> list[str]:
    return [part + "\n" for part in text.split("\n")]


def _row(line: int, text: str, cells: list[str], header: Header) -> Item:
    names = header.names
    while len(cells) > len(names) and not cells[-1].strip():
        cells = cells[:-1]  # separators at the line's end
    if len(cells) < len(names) and header.nameless.issuperset(names[len(cells) :]):
        cells = cells + [""] * (len(names) - len(cells))
    if len(cells) != len(names):
        message = f"{len(cells)} cell{'s' if len(cells) != 1 else ''}; the first line names {len(names)} columns"
        hint = "put cells that hold the separator or a line break into quotation marks"
        return Item(line, problem=Problem(line, message, 1, excerpt(text, 0), "csv-columns", hint=hint))
    value: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        if not cell.strip() and name in header.nameless:
            continue
        value[name] = _cell(name, cell) if cell[:1] in ("[", "{") else cell
        # An empty cell of an optional column says nothing.
        if value[name] == "" and name in ("system", "input", "history"):
            value[name] = None
    return Item(line, value)


def _cell(name: str, cell: str) -> Any:
    """Return what a cell holds that begins with a bracket: the lists that a table can only write as JSON, else text."""
    if name in ("history", *TURN_COLUMNS):
        value = load_json(cell)
        return value if isinstance(value, list) else cell
    if name in TEXT_COLUMNS:  # an answer may be JSON; it stays the text that it is
        value = load_json(cell)
        return value if is_turns(value) else cell
    return cell


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
    if not text.isascii() and (bad := BAD_BYTE.search(text)):
        return undecoded_item(line, 1, text, bad.start())
    return Item(line, {"text": text.lstrip("\ufeff")})
