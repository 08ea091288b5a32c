"""When a run has fallen apart: its loss is no number any more, or no gradient is left to learn from."""

from __future__ import annotations

import math

from ..errors import DivergedError

DEAD_STEPS = 3  # without any gradient, one after the other; a single one may have rows that are known by heart
KNOWN_BY_HEART = 0.01  # a loss below which there may be nothing left to learn


class Divergence:
    """Looks at every step of a run."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._dead = 0  # steps without any gradient, up to now

    def check(self, step: int, loss: float, norm: float, learning_rate: float) -> None:
        """Look at a step's loss and gradient norm, 1 being the first. Raises DivergedError."""
        cure = f"The learning rate is {learning_rate:g}: try a tenth of it."
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(
                f"step {step}: the loss is {loss} and the gradient norm {norm}; training cannot go on. {cure} The "
                "adapter keeps the last good step.",
                has_good_step=step > 1,
                good_until=step - 1,
            )
        self._dead = self._dead + 1 if norm == 0 and loss > KNOWN_BY_HEART else 0
        if self._dead >= DEAD_STEPS or (self._dead and step == self._total_steps):
            first = step - self._dead + 1
            raise DivergedError(
                f"from step {first} on the gradient is 0 and the loss stays at {loss:.4g}: the model has fallen apart, "
                f"and nothing more can be learned. {cure} What the adapter holds is of no use.",
                has_good_step=False,
                good_until=max(0, first - 2),  # the one before had no gradient to give
            )
