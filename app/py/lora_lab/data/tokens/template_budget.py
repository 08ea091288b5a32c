"""What one rendering of a chat template may do: steps, text, memory and time, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jinja2.utils

# What a rendering may do at least; a conversation's own size is added to it.
MAX_TEXT = 4 << 20  # characters of one text
MAX_MADE = 64 << 20  # characters of all texts that are made on the way, 8 for an element of a list
MAX_STEPS = 5_000_000  # nodes of the template that loops go through, CALL_STEPS for a call
CALL_STEPS = 20
MAX_SECONDS = 5.0  # of this thread's own time; published templates take microseconds
SMALL = 512  # characters: what is made of fewer at a time is not paid for, so that looking costs little
MAX_CALL_DEPTH = 50
MAX_VALUES = 100_000  # inside one list or dict, however often a part of it stands there
MAX_VALUE_DEPTH = 250  # above what a dataset's JSON may have
MAX_WIDTH = 1_000  # of padding, indents, groups; digits behind a comma
MAX_NUMBER_BITS = 14_000  # Python prints up to 4300 digits
# Of the template itself: Python's compiler takes 200 brackets and 20 blocks inside one another.
MAX_SOURCE = 1 << 18
MAX_DEPTH = 150


class LimitError(Exception):
    """The template wants more than its budget. The message says of what."""


class Budget:
    """What one rendering may still do."""

    text, made, steps, values = MAX_TEXT, MAX_MADE, MAX_STEPS, MAX_VALUES
    depth = MAX_CALL_DEPTH
    deadline = 0.0
    _is_grown = False

    def __init__(self, messages: Sequence[Mapping[str, Any]] = ()) -> None:
        """What is allowed grows linearly with the size of `messages`; they are measured when it comes to that."""
        self._messages = messages

    def _grow(self) -> bool:
        """Add what the conversation's own size allows; only once."""
        if self._is_grown:
            return False
        count, characters = 0, 0
        for message in self._messages:
            count += 1
            for value in message.values():
                characters += len(value) if isinstance(value, str) else len(repr(value))
        self.text += 8 * characters
        self.made += 256 * characters
        self.steps += 50_000 * count
        self.values += 16 * count + characters // 4
        self._is_grown = True
        return True

    def step(self, count: int = 1) -> None:
        """Pay for that many nodes of the template to be gone through."""
        self.steps -= count
        if not self.steps & 0xFF or count > 1000:
            self.look_at_clock()
        if self.steps < 0 and not (self._grow() and self.steps >= 0):
            raise LimitError("it takes more steps than a rendering may take; does it loop for ever?")

    def look_at_clock(self) -> None:
        now = clock()
        if not self.deadline:
            self.deadline = now + MAX_SECONDS + len(self._messages) / 100
        if now > self.deadline:
            raise LimitError(f"it takes longer than {MAX_SECONDS:g} s")

    def make(self, size: int) -> None:
        """Pay for a text of that many characters before it is made."""
        if size > self.text and not (self._grow() and size <= self.text):
            raise LimitError(f"it makes a text of {shown_number(size)} characters; wanted at most {self.text:,}")
        self.made -= size
        if size > 1 << 16:
            self.look_at_clock()
        if self.made < 0 and not (self._grow() and self.made >= 0):
            raise LimitError("it makes more text than a rendering may make")

    def pay(self, value: Any) -> Any:
        """Return what was made, paid for."""
        kind = type(value)
        if kind is str or isinstance(value, str):
            if len(value) > SMALL:
                self.make(len(value))
        elif kind is int:
            check_number(value)
        elif kind in (list, tuple, dict):
            self.make(8 * self.weigh(value)[0])
        return value

    def weigh(self, value: Any) -> tuple[int, int]:
        """Return how many values stand in a value, and about how many characters it has when it is printed.

        What stands in it twice counts twice, as it does in print; whatever is too large or too deep is a LimitError.
        """
        count = size = 0
        level = [value]
        for _ in range(MAX_VALUE_DEPTH):
            following: list[Any] = []
            count += len(level)
            self._check_count(count)
            for item in level:
                size += 4
                if isinstance(item, str):
                    size += len(item)
                elif isinstance(item, int):
                    size += item.bit_length() // 3
                elif isinstance(item, Mapping):
                    self._extend(following, item.keys(), item.values())
                elif isinstance(item, jinja2.utils.Namespace):
                    self._extend(following, item._Namespace__attrs.values())
                elif isinstance(item, (list, tuple, set, frozenset)) or type(item) in _VIEWS:
                    self._extend(following, item)
            if not following:
                return count, size
            level = following
        raise LimitError(f"it nests lists more than {MAX_VALUE_DEPTH} deep")

    def _extend(self, values: list[Any], *more: Iterable[Any]) -> None:
        for some in more:
            values.extend(some)
            self._check_count(len(values))

    def _check_count(self, count: int) -> None:
        if count > self.values and not (self._grow() and count <= self.values):
            raise LimitError(f"it makes a list of more than {self.values:,} values")

    def printed(self, value: Any) -> int:
        """Return about how many characters a value has in print."""
        return len(value) if isinstance(value, str) else self.weigh(value)[1]


_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
# A thread's own time where there is one: a machine that sleeps does not count, and neither do others that compute.
clock: Callable[[], float] = getattr(time, "thread_time", time.monotonic)


def check_number(value: int) -> None:
    if value.bit_length() > MAX_NUMBER_BITS:
        raise LimitError("it makes a number of thousands of digits")


def check_width(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_WIDTH:
            raise LimitError(f"it asks for a width of {shown_number(value)}; wanted at most {MAX_WIDTH:,}")


def shown_number(value: int) -> str:
    """Return a number for a message, also one that Python does not print."""
    return f"{value:,}" if value.bit_length() < 128 else "many digits"
