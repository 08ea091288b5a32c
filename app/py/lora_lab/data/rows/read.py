"""Dataset files -> a `RowTable`: the records of each, streamed, every problem named, nothing raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_lab.data.files.json_rows import Item, to_json
from lora_lab.data.files.records import WANTED, read_records
from lora_lab.data.files.source import DataSource, TextStream
from lora_lab.data.problems import Problem
from lora_lab.data.rows.checks import row_warnings
from lora_lab.data.rows.mapping import KNOWN_COLUMNS, ColumnMapping
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.rows.schema import RawRow, format_of, read_row
from lora_lab.data.turns import Progress, Turns


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
        items = await read_records(stream, reading.say, KNOWN_COLUMNS)
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
