"""Tokens one after another, drawn ahead of being read so that the GPU never waits for the host."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence

import numpy as np

from ..ops.step import StepValues
from .plans import DRAWN, GenerationPlans

READ_EVERY_S = 0.02  # about as often as a screen is drawn
MOST_AT_ONCE = 16  # tokens of one readback; two of those are in flight
AHEAD_BELOW_S = 0.02  # slower tokens are drawn one by one: there is nothing to hide, and a stop comes sooner


class TokenSource:
    """Draws the tokens of replies. It remembers how long one takes, which says how many are worth drawing ahead."""

    def __init__(self, plans: GenerationPlans) -> None:
        self.plans = plans
        self.token_s: float | None = None

    async def draw(
        self, prompt: Sequence[int], adapter_on: bool, values: StepValues, seen: np.ndarray, limit: int
    ) -> AsyncGenerator[int, None]:
        """Yield up to `limit` tokens that follow the cache's and `prompt`. The first waits for nothing but itself.

        The cache's list grows by the tokens that were yielded, but for the last: its row is not computed, or not
        counted on. `seen`: as for GenerationPlans.prefill.
        """
        plans, cache = self.plans, self.plans.cache
        await plans.prefill(list(prompt), adapter_on, values, seen)
        rows = len(cache.tokens)
        submitted, size, previous = 1, 1, -1
        in_flight: deque[tuple[Awaitable[bytes], int, int]] = deque([(plans.start_reading(), 0, 1)])
        finished = time.perf_counter()
        try:
            while True:
                fast = self.token_s is not None and self.token_s < AHEAD_BELOW_S
                while submitted < limit and len(in_flight) < (2 if fast else 1):
                    count = min(size if fast else 1, limit - submitted)
                    for number in range(submitted, submitted + count):
                        values.draw = number
                        await plans.decode(rows + number - 1, adapter_on, values)
                    in_flight.append((plans.start_reading(), submitted, count))
                    submitted += count
                    if fast and self.token_s:
                        size = min(2 * size, MOST_AT_ONCE, max(1, int(READ_EVERY_S / self.token_s)))
                if not in_flight:
                    return
                reading, first, count = in_flight.popleft()
                drawn = np.frombuffer(await reading, np.uint32)
                now = time.perf_counter()
                if first > 0:
                    self._learn((now - finished) / count)
                finished = now
                for number in range(first, first + count):
                    if number > 0:
                        cache.tokens.append(previous)
                    previous = int(drawn[number % DRAWN])
                    yield previous
        finally:
            for reading, _, _ in in_flight:
                await reading

    def _learn(self, elapsed_s: float) -> None:
        self.token_s = elapsed_s if self.token_s is None else 0.5 * (self.token_s + elapsed_s)
