"""Which column is what, as a person says it: `prompt=question, context=passage, reply=answer`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lora_lab.data.rows import names
from lora_lab.errors import DatasetError
from lora_lab.formats.json_reader import read_json

KNOWN_COLUMNS = frozenset((*names.PROMPT, *names.REPLY, *names.SYSTEM, *names.TEXT, *names.CONTEXT, *names.HISTORY,
                           *names.CONVERSATION, "rejected"))  # fmt: skip
_ROLES = ("prompt", "context", "history", "conversation", "reply", "system", "label", "text", "as")
_WANTED = (
    "prompt=NAME,reply=NAME (and system, context, history, label), or conversation=NAME, or text=NAME, or as=known"
)
_PART = re.compile(r'\s*([a-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^,]*?)\s*(>=\s*[-+.\deE]+\s*)?(?:,|$)')


@dataclass(frozen=True)
class ColumnMapping:
    """Which column is what. One of:

    - `prompt` and `reply`; perhaps `context` (goes below the prompt), `history` (earlier turns), `system`, `label`;
    - `conversation`: turns, as a list or as a text with marks; perhaps `reply` behind it, `system`, `label`;
    - `text` alone;
    - `as_known`: the columns by the names that are known. To say so is to have seen what is left unused.

    `label` says which answers are good ones: true or false, or with `at_least` a rating.
    """

    prompt: str | None = None
    reply: str | None = None
    system: str | None = None
    text: str | None = None
    context: str | None = None
    history: str | None = None
    conversation: str | None = None
    label: str | None = None
    at_least: float | None = None
    as_known: bool = False

    def __post_init__(self) -> None:
        pair = self.prompt is not None and self.reply is not None and not self.conversation
        turns = bool(self.conversation) and not (self.prompt or self.context or self.history)
        ways = [pair, turns, bool(self.text), self.as_known]
        alone = not (pair or turns) and any(
            (self.prompt, self.reply, self.system, self.context, self.history, self.conversation, self.label)
        )
        if sum(ways) != 1 or alone or (self.at_least is not None and not self.label):
            raise DatasetError(f"the columns are {self.describe() or 'not named'}; wanted are prompt and reply "
                               "(and perhaps system, context, history, label), or conversation, or text")  # fmt: skip

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return tuple(column for column in vars(self).values() if isinstance(column, str))

    def as_dict(self) -> dict[str, str]:
        """Return {role: column} as `of` reads it."""
        if self.as_known:
            return {"as": "known"}
        found = {name: getattr(self, name) for name in _ROLES[:-1] if getattr(self, name)}
        return found if self.at_least is None else {**found, "at_least": f"{self.at_least:g}"}

    @classmethod
    def of(cls, columns: dict[str, str]) -> ColumnMapping:
        """Return the mapping of {role: column}. DatasetError naming what is no role, or no number."""
        given = {role: column for role, column in columns.items() if column}
        if given.pop("as", None) == "known":
            given["as_known"] = "known"
        if unknown := sorted(set(given) - set(cls.__dataclass_fields__)):
            raise DatasetError(f"{', '.join(unknown)} found among the columns; wanted are {_WANTED}")
        known, least = "as_known" in given, given.pop("at_least", None)
        given.pop("as_known", None)
        try:
            return cls(**given, at_least=None if least is None else float(least), as_known=known)
        except ValueError:
            raise DatasetError(f"at_least is {least!r}; wanted is a number") from None

    def describe(self) -> str:
        """Return `prompt=…, reply=…`, as `parse` reads it."""
        parts = []
        for role, column in self.as_dict().items():
            if role == "at_least":
                continue
            more = f">={self.at_least:g}" if role == "label" and self.at_least is not None else ""
            parts.append(f"{role}={_quoted(column)}{more}")
        return ", ".join(parts)

    @classmethod
    def parse(cls, text: str) -> ColumnMapping:
        """Read `prompt=question,reply="a, b",label=score>=3`. Raises DatasetError naming what cannot be read."""
        found: dict[str, str] = {}
        place = 0
        while place < len(text):
            part = _PART.match(text, place)
            if part is None or not part[2] or not _is_new(part, found):
                raise DatasetError(f"{text!r} found; wanted are columns as {_WANTED}")
            role = part[1]
            try:
                found[role] = str(read_json(part[2], strict=False)) if part[2].startswith('"') else part[2]
            except ValueError:
                raise DatasetError(f"{part[2]} found as a column's name; wanted is a name in double quotes") from None
            if part[3]:
                found["at_least"] = part[3].strip()[2:].strip()
            place = part.end()
        return cls.of(found)


def _is_new(part: re.Match[str], found: dict[str, str]) -> bool:
    """Whether a part names a role that has no column yet, and a least rating only where there can be one."""
    role, column, least = part.groups()
    is_bare_number = ">=" in column and not column.startswith('"')
    return role in _ROLES and role not in found and not is_bare_number and (least is None or role == "label")


def _quoted(column: str) -> str:
    needs = not column or column != column.strip() or re.search(r'[,"\\]|>=', column) or not column.isprintable()
    return json.dumps(column, ensure_ascii=False) if needs else column


def guess_mapping(columns: Iterable[str]) -> ColumnMapping | None:
    """Return the mapping that the columns' names suggest, None when they suggest none."""
    found = names.by_plain_name(columns)
    if {"role", "content"} <= found.keys():  # single messages
        return None
    prompt, reply = names.first_of(names.PROMPT, found), names.first_of(names.REPLY, found)
    if prompt and reply:
        context = names.first_of(names.CONTEXT, found, (prompt, reply))
        history = names.first_of(names.HISTORY, found)
        return ColumnMapping(prompt, reply, names.first_of(names.SYSTEM, found), context=context, history=history)
    conversation = names.first_of(names.CONVERSATION, found)
    if conversation:
        return ColumnMapping(conversation=conversation, system=names.first_of(names.SYSTEM, found))
    text = names.first_of(names.TEXT, found)
    reply = names.first_of(names.REPLY_TO_TEXT, found, (text,))
    if text and reply:
        return ColumnMapping(text, reply, names.first_of(names.SYSTEM, found))
    return ColumnMapping(text=text) if text else None
