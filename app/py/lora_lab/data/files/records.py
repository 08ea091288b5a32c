"""A dataset file's text -> its records with their lines, whatever it is written in: JSON, a table, prose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from lora_lab.data.files.columns import csv_rows, text_rows
from lora_lab.data.files.container import JSON_NAMES, find_container, suffix_of
from lora_lab.data.files.items import Item
from lora_lab.data.files.json_rows import json_lines, json_values
from lora_lab.data.files.mending import look_through
from lora_lab.data.files.source import TextStream, whole_lines
from lora_lab.data.problems import Problem, excerpt

WANTED = 'one JSON object on each line, for example {"messages": [{"role": "user", "content": "…"}, …]}'


async def read_records(
    stream: TextStream,
    say: Callable[[Problem], None],
    known_columns: frozenset[str],
    kept_columns: frozenset[str] = frozenset(),
) -> AsyncIterator[list[Item]] | None:
    """Return the records of a file in batches, by what it is written in; None when it holds no text.

    `say` hears what is wrong with the file as a whole, or worth knowing. `known_columns` are names that the columns
    of a table of rows often have: they tell a table from prose. `kept_columns` are not read by another name.
    """
    if not await stream.open():
        return None
    items = _records(stream, say, known_columns, kept_columns)
    return items and look_through(items, say, kept_columns, stream.chosen if stream.uses_chosen else None)


def _records(
    stream: TextStream, say: Callable[[Problem], None], known_columns: frozenset[str], kept_columns: frozenset[str]
) -> AsyncIterator[list[Item]] | None:
    def tell(message: str, kind: str = "container", hint: str = "") -> None:
        say(Problem(1, message, kind=kind, severity="info", hint=hint))

    head, name = stream.head.removeprefix("\ufeff"), stream.source.name
    if stream.has_mark and stream.encoding == "utf-8":
        tell("the file begins with a byte-order mark; it was left out", "bom")
    if "\r\n" in head:
        tell("lines end with CR LF, as Windows writes them", "crlf")
    kind = find_container(head, name, known_columns)
    suffix = suffix_of(name)
    though = f", though its name ends in .{suffix}" if suffix and suffix not in JSON_NAMES else ""
    if kind == "not-json":
        first = head.lstrip().partition("\n")[0]
        hint = f"write {WANTED}; a text file should end in .txt"
        say(Problem(1, "this is no JSON, though the file's name says so", 1, excerpt(first, 0), "not-json",
                            hint=hint))  # fmt: skip
        return None
    if kind in ("array", "objects"):
        what = "a JSON array" if kind == "array" else "JSON objects one behind the other"
        tell(f"the file is {what}{though or ', not JSON Lines'}; it was read as such")
        return json_values(stream.blocks())
    lists = whole_lines(stream.blocks())
    if kind == "lines":
        if though and head.strip():
            tell(f"the file is JSON Lines{though}; it was read as such")
        return json_lines(_count_blank(lists, say))
    if kind == "text":
        tell("the file is plain text; each paragraph is a row", hint="blank lines separate paragraphs")
        return text_rows(lists)
    what = "tab-separated" if kind == "\t" else "CSV"
    tell(f"the file is a table ({what}); it was read as such")
    return csv_rows(lists, kind, known_columns, kept_columns)


async def _count_blank(lists: AsyncIterator[list[str]], say: Callable[[Problem], None]) -> AsyncIterator[list[str]]:
    """Pass lines on, and tell how many of them are blank."""
    line, blank, first = 0, 0, 0
    async for lines in lists:
        for text in lines:
            line += 1
            if not text or text.isspace():
                blank += 1
                first = first or line
        yield lines
    if blank:
        said = "one line is blank; it is left out" if blank == 1 else f"{blank:,} lines are blank; they are left out"
        say(Problem(first, said, kind="blank-lines", severity="info"))
