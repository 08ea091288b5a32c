"""Columns with other names: which one is the prompt, the reply, the system prompt or the text; and a guess of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lora_lab.data.problems import RowError, shown
from lora_lab.errors import DatasetError

# What columns are often called, the surest names first.
_GUESSES = {
    "prompt": ("prompt", "question", "instruction", "query", "user", "human", "user_message", "request", "problem",
               "input", "source", "utterance", "q", "ask", "title"),
    "reply": ("completion", "answer", "response", "output", "reply", "assistant", "gpt", "bot", "assistant_message",
              "chosen", "solution", "target", "label", "a", "summary"),
    "system": ("system", "system_prompt", "system_message"),
    "text": ("text", "content", "body", "document", "article", "passage", "story", "sentence", "code"),
}  # fmt: skip
_FORMAT_KEYS = ("messages", "conversations", "conversation", "rejected", "history")
KNOWN_COLUMNS = frozenset((*_FORMAT_KEYS, *(name for names in _GUESSES.values() for name in names)))


@dataclass(frozen=True)
class ColumnMapping:
    """Which column is what: `prompt` and `reply` together, perhaps with `system`; or `text` alone."""

    prompt: str | None = None
    reply: str | None = None
    system: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        is_pair = bool(self.prompt and self.reply)
        if is_pair == bool(self.text) or bool(self.prompt) != bool(self.reply) or (self.text and self.system):
            raise DatasetError(f"the columns are {self.describe() or 'not named'}; wanted are prompt and reply "
                               "(and perhaps system), or text")  # fmt: skip

    def describe(self) -> str:
        """Return `prompt=…, reply=…`."""
        return ", ".join(f"{name}={column}" for name, column in vars(self).items() if column)

    @classmethod
    def parse(cls, text: str) -> ColumnMapping:
        """Read `prompt=question,reply=answer`. Raises DatasetError naming what cannot be read."""
        parts = [part.partition("=") for part in text.split(",")]
        names = [name.strip() for name, _, _ in parts]
        for name, (_, equals, column) in zip(names, parts, strict=True):
            if not equals or not column.strip() or name not in cls.__dataclass_fields__ or names.count(name) > 1:
                raise DatasetError(f"{text!r} found; wanted are columns as prompt=NAME,reply=NAME, or text=NAME")
        return cls(**{name: column.strip() for name, (_, _, column) in zip(names, parts, strict=True)})

    def apply(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row under the names that are known here. Raises RowError for a column that is not there."""
        row: dict[str, Any] = {}
        for name, column in (("text", self.text), ("prompt", self.prompt), ("completion", self.reply)):
            if column is None:
                continue
            if value.get(column) is None:
                keys = ", ".join(f'"{shown(str(key), 40)}"' for key in list(value)[:6])
                found = "is null" if column in value else f"is not there; the row has {keys or 'no key'}"
                raise RowError(f'the column "{shown(column, 40)}" {found}', "choose other columns", "missing-key")
            row[name] = value[column]
        if self.system and value.get(self.system):
            row["system"] = value[self.system]
        return row


def guess_mapping(columns: Iterable[str]) -> ColumnMapping | None:
    """Return the mapping that the columns' names suggest, None when they suggest none."""
    plain: dict[str, str] = {}
    for column in columns:
        plain.setdefault(column.strip().lower().replace(" ", "_").replace("-", "_"), column)
    found = {role: next((plain[name] for name in names if name in plain), None) for role, names in _GUESSES.items()}
    if found["prompt"] and found["reply"]:
        return ColumnMapping(found["prompt"], found["reply"], found["system"])
    return ColumnMapping(text=found["text"]) if found["text"] else None
