"""What is left of a conversation that outgrows the context."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lora_lab.errors import LoraLabError
from lora_lab.generate.window import fit

CONTEXT = 200
Message = tuple[str, int]  # who, and how many tokens it takes


class Counted:
    """Renders a message as so many tokens of its own number, and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages: Sequence[Message]) -> list[int]:
        self.calls += 1
        return [token for number, (_, count) in enumerate(messages) for token in [number] * count]


def window(messages: Sequence[Message], most: int = 512, encode: Counted | None = None) -> tuple[int, int]:
    """Return how many tokens are left, and how many messages are not."""
    found = fit(messages, lambda one: one[0], encode or Counted(), CONTEXT, most)
    return len(found.prompt), found.dropped


def conversation(turns: int, tokens: int = 10) -> list[Message]:
    talk = [message for _ in range(turns) for message in (("user", tokens), ("assistant", tokens))]
    return [("system", 20), *talk[:-1]]


def test_what_fits_with_its_answer_stays_whole() -> None:
    encode = Counted()
    assert window(conversation(7), encode=encode) == (150, 0)  # 50 are free: a quarter of the context
    assert encode.calls == 1
    assert window(conversation(9), most=10) == (190, 0)
    assert window(conversation(9), most=11)[1] > 0


def test_the_oldest_turns_go_and_the_system_prompt_stays() -> None:
    talk = conversation(8)
    assert window(talk) == (90, 8)

    def letters(some: Sequence[Message]) -> list[int]:
        return [ord(who[0]) for who, count in some for _ in range(count)]

    found = fit(talk, lambda one: one[0], letters, CONTEXT, 512)
    assert bytes(found.prompt) == b"s" * 20 + (b"u" * 10 + b"a" * 10) * 3 + b"u" * 10
    encode = Counted()
    _, dropped = window(conversation(3000), encode=encode)
    assert dropped == 2 * (3000 - 4) and encode.calls < 16  # not one rendering for each turn


def test_after_a_cut_there_is_room_for_some_turns() -> None:
    """So that each of them finds the one before in the cache."""
    cuts, dropped = 0, 0
    for turns in range(1, 60):
        talk = conversation(turns)
        seen = [talk[0], *talk[1 + dropped :]]  # the page leaves out what was left out before
        left, more = window(seen)
        assert left <= 150
        cuts += more > 0
        dropped += more
    assert cuts < 20


def test_the_newest_turn_stays_also_where_it_is_long() -> None:
    talk = [*conversation(4)[:-1], ("user", 150)]
    assert window(talk) == (170, 6)
    assert window([("user", 199)]) == (199, 0)
    assert window([("system", 199)], most=1) == (199, 0)
    for talk in ([*conversation(4)[:-1], ("user", 180)], [("user", 200)], [("system", 500), ("user", 1)]):
        with pytest.raises(LoraLabError, match=r"\d+ tokens long; the context holds 200"):
            window(talk)
