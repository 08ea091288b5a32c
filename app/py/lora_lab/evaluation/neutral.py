"""Everyday rows, which no run's data speaks of: some are measured after a run, others can be mixed into it.

They lie in neutral_rows/, were written for this project, and are in the public domain. What is measured is never
trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from lora_lab.data.problems import Problem
from lora_lab.data.rows.row import Conversation, RawRow, Row
from lora_lab.data.rows.schema import read_row
from lora_lab.data.tokens.batches import batch_order, encode_row
from lora_lab.data.tokens.examples import Example, Examples, ExamplesBuilder
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.formats.json_reader import read_json
from lora_lab.settings import Masking

FOLDER = Path(__file__).parent / "neutral_rows"
ASKED = 3  # questions, the first, whose answers stand side by side
# Nats a trained token by which the loss may rise before it is told: a tenth more perplexity is hardly noticed, and
# from half as much again on answers get worse.
SOME_RISE, MUCH_RISE = 0.1, 0.4


@cache
def neutral_rows(which: Literal["measured", "mixed"]) -> tuple[Row, ...]:
    """Return the rows that are measured, or those that can be mixed in."""
    rows = []
    for number, line in enumerate((FOLDER / f"{which}.jsonl").read_text(encoding="utf-8").splitlines(), 1):
        row = read_row(RawRow(number, read_json(line)))
        assert not isinstance(row, Problem), f"{which}.jsonl, line {number}: {row}"
        rows.append(row)
    return tuple(rows)


def words_of(row: Row) -> str:
    """Return what a row is called where people look at it: its question, or its text."""
    return row.messages[0].content if isinstance(row, Conversation) else row.text


@dataclass(frozen=True)
class Encoded:
    """Rows in a model's tokens; `rows[i]` is that of `examples[i]`. Those that it has no tokens for are left out."""

    examples: Examples
    rows: tuple[Row, ...]


def encode_neutral(
    rows: Sequence[Row], tokenizer: Tokenizer, template: ChatTemplate | None, max_length: int,
    masking: Masking = "assistant",
) -> Encoded:  # fmt: skip
    """Return rows in tokens, each cut to `max_length`, as a run's own rows are."""
    builder, kept = ExamplesBuilder(), []
    for row in rows:
        found = encode_row(row, tokenizer, template, max_length, masking)
        if not isinstance(found, Problem):
            builder.add(found.example.tokens, found.example.trained)
            kept.append(row)
    return Encoded(builder.build(), tuple(kept))


# ---------------------------------------------------------------------------------------------------- mixing in


def mixed_count(rows: int, share: float) -> int:
    """Return how many rows are mixed into `rows` so that they are about this share of all."""
    return round(rows * share / (1 - share))


def mixed_indices(available: int, count: int, seed: int) -> list[int]:
    """Return which of the rows are mixed in: `count`, none twice before all were taken once, fixed by the seed."""
    if not available:
        return []
    chosen: list[int] = []
    while len(chosen) < count:
        chosen += batch_order(available, seed, len(chosen) // available)
    return chosen[:count]


def mix_in(examples: Examples, encoded: Encoded, share: float, seed: int) -> tuple[Examples, int]:
    """Return the examples of a run with everyday ones behind them, and how many those are.

    The order in which a run takes its rows is shuffled afterwards, these among them.
    """
    chosen = mixed_indices(len(encoded.examples), mixed_count(len(examples), share), seed)
    if not chosen:
        return examples, 0
    return examples.followed_by(encoded.examples.subset(chosen)), len(chosen)


# ---------------------------------------------------------------------------------------------------- what was found


@dataclass(frozen=True)
class NeutralRow:
    """One row: its words, its trained tokens, and the mean loss of each of them without the adapter and with it."""

    words: str
    tokens: int
    base: float
    tuned: float


@dataclass(frozen=True)
class NeutralAnswer:
    """A question answered without the adapter and with it, both greedily."""

    prompt: str
    base: str
    tuned: str
    reference: str


@dataclass(frozen=True)
class Neutral:
    """What a run did to everything else: loss a token, in nats, over all rows; `rose` is their difference."""

    base: float
    tuned: float
    tokens: int
    rows: tuple[NeutralRow, ...]
    answers: tuple[NeutralAnswer, ...] = ()

    @property
    def rose(self) -> float:
        """By how much the loss rose; below 0 it fell."""
        return self.tuned - self.base

    @property
    def advice(self) -> tuple[str, ...]:
        """What can be done; nothing where little was unlearned."""
        return advice(self.rose)


def sum_up(
    encoded: Encoded, base: Sequence[float], tuned: Sequence[float], answers: Sequence[NeutralAnswer] = ()
) -> Neutral:
    """Return the whole of what was measured: the mean loss of each row without the adapter and with it."""
    rows = tuple(
        NeutralRow(words_of(row), example.trained_tokens, float(before), float(after))
        for row, example, before, after in zip(encoded.rows, encoded.examples, base, tuned, strict=True)
    )
    tokens = sum(row.tokens for row in rows)
    mean_base = sum(row.tokens * row.base for row in rows) / tokens
    mean_tuned = sum(row.tokens * row.tuned for row in rows) / tokens
    return Neutral(mean_base, mean_tuned, tokens, rows, tuple(answers))


def advice(rose: float) -> tuple[str, ...]:
    """Return what can be done where the loss on everyday rows rose by so many nats a token; () where that is little."""
    if rose < SOME_RISE:
        return ()
    much = "A smaller learning rate: a half or a third of it. It is what unlearns most."
    ways = (
        "Fewer steps: stop where the validation loss is lowest.",
        "Everyday rows mixed in (mix_neutral, --mix-neutral): 0.1 to 0.3 of a pass.",
        "A smaller strength when the adapter is used, 0.5 to 0.8: nothing has to be trained anew.",
        "A smaller rank or alpha.",
    )
    return (much, *ways) if rose >= MUCH_RISE else ways[1:3]


def in_words(rose: float) -> str:
    """Return in a few words how much was unlearned."""
    if rose >= MUCH_RISE:
        return "much was unlearned"
    if rose >= SOME_RISE:
        return "something was unlearned"
    return "next to nothing was unlearned" if rose > -SOME_RISE else "it became better at them"


def asked(encoded: Encoded) -> list[tuple[str, str]]:
    """Return the questions whose answers are compared, each with the answer of the set."""
    talks = [row for row in encoded.rows if isinstance(row, Conversation)]
    return [(row.messages[0].content, row.messages[1].content) for row in talks[:ASKED]]


def as_examples(encoded: Encoded) -> list[Example]:
    """Return the examples one by one."""
    return [encoded.examples[i] for i in range(len(encoded.examples))]
