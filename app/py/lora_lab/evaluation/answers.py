"""Answers before a run and after it, and whether they are what the data says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lora_lab.evaluation.record import AnswerPair, RunRecord


@dataclass(frozen=True)
class Matches:
    """How many answers say what the data does, of those to which it has one: without the adapter, and with it."""

    of: int
    before: int
    after: int


def answers_of(record: RunRecord) -> tuple[AnswerPair, ...]:
    """Return prompts answered by both models: what was kept of them, else the first and the kept one's answers on the
    way.
    """
    if record.answers:
        return record.answers
    found = []
    for sample in record.samples:
        early = [one for one in sample.answers if one.step == 0]
        late = [one for one in sample.answers if 0 < one.step <= record.outcome.kept_step]
        if early and late:
            found.append(AnswerPair(sample.prompt, sample.expected, early[0].text, late[-1].text))
    return tuple(found)


def is_match(answer: str, expected: str) -> bool:
    """Whether an answer says the same words as the data: case, spaces and punctuation at the words' ends aside."""
    return _words(answer) == _words(expected) != []


def matches_of(answers: tuple[AnswerPair, ...]) -> Matches:
    """Return how many answers are what the data says."""
    known = [(one, one.expected) for one in answers if one.expected]
    return Matches(
        len(known), sum(is_match(one.before, expected) for one, expected in known),
        sum(is_match(one.after, expected) for one, expected in known),
    )  # fmt: skip


def _words(text: str) -> list[str]:
    found = (re.sub(r"^\W+|\W+$", "", word) for word in text.casefold().split())
    return [word for word in found if word]
