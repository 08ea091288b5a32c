"""How long steps take where the next one is prepared while the GPU works on the one before."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

WINDOW = 20  # steps that a rate and the remaining time are reckoned from


class StepTimes:
    """Shares the time of a run out among its steps, so that their times add up to it.

    The time between two results is not that of a step: what was prepared beside another one would seem to take none.
    So whatever passes counts for one step, to whose giving or whose result it led.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._mark_s = clock()
        self._spent_s: dict[int, float] = {}  # of the steps that are not done yet
        self._recent: deque[tuple[float, int]] = deque(maxlen=WINDOW)  # milliseconds and tokens

    def skip(self) -> float:
        """Leave out what has passed since the last call of anything here, which is no step's; return its seconds."""
        since, self._mark_s = self._mark_s, self._clock()
        return self._mark_s - since

    def spend(self, step: int) -> None:
        """Count what has passed since then for a step."""
        self._spent_s[step] = self._spent_s.get(step, 0.0) + self.skip()

    def done(self, step: int, tokens: int) -> float:
        """Count what has passed since then for a step whose result is there; return all its milliseconds."""
        self.spend(step)
        elapsed_ms = self._spent_s.pop(step) * 1e3
        self._recent.append((elapsed_ms, tokens))
        return elapsed_ms

    @property
    def last_ms(self) -> float | None:
        """The last step's; None before the first is done."""
        return self._recent[-1][0] if self._recent else None

    @property
    def tokens_per_s(self) -> float:
        """Of the last WINDOW steps together."""
        elapsed_ms = sum(ms for ms, _ in self._recent)
        return sum(tokens for _, tokens in self._recent) / max(elapsed_ms, 1e-6) * 1e3

    def eta_ms(self, steps: int) -> float:
        """Return how long so many more steps will take, by the last WINDOW."""
        return statistics.median(ms for ms, _ in self._recent) * steps if self._recent else 0.0
