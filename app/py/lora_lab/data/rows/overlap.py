"""A validation part of its own: rows of one file that must not stand in the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lora_lab.data.rows.content import row_key
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.turns import Turns

_SHOWN = 20


@dataclass(frozen=True)
class Overlap:
    """Rows of a training table that a validation table holds too: their indices, and some (line, other's line)."""

    indices: frozenset[int]
    lines: tuple[tuple[int, int], ...]


async def find_overlap(training: RowTable, validation: RowTable) -> Overlap:
    """Return which rows of the training table say the same as a row of the validation table."""
    turns = Turns(len(training) + len(validation), None)
    held: dict[bytes, int] = {}
    for place in validation.usable():
        row = validation.row(place)
        held.setdefault(row_key(row), row.line)
        if turns.is_due():
            await asyncio.sleep(0)
    found: set[int] = set()
    lines: list[tuple[int, int]] = []
    for place in training.usable():
        row = training.row(place)
        other = held.get(row_key(row))
        if other is not None:
            found.add(place)
            if len(lines) < _SHOWN:
                lines.append((row.line, other))
        if turns.is_due():
            await asyncio.sleep(0)
    return Overlap(frozenset(found), tuple(lines))
