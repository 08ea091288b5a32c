"""A conversation that outgrows the context: its oldest turns are left out, whole ones, and the newest always stays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import LoraLabError

Message = TypeVar("Message")
# Of the context so much is kept free for the answer, where it may be that long; and a conversation that must be cut is
# cut to so much of it, so that the turns to come find what is before them in the cache.
LEFT_FREE, CUT_TO = 0.25, 0.5


@dataclass(frozen=True)
class Window:
    """What the model is given of a conversation, in tokens, without its oldest `dropped` messages."""

    prompt: list[int]
    dropped: int = 0


def fit(
    messages: Sequence[Message], role_of: Callable[[Message], str], encode: Callable[[Sequence[Message]], list[int]],
    context_length: int, max_new_tokens: int,
) -> Window:  # fmt: skip
    """Return as much of a conversation as leaves room for an answer of `max_new_tokens`, or a quarter of the context.

    `encode` renders messages and returns their tokens. What is left begins with a turn of the user; system messages at
    the beginning stay. Raises LoraLabError where the newest turn alone leaves no room for a single token.
    """
    prompt = encode(messages)
    reserve = max(1, min(max_new_tokens, int(context_length * LEFT_FREE)))
    if len(prompt) + reserve <= context_length:
        return Window(prompt)
    head = next((i for i, message in enumerate(messages) if role_of(message) != "system"), len(messages))
    starts = [i for i, message in enumerate(messages) if i > head and role_of(message) == "user"]
    if starts:
        rendered: dict[int, list[int]] = {}

        def fits(start: int) -> bool:
            rendered[start] = encode([*messages[:head], *messages[start:]])
            return len(rendered[start]) <= context_length * CUT_TO

        found = starts[min(bisect_left(starts, True, key=fits), len(starts) - 1)]
        if found not in rendered:
            fits(found)
        prompt, dropped = rendered[found], found - head
    else:
        dropped = 0
    if len(prompt) >= context_length:
        raise LoraLabError(
            f"the newest message, with the system prompt, is {len(prompt):,} tokens long; the context holds "
            f"{context_length:,}, and an answer needs room too. Shorten it."
        )
    return Window(prompt, dropped)
