"""The rows held back, measured: loss and token accuracy over their trained tokens, without a gradient."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..data.tokens.batches import Example
from ..data.tokens.packing import Layout
from ..ops.step import StepValues
from .plans import TrainPlans

# So many micro-batches are given to the GPU at once, or what it does in about that time; when a stop is asked for a
# validation may go on so long.
AT_ONCE, AT_ONCE_S, STOPPED_S = 16, 0.25, 10.0


def perplexity(loss: float) -> float:
    """Return e^loss: among how many equally likely tokens the model would be as unsure. Infinite where too large."""
    return math.exp(loss) if loss < 700 else math.inf if loss == loss else math.nan


@dataclass(frozen=True)
class Evaluated:
    """`loss` is the mean over `tokens` trained tokens; `accuracy` the share of them that the model held likeliest."""

    loss: float
    accuracy: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)


async def evaluate(
    plans: TrainPlans, layout: Layout, groups: Sequence[Sequence[Example]], stop_asked_s: Callable[[], float]
) -> Evaluated | None:
    """Measure these micro-batches. `stop_asked_s`: when a stop was asked for, by time.perf_counter; inf: it was not.

    None when it was given up, because a stop was asked for and it goes on for long.
    """
    total = sum(example.trained_tokens for group in groups for example in group)
    device, values = plans.device, StepValues()
    plans.begin_evaluation()
    begun = since = time.perf_counter()
    at_once, waiting = 1, 0
    for group in groups:
        await plans.forward(layout.make_batch(group), False, values, total)
        waiting += 1
        if waiting < at_once:
            continue
        await device.finished()
        await asyncio.sleep(0)  # let a stop in
        now = time.perf_counter()
        if now - max(begun, stop_asked_s()) > STOPPED_S:
            return None
        per_batch_s = max(1e-6, (now - since) / waiting)
        at_once = max(1, min(AT_ONCE, int(AT_ONCE_S / per_batch_s)))
        since, waiting = now, 0
    loss, hits = await plans.read_evaluation()
    return Evaluated(loss, hits / max(1, total), total)
