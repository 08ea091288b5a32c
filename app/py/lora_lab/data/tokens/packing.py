"""How the micro-batches of a run are laid out: a row in each sequence, or packed, all rows of one in a single sequence.

Attention never crosses from one packed row into another, so packing changes neither the loss nor any gradient. It saves
what would be padding. A sequence gets one of a few lengths, chosen for the very rows of the run: each costs a plan.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lora_lab.config import TrainConfig
from lora_lab.data.tokens.batches import Batch, Example, make_batch
from lora_lab.data.tokens.examples import input_lengths
from lora_lab.errors import LoraLabError

LENGTH_MULTIPLE = 32  # unpacked lengths are rounded up to this, so that only a few plans ever exist
PACKED_MULTIPLE = 64  # packed ones to this below 2,048 tokens, from there to a sixteenth of the power of two below
MAX_LENGTHS = 5  # packed lengths of a run; each may have a plan with a backward pass and one without
PLAN_COST_TOKENS = 4096  # one length more must save this many tokens of a run: building its plan takes about as long
MIN_SAVING = 0.15  # of the tokens that are computed, from which "auto" packs
MAX_SEQUENCE = 4 * 65_535  # tokens: attention counts blocks of four queries in one dimension of a dispatch

Shape = tuple[int, int]  # sequences, tokens of each


@dataclass(frozen=True)
class MicroBatches:
    """The sizes of a run's micro-batches, in tokens: `totals` (N) of all rows, `longest` (N) of the longest row.

    `largest_total` is the most that any of them can have: the largest of `totals` unless the run is so long that only
    its beginning was gone through.
    """

    totals: np.ndarray
    longest: np.ndarray
    largest_total: int


@dataclass(frozen=True)
class Layout:
    """The shapes of a run's micro-batches.

    `lengths` are those that packed sequences can have, in order; none when nothing is packed. `batch` is the number of
    rows of a micro-batch, `longest_row` a row's largest number of tokens, `largest` the largest shape. `saved` is the
    share of the tokens of the unpacked micro-batches that packing saves, or would save.
    """

    batch: int
    longest_row: int
    largest: Shape
    lengths: tuple[int, ...]
    saved: float

    @property
    def packed(self) -> bool:
        return bool(self.lengths)

    def make_batch(self, examples: Sequence[Example]) -> Batch:
        """Return a micro-batch of the run. ValueError if it is larger than any that was planned."""
        if not self.packed:
            return make_batch(examples, LENGTH_MULTIPLE, rows=self.batch)
        total = sum(example.input_length for example in examples)
        place = bisect_left(self.lengths, total)
        if place == len(self.lengths):
            raise ValueError(f"rows of {total} tokens in one micro-batch; this run was planned for {self.largest[1]}")
        return make_batch(examples, packed_length=self.lengths[place])

    def shape(self, lengths: Sequence[int] | np.ndarray) -> Shape:
        """Return the shape that `make_batch` gives a micro-batch of rows of these input lengths (N)."""
        if not self.packed:
            return self.batch, _round_up(int(max(lengths)), LENGTH_MULTIPLE)
        return 1, self.lengths[bisect_left(self.lengths, int(sum(lengths)))]

    def groups(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Return examples whose order does not matter (validation) as micro-batches that leave little padding."""
        if self.packed:
            bins = best_fit_decreasing([example.input_length for example in examples], self.lengths[-1])
            return [[examples[i] for i in bin_] for bin_ in bins]
        ordered = sorted(examples, key=lambda example: len(example.tokens))  # like lengths pad least
        return [ordered[i : i + self.batch] for i in range(0, len(ordered), self.batch)]


def plan_layout(
    micro: MicroBatches, rows: Sequence[Example], validation: Sequence[Example], config: TrainConfig
) -> Layout:
    """Return the layout of a run that trains on `rows` in these micro-batches.

    Raises LoraLabError where packing is asked for and a sequence would be longer than the kernels can do.
    """
    row_lengths, held_lengths = input_lengths(rows), input_lengths(validation)
    longest_row = int(max(row_lengths.max(initial=1), held_lengths.max(initial=1)))
    unpacked_length = _round_up(longest_row, LENGTH_MULTIPLE)
    padded = -(-micro.longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    unpacked_tokens = config.batch * int(padded.sum())
    lengths = sequence_lengths(micro.totals)
    packed_tokens = int(np.array(lengths, np.int64)[np.searchsorted(lengths, micro.totals)].sum())
    saved = 1 - packed_tokens / unpacked_tokens
    # The largest always fits: a long run's unseen micro-batch, and a row held back that is longer than all others.
    needed = max(micro.largest_total, int(held_lengths.max(initial=0)))
    if needed > lengths[-1]:
        lengths = (*lengths, int(_bucket(np.array([needed]))[0]))
    fits = lengths[-1] <= MAX_SEQUENCE
    if config.packing is True and not fits:
        raise LoraLabError(
            f"packing: {config.batch} rows at once come to {needed:,} tokens; a sequence holds {MAX_SEQUENCE:,} at "
            "most. Compute fewer rows at once, or switch packing off."
        )
    if config.packing is True or (config.packing == "auto" and fits and saved >= MIN_SAVING):
        return Layout(config.batch, longest_row, (1, lengths[-1]), lengths, saved)
    return Layout(config.batch, longest_row, (config.batch, unpacked_length), (), saved)


def sequence_lengths(totals: np.ndarray) -> tuple[int, ...]:
    """Return at most MAX_LENGTHS lengths, in order, one of which is at least as large as each of `totals` (N).

    They are the ones for which the tokens computed plus PLAN_COST_TOKENS a length are fewest (dynamic programming over
    the distinct rounded totals).
    """
    candidates, counts = np.unique(_bucket(totals), return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])  # how many totals are smaller than each candidate
    # cost[j]: of the j smallest candidates, the j-th being the largest length so far; `chosen` leads back to the others
    cost = np.concatenate([[0.0], np.full(len(candidates), np.inf)])
    best: float = np.inf
    best_lengths: tuple[int, ...] = ()
    chosen: list[np.ndarray] = []
    for _ in range(min(MAX_LENGTHS, len(candidates))):
        steps = cost[None, :] + candidates[:, None] * (below[1:, None] - below[None, :]) + PLAN_COST_TOKENS
        steps[np.arange(len(candidates) + 1)[None, :] > np.arange(len(candidates))[:, None]] = np.inf
        chosen.append(np.argmin(steps, axis=1))
        cost = np.concatenate([[np.inf], steps.min(axis=1)])
        if cost[-1] < best:
            best, best_lengths = cost[-1], _trace_back(candidates, chosen)
    return best_lengths


def _trace_back(candidates: np.ndarray, chosen: list[np.ndarray]) -> tuple[int, ...]:
    lengths, end = [], len(candidates)
    for before in reversed(chosen):
        lengths.append(int(candidates[end - 1]))
        end = int(before[end - 1])
    return tuple(reversed(lengths))


def _bucket(totals: np.ndarray) -> np.ndarray:
    """Round up to PACKED_MULTIPLE, and large totals more coarsely: at most a sixteenth of a sequence is lost."""
    power = np.frexp(totals.astype(np.float64))[1] - 1  # floor(log2)
    step = np.maximum(PACKED_MULTIPLE, (1 << power) // 16)
    return -(-totals // step) * step


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def best_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return all indices in as few bins as is easy, the lengths in each adding up to at most `room`.

    The longest first, each into the bin in which it leaves least over. Raises ValueError for one longer than `room`.
    """
    bins: list[list[int]] = []
    left: list[tuple[int, int]] = []  # room left and number of every bin, in order
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] > room:
            raise ValueError(f"a row of {lengths[index]} tokens does not fit a sequence of {room}")
        place = bisect_left(left, (lengths[index], -1))
        remaining, number = left.pop(place) if place < len(left) else (room, len(bins))
        if number == len(bins):
            bins.append([])
        bins[number].append(index)
        insort(left, (remaining - lengths[index], number))
    return bins
