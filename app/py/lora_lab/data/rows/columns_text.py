"""The part of the report for a terminal that is about columns: what is not used, and the ways to read the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_lab.data.problems import shown
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.readings import Reading
from lora_lab.data.rows.unused import UnusedColumn

_WRITTEN_OUT = 20
_WORDS = 70  # characters of a turn


def columns_as_text(
    unused: Sequence[UnusedColumn], readings: Sequence[Reading], asks: Sequence[str], mapping: ColumnMapping | None
) -> list[str]:
    """Return the lines; none where every column is used and there is one way to read the rows."""
    lines = []
    loud = [column for column in unused if not column.quiet]
    quiet = [column for column in unused if column.quiet]
    if loud:
        lines.append("Not used:")
        lines.extend(f"  {_described(column)}" for column in loud[:_WRITTEN_OUT])
        if len(loud) > _WRITTEN_OUT:
            lines.append(f"  … and {len(loud) - _WRITTEN_OUT} more columns")
    if quiet:
        named = ", ".join(shown(column.column, 40) or '""' for column in quiet[:_WRITTEN_OUT])
        more = f", … ({len(quiet) - _WRITTEN_OUT} more)" if len(quiet) > _WRITTEN_OUT else ""
        lines.append(f"Not used either, numbers or repeats: {named}{more}")
    if asks:
        lines.append(f"To be said before training: {'; '.join(asks)}.")
    if readings and mapping is None:
        lines.append("Ways to read the rows, to be named with --map:" if len(readings) > 1 or asks else
                     "The columns look like this; say so with --map:")  # fmt: skip
        for reading in readings:
            lines.append(f"  {shown(reading.mapping.describe(), 200)}    ({reading.title})")
            lines.extend(f"    {line}" for line in row_as_text(reading.row))
    return lines


def _described(column: UnusedColumn) -> str:
    rows = f"{column.rows:,} row{'s' if column.rows != 1 else ''}"
    means = f"; {column.meaning}" if column.meaning else ""
    example = f", as {column.example!r}" if column.example else ""
    offer = f"; used with --map {shown(column.offer, 120)!r}" if column.offer else ""
    return f"{shown(column.column, 60)}: {rows}{means}{example}{offer}"


def row_as_text(row: dict[str, Any]) -> list[str]:
    """Return a reading's first row, a line a turn."""
    if "problem" in row:
        return [str(row["problem"])]
    turns = row.get("messages") or [{"role": "text", "content": row["text"]}]
    return [f"{turn['role']}: {shown(turn['content'].strip(), _WORDS)}" for turn in turns[:8]]
