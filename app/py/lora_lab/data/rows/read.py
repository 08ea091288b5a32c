"""Dataset files -> a `RowTable`: whatever they are written in, streamed, every problem named, nothing raised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from lora_lab.data.checks import row_warnings
from lora_lab.data.json_rows import Item, json_lines, json_values, to_json
from lora_lab.data.json_text import DECODER, JsonFailure, load_json
from lora_lab.data.mapping import KNOWN_COLUMNS, ColumnMapping
from lora_lab.data.problems import Problem, excerpt
from lora_lab.data.schema import RawRow, format_of, read_row
from lora_lab.data.source import DataSource, TextStream, whole_lines
from lora_lab.data.table import Progress, RowTable, Turns
from lora_lab.data.tables import csv_rows, find_delimiter, text_rows

WANTED = 'one JSON object on each line, for example {"messages": [{"role": "user", "content": "…"}, …]}'


async def read_table(
    sources: Sequence[DataSource],
    mapping: ColumnMapping | None = None,
    use_mended: bool = False,
    on_progress: Progress | None = None,
) -> RowTable:
    """Read files, one behind the other. What is wrong with them is in the table's `problems`; nothing is raised.

    `mapping` names the columns where they have names of their own. `use_mended` takes rows with a slip that can be
    mended; their problems are warnings then. `on_progress(done_bytes, total_bytes)` is called now and then; the event
    loop gets its turn as often, so that a long reading can be cancelled (by cancelling the task).
    """
    table = RowTable(tuple(source.name for source in sources), mapping, use_mended)
    turns = Turns(sum(source.size_bytes for source in sources), on_progress)
    done_bytes = 0
    for number, source in enumerate(sources):
        reading = _Reading(table, number, source.name if len(sources) > 1 else "")
        stream = TextStream(source)
        items = await _items(stream, reading)
        if items is not None:
            async for batch in items:
                for item in batch:
                    reading.take(item)
                    if turns.is_due():
                        await turns.give(done_bytes + stream.done_bytes)
                if turns.is_due(0):
                    await turns.give(done_bytes + stream.done_bytes)
        for problem in stream.problems:
            reading.say(problem)
        if items is not None and not reading.found and not any(p.severity == "error" for p in stream.problems):
            reading.say(Problem(1, "the file is empty", kind="empty-file", hint=f"wanted is {WANTED}"))
        done_bytes += source.size_bytes
    turns.end()
    return table


class _Reading:
    """Puts the items of one file into the table."""

    def __init__(self, table: RowTable, number: int, name: str) -> None:
        self.table, self.number, self.name, self.found = table, number, name, False

    def say(self, problem: Problem) -> None:
        self.table.problems.add(replace(problem, source=self.name) if self.name else problem)

    def take(self, item: Item) -> None:
        table = self.table
        self.found = True
        table.rows += item.is_row
        if item.value is not None:
            self._take_value(item.line, item.value, item.text)
            return
        assert item.problem is not None, "an item is a value or a problem"
        rows = [read_row(RawRow(item.line, value), table.mapping) for value in item.repaired]
        if rows and not any(isinstance(row, Problem) for row in rows):
            self._take_mended(item)
        else:
            self.say(replace(item.problem, repair="") if item.is_row else item.problem)

    def _take_value(self, line: int, value: dict, text: str | None) -> None:
        table = self.table
        name = format_of(value)
        row = read_row(RawRow(line, value), table.mapping)
        if isinstance(row, Problem):
            self.say(row)
            if table.mapping is None and name is not None:
                table.formats[name] += 1
            if name is None or name == "preference" or table.mapping is not None:
                table.note_columns(value)
            return
        table.formats[row.kind] += 1
        if table.mapping is not None:
            table.note_columns(value)
        table.good += 1
        table.content.add(row)
        table.add(self.number, line, value, text, False)
        for warning in row_warnings(row, value):
            self.say(warning)

    def _take_mended(self, item: Item) -> None:
        table = self.table
        assert item.problem is not None
        problem = item.problem
        if table.uses_mended:
            table.good += 1
            problem = replace(problem, severity="warning", message=f"mended: {problem.message}")
        self.say(problem)
        for value in item.repaired:
            row = read_row(RawRow(item.line, value), table.mapping)
            assert not isinstance(row, Problem), "looked at before"
            table.formats[row.kind] += 1
            if table.uses_mended:
                table.content.add(row)
            table.add(self.number, item.line, value, to_json(value), True)


async def _items(stream: TextStream, reading: _Reading) -> AsyncIterator[list[Item]] | None:
    """Return the items of a file, by what it is written in; None when it holds no text."""
    if not await stream.open():
        return None
    head, name = stream.head, stream.source.name
    if head.startswith("\ufeff"):
        head = head[1:]
    if stream.has_mark and stream.encoding == "utf-8":
        reading.say(Problem(1, "the file begins with a byte-order mark; it was left out", kind="bom", severity="info"))
    if "\r\n" in head:
        reading.say(Problem(1, "lines end with CR LF, as Windows writes them", kind="crlf", severity="info"))
    kind = find_container(head, name)
    if kind == "not-json":
        first = head.lstrip().partition("\n")[0]
        hint = f"wanted is {WANTED}; a text file should end in .txt"
        reading.say(Problem(1, "this is no JSON, though the file's name says so", 1, excerpt(first, 0), "not-json",
                            hint=hint))  # fmt: skip
        return None
    if kind in ("array", "objects"):
        what = "a JSON array" if kind == "array" else "pretty-printed JSON"
        reading.say(Problem(1, f"the file is {what}, not JSON Lines; it was read as such", kind="container",
                            severity="info"))  # fmt: skip
        return json_values(stream.blocks())
    lists = whole_lines(stream.blocks())
    if kind == "lines":
        return json_lines(_count_blank(lists, reading))
    if kind == "text":
        reading.say(Problem(1, "the file is plain text; each paragraph is a row", kind="container", severity="info",
                            hint="blank lines separate paragraphs"))  # fmt: skip
        return text_rows(lists)
    what = "tab-separated" if kind == "\t" else "CSV"
    reading.say(Problem(1, f"the file is a table ({what}); it was read as such", kind="container", severity="info"))
    return csv_rows(lists, kind)


async def _count_blank(lists: AsyncIterator[list[str]], reading: _Reading) -> AsyncIterator[list[str]]:
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
        reading.say(Problem(first, said, kind="blank-lines", severity="info"))


def find_container(head: str, name: str) -> str:
    """Return what a file is written in: lines, array, objects, text, not-json, or the character between table cells.

    `head` is the file's beginning; where that leaves a choice, its name decides.
    """
    text = head.lstrip()
    first, _, rest = text.partition("\n")
    if text.startswith("["):
        # A list on a line of its own among other lines is that line's problem.
        is_alone = rest.strip() and not isinstance(load_json(first), JsonFailure)
        return "lines" if is_alone else "array"
    if text.startswith("{"):
        return "objects" if rest and isinstance(load_json(first), JsonFailure) and _is_pretty(text) else "lines"
    if not text:
        return "lines"
    delimiter = find_delimiter(text, name, KNOWN_COLUMNS)
    if delimiter is not None:
        return delimiter
    lines = [line for line in text.split("\n")[:20] if line.strip()][:5]
    if any(line.lstrip().startswith(("{", "[{")) for line in lines):
        return "lines"
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix in ("json", "jsonl", "ndjson") or (len(lines) == 1 and not isinstance(load_json(first), JsonFailure)):
        return "not-json" if len(lines) > 1 or isinstance(load_json(first), JsonFailure) else "lines"
    return "text"


def _is_pretty(text: str) -> bool:
    """Whether an object whose first line is not whole goes on in the lines below it."""
    try:
        _, end = DECODER.raw_decode(text)
        return "\n" in text[:end]
    except (ValueError, RecursionError):
        pass
    first, _, rest = text.partition("\n")
    following = next((line for line in rest.split("\n") if line.strip()), "")
    is_open = first.rstrip().endswith(("{", "[", ",", ":")) and not first.rstrip().endswith(("},", "],"))
    return is_open and not following.startswith(("{", "["))
