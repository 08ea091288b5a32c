"""A run's time is shared out among steps of which two are under way at once."""

from __future__ import annotations

import pytest

from lora_lab.train.step_times import WINDOW, StepTimes


class Clock:
    """Tells the seconds that it was set to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_steps_of_a_run_add_up_to_its_time_and_none_is_told_too_short() -> None:
    """Steps of which each takes 5 ms to give to the GPU, which has it done by then: the host is the slow one."""
    clock = Clock()
    times = StepTimes(clock)
    told: list[float] = []
    between_results: list[float] = []  # what was told once: the control
    last = clock.now

    def give(step: int) -> None:
        clock.now += 5e-3
        times.spend(step)

    def result(step: int) -> None:
        nonlocal last
        clock.now += 1e-4
        told.append(times.done(step, 10))
        between_results.append((clock.now - last) * 1e3)
        last = clock.now

    give(0)
    for step in range(1, 6):
        give(step)
        result(step - 1)
    result(5)  # before a validation nothing else is given to the GPU
    clock.now += 3.0
    assert times.skip() == pytest.approx(3.0)
    assert told == pytest.approx([5.1] * 6)
    assert sum(told) == pytest.approx((clock.now - 3.0 - 100.0) * 1e3)
    assert min(between_results) == pytest.approx(0.1)
    give(6)
    result(6)
    assert told[-1] == pytest.approx(5.1)  # not the validation's time


def test_where_the_gpu_is_the_slow_one_its_time_counts() -> None:
    clock = Clock()
    times = StepTimes(clock)
    clock.now += 1e-3
    times.spend(0)
    told = []
    for step in range(1, 30):
        clock.now += 1e-3
        times.spend(step)
        clock.now += 19e-3
        told.append(times.done(step - 1, 200))
    assert told == pytest.approx([20.0] * 29)
    assert times.tokens_per_s == pytest.approx(10_000)
    assert times.last_ms == pytest.approx(20)
    assert times.eta_ms(50) == pytest.approx(1000)


def test_a_rate_is_that_of_the_last_steps_together() -> None:
    clock = Clock()
    times = StepTimes(clock)
    assert times.last_ms is None and times.eta_ms(9) == 0
    for step in range(WINDOW):
        clock.now += 1.0
        times.done(step, 0)
    assert times.tokens_per_s == 0
    clock.now += 1.0
    times.done(WINDOW, 500)  # one row of many tokens among short ones
    assert times.tokens_per_s == pytest.approx(500 / WINDOW)
