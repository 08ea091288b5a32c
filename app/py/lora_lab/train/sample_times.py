"""When a run is held up to see what its model answers: every so many steps, or as often as SHARE of its time allows."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.05  # of a run's time that samples may cost
FIRST_S = 0.5  # what their plans are taken to cost, until that was measured
TOKEN_S = 0.004  # what a token costs at the least, until that was measured
OF_A_STEP = 1 / 3  # of what a step takes for a token of its own, which goes forward once and back twice


class SampleTimes:
    """`every_steps` None: by time; 0: never; else at its multiples, before the first step and after the last one."""

    def __init__(
        self, every_steps: int | None, tokens: int = 0, clock: Callable[[], float] = time.perf_counter
    ) -> None:  # fmt: skip
        """`tokens` are as many as one sampling computes at most."""
        self.every_steps, self._tokens, self._clock = every_steps, tokens, clock
        self._cost_s: float | None = None  # of the next one, once one was measured
        self._token_s = 0.0  # of a step, for each token that it computes
        self.spent_s = self.once_s = 0.0
        self._begun = self._last = 0.0
        self.last_step: int | None = None

    def begin(self) -> None:
        """The run begins, or goes on."""
        self._begun = self._last = self._clock()

    def step_took(self, elapsed_s: float, tokens: int) -> None:
        """A step of so many tokens took so long."""
        self._token_s = elapsed_s / max(1, tokens)

    @property
    def allowed_s(self) -> float:
        """The time that may be spent by now, less what was."""
        return SHARE * (self._clock() - self._begun) - self.spent_s

    @property
    def cost_s(self) -> float:
        """What the next one is taken to cost."""
        if self._cost_s is not None:
            return self._cost_s
        return FIRST_S + self._tokens * max(TOKEN_S, OF_A_STEP * self._token_s)

    def is_due(self, step: int, total_steps: int) -> bool:
        """Whether the model should be asked after `step` steps."""
        if step == self.last_step or self.every_steps == 0:
            return False
        if self.every_steps is not None:
            return step % self.every_steps == 0 or step == total_steps
        # Evenly, and not one after another where the first has cost less than was thought.
        is_early = self._clock() - self._last < self.cost_s / SHARE
        return step > 0 and not is_early and self.allowed_s >= self.cost_s

    def taken(self, step: int, cost_s: float) -> None:
        """It was asked after `step` steps; that held up the run for `cost_s`, `once_s` of it the first time only."""
        self.last_step, self._last = step, self._clock()
        self.spent_s += cost_s
        self._cost_s = max(0.0, cost_s - self.once_s)
        self.once_s = 0.0
