"""One row for the preview, token by token, from what the worker has of it already: nothing is tokenized again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lora_lab.data import EncodedTable
from lora_lab.data.row_view import find_row, row_notes, said_of_row, token_texts
from lora_lab.data.tokens.batches import unusable
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.workers.dataset.opened import Choices, OpenDataset
from lora_lab.workers.protocol import RowShown, ShowRow

SHOWN_TOKENS = 4096
_NO_JUMP = {
    "truncated": "No row is longer than the length.",
    "search": "No row holds these words.",
}


async def show_row(dataset: OpenDataset, tokenizer: Tokenizer, command: ShowRow) -> RowShown:
    """Return the row that the command asks for, at the choices that the page was last told about."""
    encoded, choices = dataset.rows.encoded, dataset.shown
    if encoded is None or choices is None:
        return RowShown(command.request, 0, 0, why="The rows can be shown when their tokens are counted.")
    count = len(encoded.examples)
    if not count:
        return RowShown(command.request, 0, 0, why="No row can be shown.")
    current = min(max(command.index, 0), count - 1)
    index = await _find(encoded, command, current, choices)
    if index is None:
        why = _NO_JUMP["search"] if command.search else _NO_JUMP.get(str(command.jump), "There is no such row.")
        if command.line is not None:
            why = f"Line {command.line:,} holds no row that can be shown."
        return RowShown(command.request, current, count, why=why)
    return _view(dataset, encoded, choices, tokenizer, index, command.request)


async def _find(encoded: EncodedTable, command: ShowRow, current: int, choices: Choices) -> int | None:
    """Return the place among the tokenized rows that a command leads to."""
    count = len(encoded.examples)
    if command.line is not None:
        place = encoded.table.find_line(command.line, command.source)
        return None if place is None else _index_of(encoded, place)
    if command.search:
        async for place in encoded.table.matches(command.search, _round(encoded, current, command.jump == "previous")):
            return _index_of(encoded, place)
        return None
    if command.jump in (None, "next", "previous"):
        return (current + {None: 0, "next": 1, "previous": -1}[command.jump]) % count
    return find_row(encoded, command.jump, choices.max_length, current, command.request)  # type: ignore[arg-type]


def _round(encoded: EncodedTable, current: int, backwards: bool) -> Iterable[int]:
    """Return the table's indices of all rows behind the current one, going round, itself last; or before it."""
    places = np.roll(encoded.places, -current - 1) if not backwards else np.roll(encoded.places, -current)[::-1]
    return map(int, places)


def _index_of(encoded: EncodedTable, place: int) -> int | None:
    index = int(np.searchsorted(encoded.places, place))
    return index if index < len(encoded.places) and int(encoded.places[index]) == place else None


def _view(
    dataset: OpenDataset, encoded: EncodedTable, choices: Choices, tokenizer: Tokenizer, index: int, request: int
) -> RowShown:
    place, length = int(encoded.places[index]), int(encoded.lengths[index])
    row, example = encoded.table.row(place), encoded.examples[index]
    max_length = min(choices.max_length, encoded.keep)
    trained = example.trained.copy()
    trained[max_length:] = False
    notes = row_notes(row, encoded.masking, trained, length, max_length)
    notes += said_of_row(problem for problem in encoded.found if problem.line == row.line)
    lost = unusable(row.line, length, bool(trained.any()), max_length, choices.on_long)  # type: ignore[arg-type]
    if lost is not None:
        notes.insert(0, f"This row is not trained on: {lost.message}.")
    elif dataset.validation is not None and place in dataset.validation.overlap.indices:
        notes.insert(0, "This row is not trained on: it stands in the validation file too.")
    ids = example.tokens[:SHOWN_TOKENS].tolist()
    if length > len(ids):
        notes.append(f"Shown are the first {len(ids):,} of its {length:,} tokens.")
    return RowShown(
        request=request,
        index=index,
        count=len(encoded.examples),
        line=row.line,
        source=encoded.table.source(place),
        format=row.kind,
        texts=token_texts(ids, tokenizer),
        token_ids=tuple(ids),
        trained=tuple(trained[:SHOWN_TOKENS].tolist()),
        special=tuple(token in tokenizer.special_ids for token in ids),
        length=length,
        kept=min(length, max_length),
        notes=tuple(notes),
    )
