"""Rows as they were read, looked at once more: other shapes, turns written as a string, letters gone wrong, names.

Nothing is changed here: what may be better otherwise is offered beside the row, or in place of one that is none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from lora_lab.data.files.encodings import label_of
from lora_lab.data.files.header import KNOWN_NAMES, known_names, say_renamed
from lora_lab.data.files.items import Item, shape_item, to_json
from lora_lab.data.files.json_text import JsonFailure, load_json
from lora_lab.data.files.mojibake import first_place, may_be_damaged, undo_value
from lora_lab.data.files.shapes import TEXT_COLUMNS, TURN_COLUMNS, Object, shape_of_object, turns_in
from lora_lab.data.problems import CAN_MEND, Problem, excerpt, shown


async def look_through(
    batches: AsyncIterator[list[Item]], say: Callable[[Problem], None], kept: frozenset[str], encoding: str | None
) -> AsyncIterator[list[Item]]:
    """Pass a file's items on, with what there is to say about them.

    `kept` are columns that are not to be read by another name; `encoding` is the one that was chosen for this file.
    """
    said: set[str] = set()
    async for items in batches:
        for place, item in enumerate(items):
            if item.value is not None:
                renamed = _renamed(item.value, kept)
                if renamed:
                    item = Item(item.line, {renamed.get(key, key): cell for key, cell in item.value.items()})
                    words = say_renamed(renamed)
                    if words not in said:
                        said.add(words)
                        say(Problem(item.line, words, kind="column-case", severity="info"))
                items[place] = _looked_at(item)
            elif item.repaired:
                items[place] = _with_letters(item)
            elif item.not_utf8 and encoding and item.problem:
                message = item.problem.message.replace("UTF-8", label_of(encoding))
                items[place] = replace(item, problem=replace(item.problem, message=message))
        yield items


def _renamed(value: Object, kept: frozenset[str]) -> dict[str, str]:
    if not KNOWN_NAMES.isdisjoint(value) or len(value) > 100:
        return {}
    return _known_names(tuple(value), kept)


@functools.lru_cache(256)
def _known_names(names: tuple[str, ...], kept: frozenset[str]) -> dict[str, str]:
    return known_names(list(names), kept)


def _looked_at(item: Item) -> Item:
    assert item.value is not None
    shape = shape_of_object(item.value)
    if shape is not None:
        return _with_letters(shape_item(item.line, None, shape, item.text or to_json(item.value)))
    opened = _opened(item)
    if opened is not None:
        return _with_letters(opened)
    if item.text is not None and not may_be_damaged(item.text):
        return item
    mended, change = undo_value(item.value)
    return item if change is None else replace(item, problem=_garbled(item.line, mended, change), repaired=(mended,))


def _garbled(line: int, mended: Object, change: tuple[str, str]) -> Problem:
    damaged, right = change
    place = first_place(damaged)
    before, after = excerpt(damaged, place), excerpt(right, place)
    word = re.search(r"\S*$", damaged[:place]).group() + re.match(r"\S*", damaged[place:]).group()  # type: ignore[union-attr]
    return Problem(line, f'UTF-8 was once read as Latin-1 here: "{shown(word, 40)}"', None, before, "mojibake",
                   "warning", CAN_MEND, to_json(mended), before=before, after=after)  # fmt: skip


def _with_letters(item: Item) -> Item:
    """Return an item whose mended rows are mended where UTF-8 was read as Latin-1, too."""
    looked = [undo_value(row) for row in item.repaired]
    change = next((change for _, change in looked if change), None)
    if change is None or item.problem is None:
        return item
    message = f'{item.problem.message}; and UTF-8 was once read as Latin-1 in it: "{excerpt(*_at(change[0]))}"'
    rows = tuple(row for row, _ in looked)
    after = shown(to_json(rows[0]), 112)
    written = "\n".join(map(to_json, rows[:20]))
    return replace(item, repaired=rows, problem=replace(item.problem, message=message, after=after, repair=written))


def _at(damaged: str) -> tuple[str, int]:
    return damaged, first_place(damaged)


def _opened(item: Item) -> Item | None:
    """Return the item of a row whose turns are a string of JSON, or of Python; None for any other row.

    Where the turns should stand, the string makes it no row; where a text may stand, it is one, and looks like a slip.
    """
    value = item.value
    assert value is not None
    opened: dict[str, Any] = {}
    for name in (*TURN_COLUMNS, "history", *TEXT_COLUMNS):
        cell = value.get(name)
        if type(cell) is str and cell[:1] in ("[", "{"):
            found = turns_in(cell) if name != "history" else _list_in(cell)
            if found is not None:
                opened[name] = found
    if not opened:
        return None
    name = next(iter(opened))
    may_be_text = name in TEXT_COLUMNS
    mended = {**value, **opened}
    message = f'"{name}" is a string that holds {"turns" if name != "history" else "a list"}'
    problem = Problem(item.line, message, None, excerpt(value[name], 0), "json-string",
                      "warning" if may_be_text else "error", f"write the list itself; {CAN_MEND}", to_json(mended),
                      before=shown(to_json(value[name]), 56), after=shown(to_json(opened[name]), 56))  # fmt: skip
    if may_be_text:
        return Item(item.line, value, item.text, problem, (mended,))
    return Item(item.line, problem=problem, repaired=(mended,))


def _list_in(text: str) -> list[Any] | None:
    value = load_json(text)
    return value if not isinstance(value, JsonFailure) and isinstance(value, list) else None
