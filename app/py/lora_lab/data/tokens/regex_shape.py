"""The shape of a tokenizer's regular expression: one whose time could explode is refused before any library has it.

Backtracking takes exponential time where a repeat stands inside of a repeat, or alternatives do. Published patterns
repeat single characters and classes only, groups of a fixed length at most. What is left is polynomial in the length of
a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CHARACTERS = 4_000
MAX_REPEATS = 100
MAX_REPEATS_IN_A_ROW = 4  # without an end, in one alternative
MAX_COUNT = 1_000
MAX_GROUPS_DEEP = 20

_GROUP = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|<[A-Za-z_]\w*>|[imsxn-]+:))?+(?!\?|\*)")
_FLAGS = re.compile(r"\(\?[imsxn-]+\)")
_REPEAT = re.compile(r"(?:[*+?]|\{(\d*)(,?)(\d*)\})[+?]?")
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?[\w ]+\}|x[0-9a-fA-F]{2}|x\{[0-9a-fA-F ]+\}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]+\}|[^\dkgKRXyYNO])"
)
_EDGES = frozenset("bBAzZG")


class RegexError(ValueError):
    """The message says what is not taken."""


@dataclass
class _Sequence:
    """What has been seen of one group: whether its length varies, its least, alternatives, repeats without end."""

    least: int = 0
    is_variable: bool = False
    alternatives: int = 1
    least_of_all: int | None = None
    endless: int = 0
    width: int = 1  # of the group as such: 0 for what only looks

    def next_alternative(self) -> None:
        self.least_of_all = self.length
        self.least, self.endless, self.alternatives = 0, 0, self.alternatives + 1

    @property
    def length(self) -> int:
        """The least number of characters that it matches."""
        return self.least if self.least_of_all is None else min(self.least, self.least_of_all)


def least_match(pattern: str) -> int:
    """Return how many characters the pattern matches at least. Raises RegexError for a shape that is not taken."""
    if len(pattern) > MAX_CHARACTERS:
        raise RegexError(f"it has {len(pattern):,} characters; wanted at most {MAX_CHARACTERS:,}")
    groups, place, repeats = [_Sequence()], 0, 0
    while place < len(pattern):
        here = groups[-1]
        char = pattern[place]
        least, body = 1, None
        if flags := _FLAGS.match(pattern, place):
            place = flags.end()
            continue
        if char == "(":
            opening = _GROUP.match(pattern, place)
            if opening is None:
                raise RegexError(f"{pattern[place : place + 8]!r} is no group that is known here")
            looks = opening.group()[2:].lstrip("<")[:1] in ("=", "!") and len(opening.group()) > 2
            groups.append(_Sequence(width=0 if looks else 1))
            if len(groups) > MAX_GROUPS_DEEP:
                raise RegexError(f"groups are nested more than {MAX_GROUPS_DEEP} deep")
            place = opening.end()
            continue
        if char == "|":
            here.next_alternative()
            place += 1
            continue
        if char == ")":
            if len(groups) == 1:
                raise RegexError("a parenthesis is closed that was not opened")
            body = groups.pop()
            here = groups[-1]
            least = body.length * body.width
            place += 1
        elif char == "[":
            place = _class_end(pattern, place)
        elif char == "\\":
            escape = _ESCAPE.match(pattern, place)
            if escape is None:
                raise RegexError(f"{pattern[place : place + 4]!r} is no escape that is known here")
            least = 0 if pattern[place + 1] in _EDGES else 1
            place = escape.end()
        else:
            least = 0 if char in "^$" else 1
            place += 1
        repeat = _REPEAT.match(pattern, place)
        if repeat is None or repeat.group() == "{}":
            here.least += least
            if body is not None:
                here.is_variable |= body.is_variable or body.alternatives > 1
                here.endless += body.endless
        else:
            repeats += 1
            place = repeat.end()
            low, high = _counts(repeat)
            if high != 1 and body is not None and (body.is_variable or body.alternatives > 1 or not least):
                raise RegexError("a repeat stands inside of a repeat, or alternatives do")
            here.least += least * low
            here.is_variable |= low != high
            here.endless += (high is None) + (body.endless if body else 0)
            if _REPEAT.match(pattern, place):
                raise RegexError("a repeat follows a repeat")
        if repeats > MAX_REPEATS or here.endless > MAX_REPEATS_IN_A_ROW:
            raise RegexError(f"it has too many repeats; wanted at most {MAX_REPEATS_IN_A_ROW} in a row")
    if len(groups) > 1:
        raise RegexError("a parenthesis is not closed")
    return groups[0].length


def _counts(repeat: re.Match[str]) -> tuple[int, int | None]:
    """Return the least and the greatest number of times, None for no end."""
    text = repeat.group()
    if text[0] in "*+?":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[text[0]]
    low, comma, high = repeat.groups()
    if any(len(number) > 4 or int(number or 0) > MAX_COUNT for number in (low, high)):
        raise RegexError(f"it repeats more than {MAX_COUNT:,} times")
    least = int(low or 0)
    return least, least if not comma else int(high) if high else None


def _class_end(pattern: str, place: int) -> int:
    """Return the place behind a character class; classes may hold classes."""
    depth = 0
    while place < len(pattern):
        char = pattern[place]
        if char == "\\":
            place += 2
            continue
        if char == "[":
            depth += 1
            place += pattern[place + 1 : place + 2] == "^"
            place += pattern[place + 1 : place + 2] == "]"  # the first one of a class stands for itself
        elif char == "]":
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    raise RegexError("a character class is not closed")
