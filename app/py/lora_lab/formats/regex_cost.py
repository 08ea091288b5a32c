"""How long a regular expression may take: Python's matcher tries every way to match, and knows no time limit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined]  # the tree that re itself compiles
from typing import Any

import numpy as np

_CEILING = 1e12  # stands for any larger number, so that nothing overflows


def most_steps(pattern: str, texts: Collection[str]) -> float:
    """Return a bound of the steps that re.fullmatch takes on any of these texts.

    Taken from the expression's tree: any character may match any other, but letters in a row must stand in some text,
    and of alternatives that begin with different letters only one can match. So names cost little, and nested or many
    quantifiers a lot.
    """
    return _Texts(max(map(len, texts)), "\n".join(texts).lower()).sequence(_parser.parse(pattern))[1]


# What the methods return, from one place in a text: ways[i] bounds in how many ways i characters are taken; the steps.
_Cost = tuple[np.ndarray, float]


@dataclass(frozen=True)
class _Texts:
    length: int  # of the longest
    joined: str  # in small letters

    def sequence(self, items: Any) -> _Cost:
        ways, steps, letters = self.takes(0), 1.0, ""
        for op, argument in items:
            item_ways, item_steps = self.item(str(op), argument)
            steps = min(steps + ways.sum() * item_steps, _CEILING)
            ways = self.then(ways, item_ways)
            # Small, as the flag (?i) may be set; beyond ASCII it has letters that match others.
            letters = letters + chr(argument).lower() if str(op) == "LITERAL" and argument < 128 else ""
            if letters not in self.joined:
                ways = np.zeros_like(ways)
        return ways, steps

    def item(self, op: str, argument: Any) -> _Cost:
        if op in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self.takes(1), 1.0
        if op in ("AT", "FAILURE"):
            return self.takes(0), 1.0
        if op in ("ASSERT", "ASSERT_NOT"):
            return self.takes(0), self.sequence(argument[1])[1]
        if op == "SUBPATTERN":
            return self.sequence(argument[3])
        if op == "ATOMIC_GROUP":
            return self.sequence(argument)
        if op == "BRANCH":
            return self.alternatives(argument[1])
        if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self.repeat(*argument)
        return np.full(self.length + 1, _CEILING), _CEILING  # references to groups, and what later Pythons may add

    def alternatives(self, alternatives: Any) -> _Cost:
        any_start, steps = np.zeros(self.length + 1), 1.0
        by_letter: dict[str, np.ndarray] = {}
        for items in alternatives:
            ways, item_steps = self.sequence(items)
            steps += item_steps
            op, argument = items[0] if len(items) else ("", 0)
            if str(op) == "LITERAL" and argument < 128:
                letter = chr(argument).lower()
                by_letter[letter] = by_letter.get(letter, 0) + ways
            else:
                any_start = any_start + ways
        return any_start + np.max([*by_letter.values(), np.zeros(self.length + 1)], axis=0), min(steps, _CEILING)

    def repeat(self, least: int, most: int, items: Any) -> _Cost:
        body_ways, body_steps = self.sequence(items)
        if body_ways[0] and most > self.length:  # a body that may be empty: no text ends the loop
            return np.full(self.length + 1, _CEILING), _CEILING
        ways, total, steps = self.takes(0), np.zeros(self.length + 1), 1.0
        for count in range(min(most, self.length + 1) + 1):
            if count >= least:
                total = total + ways
            if count < most:
                steps = min(steps + ways.sum() * body_steps, _CEILING)
                ways = self.then(ways, body_ways)
        return np.minimum(total, _CEILING), steps

    def takes(self, count: int) -> np.ndarray:
        ways = np.zeros(self.length + 1)
        ways[count : count + 1] = 1
        return ways

    def then(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.minimum(np.convolve(first, second)[: len(first)], _CEILING)
