"""`lora-lab data show`: rows of a file as they are read and, with a model, as it sees them."""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from lora_lab.cli.data_check import open_for_rows
from lora_lab.cli.models import FoundModel, find_model
from lora_lab.cli.terminal import ByteBar, run_interruptible, say
from lora_lab.data import ColumnMapping, DataSource, RowTable, read_table
from lora_lab.data.files.items import Item, to_json
from lora_lab.data.problems import Problem, shown
from lora_lab.data.row_view import RowView, Turn, look_at, turns_of
from lora_lab.data.rows.schema import format_of
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import DatasetError
from lora_lab.settings import Masking

_FIRST_ROWS = 3
_QUOTED = 600
_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"
# Nothing of a file may move the cursor, or turn the direction of what is printed.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class _Place:
    """A row of the file, numbered from 1: where it begins, its index in the table, what was said about it.

    One that is refused has no index, and its `value` where it is JSON.
    """

    number: int
    line: int
    index: int | None
    said: tuple[Problem, ...]
    value: dict[str, Any] | None = None


@dataclass(frozen=True)
class ShownRow:
    """A row as it is printed. `view` is there with a model, unless that refuses it; `value` for a refused row."""

    row: int
    line: int
    format: str | None
    turns: tuple[Turn, ...] = ()
    unused: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    view: RowView | None = None
    value: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `text`, `tokens` and `notes` where there is a model."""
        values: dict[str, Any] = {
            "row": self.row,
            "line": self.line,
            "format": self.format,
            "turns": [asdict(turn) for turn in self.turns],
            "unused": list(self.unused),
            "problems": [problem.as_dict() for problem in self.problems],
        }
        if self.value is not None:
            values["value"] = self.value
        if self.view is not None:
            view = self.view
            tokens = zip(view.token_ids, view.texts, view.trained, strict=True)
            values["text"] = "".join(view.texts)
            values["tokens"] = [{"id": id, "text": text, "trained": trained} for id, text, trained in tokens]
            values["notes"] = list(view.notes)
        return values


def show(options: argparse.Namespace) -> int:
    """Print the rows that were asked for on standard output. Always 0: what is wrong with a row is printed with it."""
    model = None if options.model is None else find_model(options.model, [options.file])
    rows = run_interruptible(_show(options, model))
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], ensure_ascii=True, indent=2))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has not all letters
        print("\n\n".join(_described(row, _marks()) for row in rows))
    return 0


async def _show(options: argparse.Namespace, found: FoundModel | None) -> list[ShownRow]:
    mapping = ColumnMapping.parse(options.map) if options.map else None
    places: list[_Place] = []

    def note(item: Item, kept: range, said: Sequence[Problem]) -> None:
        if not kept:
            places.append(_Place(len(places) + 1, item.line, None, tuple(said), item.value))
        for index in kept:
            places.append(_Place(len(places) + 1, item.line, index, tuple(said)))

    bar = ByteBar("reading")
    try:
        source = DataSource.from_path(options.file)
        table = await read_table([source], mapping, options.repair, bar, options.encoding, note)
    finally:
        bar.close()
    chosen = _choose(places, options, table)
    model = None if found is None else await open_for_rows(found, options)
    return [_look(place, table, options.mask, model) for place in chosen]


def _choose(places: Sequence[_Place], options: argparse.Namespace, table: RowTable) -> list[_Place]:
    name = options.file.name
    if not places:
        said = "\n".join(str(problem) for problem in table.problems if problem.severity == "error")
        raise DatasetError(f"{options.file}: there is no row to show" + (f"\n{said}" if said else ""))
    if options.row is not None:
        if options.row > len(places):
            raise DatasetError(f"--row {options.row}: {name} has {_count(len(places))}")
        return [places[options.row - 1]]
    if options.line is not None:
        found = [place for place in places if place.line == options.line]
        if not found:
            before = [place.line for place in places if place.line < options.line][-1:]
            behind = [place.line for place in places if place.line > options.line][:1]
            nearest = " and ".join(f"line {line}" for line in (*before, *behind))
            raise DatasetError(
                f"--line {options.line}: no row of {name} begins there; {_count(len(places))} begin on lines "
                f"{places[0].line} to {places[-1].line}, the nearest on {nearest}"
            )
        return found
    if options.random is None:
        return list(places[:_FIRST_ROWS])
    if options.random > len(places):
        say(f"{name} has {_count(len(places))}: all are shown")
    picked = random.Random(options.seed).sample(range(len(places)), min(options.random, len(places)))
    return [places[index] for index in sorted(picked)]


def _count(rows: int) -> str:
    return f"{rows:,} row{'s' if rows != 1 else ''}"


def _look(
    place: _Place, table: RowTable, masking: Masking, model: tuple[Tokenizer, ChatTemplate, int] | None
) -> ShownRow:
    if place.index is None or (table.is_mended(place.index) and not table.uses_mended):
        kind = None if place.value is None else format_of(place.value)
        return ShownRow(place.number, place.line, kind, problems=place.said, value=place.value)
    row = table.row(place.index)
    turns, said, view = turns_of(row, masking), place.said, None
    if model is not None:
        tokenizer, template, max_length = model
        seen = look_at(row, tokenizer, template, max_length, masking)
        if isinstance(seen, Problem):
            said = (*said, seen)
        else:
            view = seen
    return ShownRow(place.number, place.line, row.kind, turns, row.unused, said, view)


# ---------------------------------------------------------------------------------------------------- for a terminal


def _marks() -> tuple[str, str]:
    """Return what stands before and behind trained words: a colour on a terminal, else brackets."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        return _GREEN, _PLAIN
    try:
        "⟦⟧".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "[[", "]]"
    return "⟦", "⟧"


def _described(row: ShownRow, marks: tuple[str, str]) -> str:
    kind = ", ".join([*([row.format] if row.format else ()), *(() if row.turns else ("refused",))])
    lines = [f"row {row.row}, line {row.line}: {kind}"]
    lines += [f"  {problem.severity}: {_printable(problem.said)}" for problem in row.problems]
    if row.value is not None:
        lines.append(f"  it holds: {shown(to_json(row.value), _QUOTED)}")
    else:
        lines += [f"  near: {problem.near}" for problem in row.problems if problem.near and not row.turns]
    if row.unused:
        lines.append("  not used: " + ", ".join(map(_printable, row.unused)))
    for turn in row.turns:
        text = _printable(turn.content)
        if row.view is None and turn.trained:
            text = _marked(text, marks)
        lines.append(f"  {turn.role}: " + text.replace("\n", "\n      "))
    if row.view is not None:
        view = row.view
        lines.append(f"  as the model sees it, {len(view.token_ids):,} tokens:")
        pieces = "".join(
            _marked(text, marks) if is_trained else text for is_trained, text in _runs(view.texts, view.trained)
        )
        lines.append("      " + pieces.removesuffix("\n").replace("\n", "\n      "))
        lines += [f"  {_printable(note)}" for note in view.notes]
    return "\n".join(lines)


def _runs(texts: Sequence[str], trained: Sequence[bool]) -> Iterator[tuple[bool, str]]:
    for is_trained, run in groupby(zip(trained, texts, strict=True), key=lambda pair: pair[0]):
        yield is_trained, _printable("".join(text for _, text in run))


def _marked(text: str, marks: tuple[str, str]) -> str:
    return f"{marks[0]}{text}{marks[1]}"


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))
