"""What a row becomes: a conversation or a text, with the names of the columns that nothing of it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lora_lab.data.rows.messages import Message


@dataclass(frozen=True)
class RawRow:
    """One row's JSON object, not yet looked at. `line` is where it begins."""

    line: int
    value: Any


@dataclass(frozen=True)
class Conversation:
    """Turns that go through the chat template; the assistant's are trained. `kind` is the row's format.

    `unused` are the columns, at any depth that is read, that hold something and are no part of a turn: `id`,
    `messages[].name`.
    """

    line: int
    messages: tuple[Message, ...]
    kind: str = "conversational"
    unused: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(message.content for message in self.messages)


@dataclass(frozen=True)
class TextRow:
    """Text that is trained as it stands, with the end-of-text token after it. `unused` as in Conversation."""

    line: int
    text: str
    kind: str = "text"
    unused: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)


Row = Conversation | TextRow
