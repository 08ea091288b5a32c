"""When a run is held up for answers: at the steps that were asked for, or never for more than a share of its time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lora_lab.train.sample_times import SHARE, SampleTimes


def simulate(step_s: float, cost_s: float, once_s: float, steps: int = 3000) -> tuple[list[int], float]:
    """Return the steps at which the model was asked, and the largest share of the time that it had taken by then."""
    now = 0.0
    times = SampleTimes(None, 100, lambda: now)
    times.begin()
    taken, most = [], 0.0
    for step in range(1, steps + 1):
        now += step_s
        times.step_took(step_s, 300)
        if times.is_due(step, steps):
            times.once_s = 0.0 if taken else once_s
            spent = cost_s + times.once_s
            now += spent
            times.taken(step, spent)
            taken.append(step)
            most = max(most, times.spent_s / now)
    return taken, most


@pytest.mark.parametrize("step_s", [0.05, 0.5, 4.0])
@pytest.mark.parametrize("cost_s", [0.1, 2.0, 15.0])
def test_by_time_they_cost_a_twentieth_at_most(step_s: float, cost_s: float) -> None:
    """Also at any moment on the way, once the first has told what one costs; and no seldomer than that allows."""
    taken, _ = simulate(step_s, cost_s, 0.4)
    total_s = 3000 * step_s + len(taken) * cost_s + 0.4 * bool(taken)
    assert (len(taken) * cost_s + 0.4 * bool(taken)) / total_s <= SHARE + cost_s / total_s
    allowed = min(3000, int(SHARE * 3000 * step_s / cost_s))
    assert len(taken) >= 0.8 * allowed - 2, "oftener would have been allowed"
    gaps = [b - a for a, b in pairwise(taken)]
    assert all(gap * step_s + cost_s >= 0.99 * cost_s / SHARE for gap in gaps[1:])


def test_a_first_one_that_costs_more_than_was_thought_is_made_up_for() -> None:
    taken, most = simulate(0.1, 6.0, 10.0)
    assert most > SHARE and taken
    total_s = 3000 * 0.1 + 6.0 * len(taken) + 10.0
    assert (6.0 * len(taken) + 10.0) / total_s <= SHARE + 0.01


@pytest.mark.parametrize(
    ("every", "wanted"),
    [(4, [0, 4, 8, 10]), (1, list(range(11))), (10, [0, 10]), (50, [0, 10]), (0, [])],
)
def test_by_steps(every: int, wanted: list[int]) -> None:
    times = SampleTimes(every, 100)
    times.begin()
    found = []
    for step in range(11):
        for _ in range(2):  # asked twice, as the loop does
            if times.is_due(step, 10):
                found.append(step)
                times.taken(step, 100.0)
    assert found == wanted


def test_before_the_first_step_nothing_may_be_spent() -> None:
    times = SampleTimes(None, 100)
    times.begin()
    assert not times.is_due(0, 10)
