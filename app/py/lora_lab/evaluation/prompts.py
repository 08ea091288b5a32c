"""The questions that a model is asked while it learns: rows that it does not learn from, as far as there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.rows.schema import Conversation, Row

NUM_PROMPTS = 3
Messages = tuple[tuple[str, str], ...]  # role and content of each


@dataclass(frozen=True)
class Prompt:
    """A question with what came before it, and the answer that the data gives, where it gives one."""

    prompt: str
    messages: Messages
    expected: str | None = None

    @classmethod
    def of_text(cls, text: str) -> Prompt:
        """Return what a person asks."""
        return cls(text, (("user", text),))


def choose_prompts(held: Sequence[Row], trained: Sequence[Row], count: int = NUM_PROMPTS) -> tuple[Prompt, ...]:
    """Return up to `count` different questions: of rows held back, else of rows trained on, evenly spread."""
    found: list[Prompt] = []
    for rows in (spread(held, 10 * count), spread(trained, 3 * count)):
        for row in rows:
            prompt = prompt_of(row)
            if prompt is not None and all(prompt.prompt != other.prompt for other in found):
                found.append(prompt)
            if len(found) == count:
                return tuple(found)
    return tuple(found)


def prompt_of(row: Row) -> Prompt | None:
    """Return a conversation's last question; None for a row that is none, or does not answer one."""
    if not isinstance(row, Conversation):
        return None
    last = max((i for i, message in enumerate(row.messages) if message.role == "assistant"), default=0)
    before = row.messages[:last]
    if not before or before[-1].role != "user":
        return None
    messages = tuple((message.role, message.content) for message in before)
    return Prompt(before[-1].content, messages, row.messages[last].content)


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return up to `count` rows, evenly spread."""
    step = max(1, len(rows) // count)
    return [rows[index] for index in range(0, len(rows), step)[:count]]
