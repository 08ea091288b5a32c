"""Static memory planning: whole buffers are shared by values whose lives do not overlap.

Every value's first and last use is known from the trace, so the plan's exact need is known before anything is
allocated. Buffers are never sliced between values: WebGPU forbids one buffer to be bound read-only and read-write in
the same dispatch, even at disjoint ranges.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Slot:
    """A buffer-to-be of the pool and the spans of dispatches during which it is taken, in order."""

    size_bytes: int
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def is_free(self, first: int, last: int) -> bool:
        place = bisect_left(self.starts, first)
        if place < len(self.starts) and self.starts[place] <= last:
            return False
        return place == 0 or self.ends[place - 1] < first

    def take(self, first: int, last: int) -> None:
        place = bisect_left(self.starts, first)
        self.starts.insert(place, first)
        self.ends.insert(place, last)


@dataclass(frozen=True)
class Life:
    """A value of `size_bytes` that is alive from dispatch `first` to dispatch `last`, both included."""

    size_bytes: int
    first: int
    last: int


def assign(lives: list[Life], existing_sizes: list[int]) -> tuple[list[int], list[int]]:
    """Give every life a slot. Returns (slot index of each life, size in bytes of every slot).

    Slots 0..len(existing_sizes)-1 are the pool's present buffers and keep their sizes; new ones follow. Lives that
    would fit on their own, slot by slot in order of size, add none: a batch smaller than the one that the pool was
    made for, whose values have other proportions, takes nothing that was not planned. Where that fails, what is large
    for long goes first: it needs the pool's larger buffers most.
    """
    placed, sizes = _place(lives, [], _largest_then_longest)
    pool = _largest_first(existing_sizes)
    own = _largest_first(sizes)
    fits = all(sizes[slot] <= existing_sizes[place] for slot, place in zip(own, pool, strict=False))
    if len(own) <= len(pool) and fits:
        place_of = dict(zip(own, pool, strict=False))
        return [place_of[slot] for slot in placed], list(existing_sizes)
    tried = [_place(lives, existing_sizes, order) for order in (_largest_then_longest, _most_in_all)]
    return min(tried, key=lambda result: sum(result[1]))


def _largest_then_longest(life: Life) -> tuple[int, ...]:
    return -life.size_bytes, life.first - life.last


def _most_in_all(life: Life) -> tuple[int, ...]:
    return (-life.size_bytes * (life.last - life.first + 1),)


def _largest_first(sizes: list[int]) -> list[int]:
    return sorted(range(len(sizes)), key=lambda index: -sizes[index])


def _place(
    lives: list[Life], existing_sizes: list[int], order: Callable[[Life], tuple[int, ...]]
) -> tuple[list[int], list[int]]:
    """The greedy rule: values in `order`, each into the smallest slot that is large enough and free for its life."""
    slots = [Slot(size) for size in existing_sizes]
    by_size = sorted(range(len(slots)), key=lambda index: slots[index].size_bytes)
    placed = [-1] * len(lives)
    for index in sorted(range(len(lives)), key=lambda i: (*order(lives[i]), lives[i].first)):
        life = lives[index]
        start = bisect_left(by_size, life.size_bytes, key=lambda slot: slots[slot].size_bytes)
        for slot_index in by_size[start:]:
            if slots[slot_index].is_free(life.first, life.last):
                break
        else:
            slot_index = len(slots)
            slots.append(Slot(life.size_bytes))
            by_size.insert(bisect_left(by_size, life.size_bytes, key=lambda slot: slots[slot].size_bytes), slot_index)
        slots[slot_index].take(life.first, life.last)
        placed[index] = slot_index
    return placed, [slot.size_bytes for slot in slots]
