"""What a trial tells where the device is hindered for a moment: by a clock that only the steps move."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.train import measure_run, trial
from lora_lab.train.trainer import PlannedStep


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class FakeTrainer:
    """Every step takes `takes_s[i]`, i counted from the first measured one, then 20 ms; a warm one 50 ms."""

    def __init__(self, clock: Clock, takes_s: list[float]) -> None:
        self.clock, self.takes_s, self.measured = clock, takes_s, 0
        self.config, self.validation = SimpleNamespace(accumulate=1), ()
        self.plans = SimpleNamespace(batch_plan=self.build)

    async def build(self, shape: Any) -> None: ...

    def first_steps(self, count: int) -> list[PlannedStep]:
        return [PlannedStep([[0]], [(1, 64)], 50) for _ in range(min(count, 40))]

    def make_batch(self, rows: Any) -> None: ...

    async def train_step(self, batches: Any, step: int) -> None:
        self.clock.now_s += 0.05

    async def submit_step(self, batches: Any, step: int) -> SimpleNamespace:
        takes_s = self.takes_s[self.measured] if self.measured < len(self.takes_s) else 0.02
        self.measured += 1

        async def result() -> None:
            self.clock.now_s += takes_s

        return SimpleNamespace(result=result)


@pytest.mark.parametrize("hindered", [range(4), range(4, 8), range(2, 6)])
def test_a_moments_hindrance_does_not_count(hindered: range, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    trainer = FakeTrainer(clock, [0.2 if i in hindered else 0.02 for i in range(12)])
    timed = asyncio.run(measure_run(trainer))  # type: ignore[arg-type]
    assert timed.measured_steps == trainer.measured == 12
    spread = len({i // 4 for i in hindered}) > 1  # over two rounds of three
    assert (timed.step_ms == pytest.approx(20)) is not spread


def test_what_is_not_quick_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    monkeypatch.setattr(trial, "BUDGET_S", 0.39)  # four steps of 50 ms fit, eight do not
    trainer = FakeTrainer(clock, [])
    timed = asyncio.run(measure_run(trainer))  # type: ignore[arg-type]
    assert timed.measured_steps == trainer.measured == 4
    assert timed.step_ms == pytest.approx(20)
