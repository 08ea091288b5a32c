"""Many examples in a few large arrays: 500,000 rows as objects of their own would take more room than their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

_CHUNK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Example:
    """One row as tokens (T,) int32 and `trained` (T,) bool.

    trained[i] says that token i is a target: its prediction from the tokens before it is trained. The first token
    has none before it, so trained[0] is always false.
    """

    tokens: np.ndarray
    trained: np.ndarray

    @property
    def trained_tokens(self) -> int:
        return int(np.count_nonzero(self.trained))

    @cached_property
    def input_length(self) -> int:
        """How many tokens go into the model: those before the last trained one, which is only a target; at least 1.

        What stands behind it is left out: attention is causal, so it can change neither the loss nor any gradient.
        """
        places = np.flatnonzero(self.trained)
        return max(1, int(places[-1])) if len(places) else 1


Chunk = tuple[np.ndarray, np.ndarray]  # the tokens (T,) int32 of several rows, and which are trained (T,) bool


class Examples(Sequence[Example]):
    """Examples, each made when it is asked for. Row i is `sizes[i]` tokens of chunk `chunk_of[i]` from `starts[i]` on.

    Another cut or choice of rows (`cut`, `subset`) shares the tokens. All index arrays are (N,) int64.
    """

    def __init__(self, chunks: Sequence[Chunk], chunk_of: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        self._chunks, self._chunk_of, self._starts, self.sizes = chunks, chunk_of, starts, sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        tokens, trained = self._chunks[self._chunk_of[index]]
        part = slice(self._starts[index], self._starts[index] + self.sizes[index])
        return Example(tokens[part], trained[part])

    def subset(self, indices: np.ndarray | Sequence[int]) -> Examples:
        """Return the examples of these indices, in this order."""
        return Examples(self._chunks, self._chunk_of[indices], self._starts[indices], self.sizes[indices])

    def followed_by(self, other: Examples) -> Examples:
        """Return these examples and the other ones behind them."""
        return Examples(
            [*self._chunks, *other._chunks],
            np.concatenate([self._chunk_of, other._chunk_of + len(self._chunks)]),
            np.concatenate([self._starts, other._starts]),
            np.concatenate([self.sizes, other.sizes]),
        )

    def cut(self, max_length: int) -> Examples:
        """Return every example cut to at most `max_length` tokens."""
        return Examples(self._chunks, self._chunk_of, self._starts, np.minimum(self.sizes, max_length))

    @cached_property
    def trained_counts(self) -> np.ndarray:
        """(N,) int64: each example's trained tokens."""
        return self._trained_numbers[0]

    @cached_property
    def input_lengths(self) -> np.ndarray:
        """(N,) int64: each example's `input_length`."""
        return self._trained_numbers[1]

    @cached_property
    def _trained_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        counts, lengths = np.zeros(len(self), np.int64), np.ones(len(self), np.int64)
        order = np.argsort(self._chunk_of, kind="stable")
        bounds = np.searchsorted(self._chunk_of[order], np.arange(len(self._chunks) + 1))
        for number, (_, trained) in enumerate(self._chunks):
            rows = order[bounds[number] : bounds[number + 1]]
            if not len(rows):
                continue
            places, starts = np.flatnonzero(trained), self._starts[rows]
            first = np.searchsorted(places, starts)
            behind = np.searchsorted(places, starts + self.sizes[rows])
            counts[rows] = behind - first
            some = behind > first
            lengths[rows[some]] = np.maximum(1, places[behind[some] - 1] - starts[some])
        return counts, lengths


class ExamplesBuilder:
    """Takes rows one by one and packs them."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._waiting: list[Chunk] = []
        self._waiting_tokens = 0
        self._chunk_of: list[int] = []
        self._starts: list[int] = []
        self._sizes: list[int] = []

    def add(self, tokens: np.ndarray, trained: np.ndarray) -> None:
        """Add a row: tokens (T,) int32, trained (T,) bool."""
        self._chunk_of.append(len(self._chunks))
        self._starts.append(self._waiting_tokens)
        self._sizes.append(len(tokens))
        self._waiting.append((tokens, trained))
        self._waiting_tokens += len(tokens)
        if self._waiting_tokens >= _CHUNK_TOKENS:
            self._pack()

    def _pack(self) -> None:
        if self._waiting:
            tokens, trained = zip(*self._waiting, strict=True)
            self._chunks.append((np.concatenate(tokens), np.concatenate(trained)))
            self._waiting, self._waiting_tokens = [], 0

    def build(self) -> Examples:
        """Return what was added."""
        self._pack()
        return Examples(
            self._chunks, np.array(self._chunk_of, np.int64), np.array(self._starts, np.int64),
            np.array(self._sizes, np.int64),
        )  # fmt: skip


def input_lengths(examples: Sequence[Example]) -> np.ndarray:
    """Return (N,) int64: the `input_length` of each example."""
    if isinstance(examples, Examples):
        return examples.input_lengths
    return np.array([example.input_length for example in examples], np.int64)
