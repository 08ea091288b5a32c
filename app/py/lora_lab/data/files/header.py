"""A table's first line -> the names of its columns: spelled otherwise, missing here and there, or all missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lora_lab.data.files.container import COLUMN_NAME
from lora_lab.data.problems import Problem, excerpt, shown

# By these a row is known; written with capitals they are taken for the same.
_FORMATS = (("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "output"), ("text",),
            ("chosen", "rejected"))  # fmt: skip
_ALSO = ("system", "input", "history")
_LONG_NAME = 40  # characters
KNOWN_NAMES = frozenset(name for names in _FORMATS for name in names)


@dataclass(frozen=True)
class Header:
    """The columns' names. `nameless` are those that the file gives none: their empty cells are left out.

    `is_row`: the first line is a row of its own, the names are given here. `spaced`: a space follows each separator.
    """

    names: tuple[str, ...]
    nameless: frozenset[str] = frozenset()
    is_row: bool = False
    spaced: bool = False
    problems: tuple[Problem, ...] = ()


def read_header(line: int, cells: list[str], delimiter: str, known: frozenset[str], kept: frozenset[str]) -> Header:
    """Return the names that a table's first line gives. `known` are usual names; `kept` are left as they are."""
    near = excerpt(delimiter.join(cells), 0)
    names = [cell.strip().lstrip("\ufeff").strip() for cell in cells]
    if len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:]):
        names = [name.strip('"') for name in names]  # quoted behind a space, which a table's reader takes as text
    if _is_row(names, known):
        given = _given_names(names)
        said = ", ".join(f'"{name}"' for name in given)
        message = f"the first line names no columns, it is a row; the columns are called {said} here"
        hint = "if it does name them, give them names without a mark or figure at the end"
        problem = Problem(line, message, 1, near, "no-header", "warning", hint)
        return Header(given, frozenset(n for n in given if n.startswith("Unnamed")), True, problems=(problem,))
    problems = []
    spaced = len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])
    if spaced:
        message = "a space follows each separator of the first line; in the rows it is left out too"
        problems.append(Problem(line, message, 1, near, "csv-space", "info"))
    nameless = {place: f"Unnamed: {place}" for place, name in enumerate(names) if not name}
    if nameless:
        said = ", ".join(f'"{name}"' for name in list(nameless.values())[:4]) + (", …" if len(nameless) > 4 else "")
        many = f"{len(nameless)} columns have no name; they are" if len(nameless) > 1 else "a column has no name; it is"
        message = f"{many} called {said} here, and left out where the cell is empty"
        problems.append(Problem(line, message, 1, near, "nameless-column", "info"))
        names = [nameless.get(place, name) for place, name in enumerate(names)]
    renamed = known_names(names, kept)
    if renamed:
        problems.append(Problem(line, say_renamed(renamed), 1, near, "column-case", "info"))
        names = [renamed.get(name, name) for name in names]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        message = f'two columns are called "{shown(repeated[0])}"'
        problems = [Problem(line, message, 1, near, "csv-header", hint="give each a name of its own")]
    return Header(tuple(names), frozenset(nameless.values()), spaced=spaced, problems=tuple(problems))


def known_names(names: list[str], kept: frozenset[str]) -> dict[str, str]:
    """Return {name: known name} for names like `Prompt`, `COMPLETION`, where together they make a known format."""
    small: dict[str, list[str]] = {}
    for name in names:
        small.setdefault(name.strip().lower(), []).append(name)
    for wanted in _FORMATS:
        if all(len(small.get(key, ())) == 1 for key in wanted):
            found = {small[key][0]: key for key in (*wanted, *_ALSO) if len(small.get(key, ())) == 1}
            return {name: key for name, key in found.items() if name != key and name not in kept}
    return {}


def say_renamed(renamed: dict[str, str]) -> str:
    """Return a remark about columns that are read by a known name."""
    said = ", ".join(f'"{shown(name, 40)}" as "{known}"' for name, known in renamed.items())
    return f"columns are read by the names that are known: {said}"


def _is_row(names: list[str], known: frozenset[str]) -> bool:
    """Whether no cell of the first line reads like a column's name: sentences, long texts, perhaps a number."""
    filled = [name for name in names if name]
    sentences = [name for name in filled if name[-1] in ".!?…。！？" or len(name) > _LONG_NAME]
    if not sentences or any(name.lower().strip(" .!?:") in known for name in filled):
        return False
    return not any(COLUMN_NAME.fullmatch(name) for name in filled if name not in sentences)


def _given_names(names: list[str]) -> tuple[str, ...]:
    numbers = ["Unnamed: 0"] if len(names) > 1 and names[0].isdigit() else []
    count = len(names) - len(numbers)
    texts = {1: ["text"], 2: ["prompt", "completion"]}.get(count) or [f"column {place + 1}" for place in range(count)]
    return (*numbers, *texts)
