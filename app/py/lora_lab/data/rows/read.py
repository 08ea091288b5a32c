"""Dataset files -> a `RowTable`: the records of each, streamed, every problem named, nothing raised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lora_lab.data.files.items import Item, to_json
from lora_lab.data.files.records import WANTED, read_records
from lora_lab.data.files.source import DataSource, TextStream
from lora_lab.data.problems import CAN_MEND, Problem
from lora_lab.data.rows.checks import row_warnings
from lora_lab.data.rows.mapping import KNOWN_COLUMNS, ColumnMapping
from lora_lab.data.rows.mend import change, mend_row
from lora_lab.data.rows.row import RawRow, Row
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.rows.schema import format_of, read_row
from lora_lab.data.turns import Progress, Turns

# Told of a row: what was found, its places in the table (none where it is refused, several where one text holds several
# rows), and what was said about it.
OnRow = Callable[[Item, range, list[Problem]], None]
MENDABLE = ("unknown-role", "wrong-type")  # kinds of problems of a row that may be a slip


async def read_table(
    sources: Sequence[DataSource],
    mapping: ColumnMapping | None = None,
    use_mended: bool = False,
    on_progress: Progress | None = None,
    encoding: str | None = None,
    on_row: OnRow | None = None,
) -> RowTable:
    """Read files, one behind the other. What is wrong with them is in the table's `problems`; nothing is raised.

    `mapping` names the columns where they have names of their own. `use_mended` takes rows with a slip that can be
    mended; their problems are warnings then. `encoding` is the one of files that are not UTF-8, a name of
    `encodings.CHOICES`. `on_progress(done_bytes, total_bytes)` is called now and then; the event loop gets its turn as
    often, so that a long reading can be cancelled (by cancelling the task). `on_row` is told of every row of the files,
    also of those that the table does not keep.
    """
    table = RowTable(tuple(source.name for source in sources), mapping, use_mended, encoding)
    kept = frozenset(mapping.columns if mapping is not None else ())
    turns = Turns(sum(source.size_bytes for source in sources), on_progress)
    done_bytes = 0
    for number, source in enumerate(sources):
        reading = _Reading(table, number, source.name if len(sources) > 1 else "")
        stream = TextStream(source, chosen=encoding)
        items = await read_records(stream, reading.say, KNOWN_COLUMNS, kept)
        if items is not None:
            async for batch in items:
                for item in batch:
                    first, reading.said = len(table), []
                    reading.take(item)
                    if on_row is not None and (item.is_row or len(table) > first):
                        on_row(item, range(first, len(table)), reading.said)
                    if turns.is_due():
                        await turns.give(done_bytes + stream.done_bytes)
                if turns.is_due(0):
                    await turns.give(done_bytes + stream.done_bytes)
        for problem in stream.problems:
            reading.say(problem)
        if items is not None and not reading.found and not any(p.severity == "error" for p in stream.problems):
            reading.say(Problem(1, "the file is empty", kind="empty-file", hint=f"write {WANTED}"))
        done_bytes += source.size_bytes
    turns.end()
    return table


class _Reading:
    """Puts the items of one file into the table."""

    def __init__(self, table: RowTable, number: int, name: str) -> None:
        self.table, self.number, self.name, self.found = table, number, name, False
        self.said: list[Problem] = []  # about the row that is being taken

    def say(self, problem: Problem) -> None:
        self.said.append(problem)
        self.table.problems.add(replace(problem, source=self.name) if self.name else problem)

    def take(self, item: Item) -> None:
        table = self.table
        remark = not item.is_row and item.problem is not None and item.problem.severity != "error"
        self.found = self.found or not remark
        table.rows += item.is_row
        table.not_utf8 = table.not_utf8 or item.not_utf8
        problem = item.problem
        if item.value is None:
            assert problem is not None, "an item is a value or a problem"
            self._take_mended(item.line, problem, list(item.repaired), None, item.is_row)
        elif problem is None:
            self._take_value(item.line, item.value, item.text)
        elif table.uses_mended:
            self.say(_mended(problem))
            self._take_value(item.line, item.repaired[0], None)
        else:
            good = table.good
            self._take_value(item.line, item.value, item.text)
            if table.good > good:
                table.offer(to_json(item.repaired[0]))
            self.say(problem if table.good > good else replace(problem, repair=""))

    def _take_value(self, line: int, value: dict[str, Any], text: str | None) -> None:
        table = self.table
        name = format_of(value)
        row = read_row(RawRow(line, value), table.mapping)
        if isinstance(row, Problem):
            if row.kind in MENDABLE:
                self._take_mended(line, row, [value], value)
            else:
                self._take_bad(row, [value])
            return
        table.note_columns(value, name is not None)
        table.formats[row.kind] += 1
        table.good += 1
        table.content.add(row)
        table.unused.add(row, value)
        table.add(self.number, line, value, text, False)
        for warning in row_warnings(row):
            self.say(warning)

    def _take_bad(self, problem: Problem, values: list[dict[str, Any]]) -> None:
        """Tell what is wrong with a row; `values` are objects whose columns a person may name."""
        table = self.table
        self.say(problem)
        for value in values:
            name = format_of(value)
            table.note_columns(value, name is not None)
            if (table.mapping is None or table.mapping.as_known) and name is not None:
                table.formats[name] += 1

    def _take_mended(
        self, line: int, problem: Problem, values: list[dict[str, Any]], found: dict[str, Any] | None = None,
        is_row: bool = True,
    ) -> None:  # fmt: skip
        """Take the rows that mending gave, or would give: `values`, mended further where they need it.

        `found` is the row as it stands in the file, where it can be read as one.
        """
        table = self.table
        read = [self._mend(line, value) for value in values]
        if all(isinstance(row, Problem) for _, row in read):
            # The columns may have names of their own.
            unknown = [value for value in values if format_of(value) is None or table.mapping is not None]
            self._take_bad(replace(problem, repair="") if is_row else problem, unknown if found is None else [found])
            return
        if found is not None:
            before, after = change(found, read[0][0])
            repair, hint = to_json(read[0][0]), f"{problem.hint}; {CAN_MEND}"
            problem = replace(problem, repair=repair, hint=hint, before=before, after=after)
        self.say(_mended(problem) if table.uses_mended else problem)
        table.rows += len(read) - 1 if table.uses_mended else 0
        for value, row in read:
            if isinstance(row, Problem):
                if table.uses_mended:
                    self.say(row)
                continue
            table.formats[row.kind] += 1
            table.note_columns(value, True)
            if table.uses_mended:
                table.good += 1
                table.content.add(row)
                table.unused.add(row, value)
            table.add(self.number, line, value, to_json(value), True)

    def _mend(self, line: int, value: dict[str, Any]) -> tuple[dict[str, Any], Row | Problem]:
        """Return a value and the row that it is, mended where it has a slip of a row."""
        mapping = self.table.mapping
        row = read_row(RawRow(line, value), mapping)
        if isinstance(row, Problem) and row.kind in MENDABLE and (better := mend_row(value, mapping)):
            return better, read_row(RawRow(line, better), mapping)
        return value, row


def _mended(problem: Problem) -> Problem:
    hint = problem.hint.removesuffix(CAN_MEND).removesuffix("; ")
    return replace(problem, severity="warning", message=f"mended: {problem.message}", hint=hint)
