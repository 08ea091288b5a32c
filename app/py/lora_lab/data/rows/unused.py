"""The columns of a file that nothing was made of: in how many rows, what they hold, what they probably mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_lab.data.problems import json_kind, shown
from lora_lab.data.rows import names
from lora_lab.data.rows.flags import FLAG_KEYS
from lora_lab.data.rows.parts import holds
from lora_lab.data.rows.row import Row

MAX_COLUMNS = 1000  # kept by name; a file in which every row has columns of its own can have a million
FURTHER = "…"  # what stands for the columns beyond these
_LOOKED_AT = 200  # rows of a column that are held against the words of the turns
_SHORT = 64  # characters of a number or name
_SENTENCE = 20  # characters from which on a text that stands in another is no chance
_MARKS = 60  # characters of a template around a turn

_MEANINGS = {
    **dict.fromkeys(names.SYSTEM, "a system prompt; not used, because the row has another one too, or has no turns"),
    **dict.fromkeys(names.CONTEXT, "what the prompt is about"),
    **dict.fromkeys(names.HISTORY, "earlier turns"),
    **dict.fromkeys(names.REPLY_TO_TEXT, "an answer, or a class"),
    **dict.fromkeys(names.LABEL, "a label: which class, or how good the answer is"),
    **dict.fromkeys(names.RATING, "a rating of the answer"),
    **dict.fromkeys((bad for _, bad in names.PAIRS), "the answer that was not preferred"),
    **dict.fromkeys(("prompt", "question", "instruction", "query"), "what the answer is for"),
    **dict.fromkeys(("text", "content", "formatted"), "the row as one text"),
    **dict.fromkeys(("name", "author", "speaker", "user_name"), "a name; few chat templates read it"),
    **dict.fromkeys((*names.REASONING, "thought", "rationale", "chain_of_thought"),
                    "what was thought before the answer; some chat templates read it"),
    **dict.fromkeys(("source", "dataset", "origin", "url", "link", "file", "path"), "where the row comes from"),
    **dict.fromkeys(("lang", "language", "locale"), "the language"),
    **dict.fromkeys(("category", "topic", "task", "type", "kind", "tags", "domain", "subject", "difficulty", "split"),
                    "what the row is about, or which part it belongs to"),
    **dict.fromkeys(("metadata", "meta", "extra", "info"), "remarks about the row"),
    **dict.fromkeys(("tools", "functions"), "tools that a model may call, which are not supported"),
    **dict.fromkeys(("weight", "train", "loss_weight"), "how much the row is to count; here all count alike"),
    "mask": "whose turns are not trained; here the setting for the mask says that",
    **dict.fromkeys(("date", "time", "timestamp", "created", "created_at", "create_time"), "when it was written"),
    **dict.fromkeys(("parallel_tool_calls", "tool_choice", "model", "temperature"), "a setting of a request"),
    **dict.fromkeys(("cache_control", "annotations", "refusal"), "something for one provider’s service"),
}  # fmt: skip


@dataclass(frozen=True)
class UnusedColumn:
    """A column that no turn was made of. `rows` hold something there, `characters` of text in all.

    `offer` is the mapping (as --map takes it) of a reading that would use it, "" for none. `quiet`: it numbers the
    rows, or repeats what the turns say. `asks`: it holds more text than all that is used of the same rows, so that
    training without it wants a person's word.
    """

    column: str
    rows: int
    meaning: str
    quiet: bool
    asks: bool
    characters: int
    example: str
    line: int  # the first row that has it
    offer: str = ""


class UnusedColumns:
    """Counts the unused columns of a file's rows, one row after the other."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}

    def add(self, row: Row, value: Mapping[str, Any]) -> None:
        """Count a row's; `value` is its JSON object."""
        if not row.unused:
            return
        texts = row.texts
        used = sum(map(len, texts))
        for path in row.unused:
            column = self._columns.get(path)
            if column is None:
                key = path if len(self._columns) < MAX_COLUMNS else FURTHER
                column = self._columns.setdefault(key, _Column(row.line))
            column.add(list(values_at(value, path)), texts, used)

    def build(self) -> tuple[UnusedColumn, ...]:
        """Return the columns: those that hold the most text first, the quiet ones last."""
        found = [column.build(path) for path, column in self._columns.items()]
        return tuple(sorted(found, key=lambda column: (column.quiet, -column.characters, -column.rows)))

    def __len__(self) -> int:
        return len(self._columns)

    def range_of(self, column: str) -> tuple[float, float] | None:
        """Return the least and the greatest number in a column, None where it is not unused or holds other things."""
        found = self._columns.get(column)
        return (found.least, found.most) if found and found.are_numbers and found.least <= found.most else None


def is_for_templates(path: str) -> bool:
    """Whether a column is a message's reasoning: a template decides about it, and what it leaves out is told."""
    return "[]." in path and path.rpartition(".")[2] in names.REASONING


def values_at(value: Any, path: str) -> Iterator[Any]:
    """Yield what stands at a path as `messages[].name` in a row; a key may hold dots itself."""
    if isinstance(value, Mapping):
        if path in value:
            yield value[path]
            return
        for key, item in value.items():
            if path.startswith(f"{key}.") or path.startswith(f"{key}[]."):
                rest = path[len(key) :]
                if rest.startswith("[]."):
                    for part in item if isinstance(item, list) else ():
                        yield from values_at(part, rest[3:])
                else:
                    yield from values_at(item, rest[1:])


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


class _Column:
    def __init__(self, line: int) -> None:
        self.line, self.rows, self.characters, self.beside = line, 0, 0, 0
        self.example = ""
        self.are_short = self.are_numbers = self.repeats = True
        self.least, self.most = float("inf"), float("-inf")

    def add(self, values: list[Any], texts: tuple[str, ...], used: int) -> None:
        self.rows += 1
        self.beside += used
        if not self.example:
            self.example = next((_said(value) for value in values if holds(value)), "")
        for value in values:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.least, self.most = min(self.least, value), max(self.most, value)
                self.repeats = False
                continue
            self.are_numbers = False
            found = list(texts_in(value))
            self.characters += sum(map(len, found))
            self.are_short &= isinstance(value, str) and len(value) <= _SHORT and not any(map(str.isspace, value))
            if self.repeats and self.rows <= _LOOKED_AT:
                self.repeats = bool(found) and _repeat(found, texts)

    def build(self, path: str) -> UnusedColumn:
        name = path.rpartition(".")[2].removesuffix("[]")
        numbers = names.is_numbering(name) and (self.are_short or self.are_numbers)
        if self.repeats:
            meaning = "says again what the turns say"
        elif numbers:
            meaning = "numbers the rows"
        elif path == FURTHER:
            meaning = "further columns, of one row or a few each"
        elif name in FLAG_KEYS and "." in path:
            meaning = "a wish about training, on a turn that is not the assistant’s"
        else:
            meaning = _MEANINGS.get(names.plain(name), "")
        quiet = numbers or self.repeats
        asks = not quiet and self.characters > self.beside and not is_for_templates(path)
        return UnusedColumn(path, self.rows, meaning, quiet, asks, self.characters, self.example, self.line)


def _repeat(found: list[str], texts: tuple[str, ...]) -> bool:
    """Whether the texts say nothing that the turns do not say: each stands in a turn, or is the turns put together."""
    for text in found:
        text = text.strip()
        if any(text == turn.strip() or (len(text) >= _SENTENCE and text in turn) for turn in texts):
            continue
        rest = text
        for turn in sorted(texts, key=len, reverse=True):
            rest = rest.replace(turn.strip(), "", 1) if turn.strip() else rest
        if len(rest) == len(text) or len(rest) > max(_MARKS * len(texts), len(text) // 4):
            return False
    return True


def _said(value: Any) -> str:
    """Return a value in a few words."""
    if isinstance(value, str):
        return shown(value.strip(), 80)
    if isinstance(value, (bool, int, float)):
        return shown(str(value).lower(), 80)
    first = next(texts_in(value), None)
    return json_kind(value) if first is None else shown(first.strip(), 80)
