"""The memory planner: no two lives share a buffer at the same time, and what it says is what it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lora_lab.gpu.memory import Life, Slot, assign

LIVES = st.lists(
    st.builds(
        lambda size, first, length: Life(size, first, first + length),
        st.integers(1, 50).map(lambda words: 4 * words),
        st.integers(0, 30),
        st.integers(0, 12),
    ),
    max_size=40,
)
POOL = st.lists(st.integers(1, 60).map(lambda words: 4 * words), max_size=8)


def overlap(a: Life, b: Life) -> bool:
    return a.first <= b.last and b.first <= a.last


@given(LIVES, POOL)
def test_lives_that_overlap_never_share_a_slot(lives: list[Life], pool: list[int]) -> None:
    placed, sizes = assign(lives, pool)
    assert len(placed) == len(lives)
    for i, life in enumerate(lives):
        assert sizes[placed[i]] >= life.size_bytes
        for j in range(i):
            assert placed[i] != placed[j] or not overlap(life, lives[j]), (life, lives[j])


@given(LIVES, POOL)
def test_a_pools_buffers_stay_and_every_new_one_is_used(lives: list[Life], pool: list[int]) -> None:
    placed, sizes = assign(lives, pool)
    assert sizes[: len(pool)] == pool
    assert set(range(len(pool), len(sizes))) <= set(placed)


@given(LIVES)
def test_the_pool_is_no_smaller_than_what_lives_at_once_and_no_larger_than_everything(lives: list[Life]) -> None:
    _, sizes = assign(lives, [])
    moments = range(max((life.last for life in lives), default=0) + 1)
    alive = [sum(life.size_bytes for life in lives if life.first <= t <= life.last) for t in moments]
    assert max(alive) <= sum(sizes) <= sum(life.size_bytes for life in lives)


@given(LIVES, st.integers(1, 3), POOL)
def test_smaller_values_with_the_same_lives_need_nothing_new(lives: list[Life], divisor: int, more: list[int]) -> None:
    """A batch of another shape than the pool's own, or the same shape built a second time."""
    _, sizes = assign(lives, [])
    smaller = [Life(max(4, life.size_bytes // divisor), life.first, life.last) for life in lives]
    assert assign(smaller, sizes + more)[1] == sizes + more


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10)), max_size=30))
def test_a_slot_is_free_exactly_where_nothing_has_taken_it(spans: list[tuple[int, int]]) -> None:
    slot, taken = Slot(4), set()
    for first, length in spans:
        span = set(range(first, first + length + 1))
        assert slot.is_free(first, first + length) == (not span & taken)
        if not span & taken:
            slot.take(first, first + length)
            taken |= span


def test_a_chain_of_equal_values_takes_two_buffers() -> None:
    """Each op reads the value before and writes the next: two buffers in turn, however long the chain."""
    placed, sizes = assign([Life(400, i, i + 1) for i in range(50)], [])
    assert sizes == [400, 400]
    assert all(placed[i] != placed[i + 1] for i in range(49))
