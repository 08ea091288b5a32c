"""What a run's validations have found, which of its steps was the best, and whether it is worth going on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import DivergedError

Matrices = dict[str, np.ndarray]
Which = Literal["best", "last"]


@dataclass(frozen=True)
class ValidationPoint:
    """Loss and accuracy of the rows held back after `step` steps, 0 before the first.

    `accuracy` None: the run goes on from a checkpoint of an older version, which has none.
    """

    step: int
    loss: float
    accuracy: float | None = None


@dataclass(frozen=True)
class Best:
    """The adapter after the step whose validation loss is the lowest, by PEFT's key."""

    step: int
    loss: float
    adapter: Matrices


class History:
    """The validations that belong to a run, in order; what a stop measures besides is `final`."""

    def __init__(self) -> None:
        self.points: list[ValidationPoint] = []
        self.best: Best | None = None
        self.final: ValidationPoint | None = None

    def restore(self, points: tuple[ValidationPoint, ...], best: Best | None) -> None:
        """Go on from there. Without a `best` those steps are remembered, and their adapters gone."""
        self.points, self.best, self.final = list(points), best, None

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of each."""
        return [(point.step, point.loss) for point in self.points]

    @property
    def _trained(self) -> list[ValidationPoint]:
        """Those after a step: before the first there is nothing to keep."""
        return [point for point in self.points if point.step > 0]

    @property
    def lowest(self) -> ValidationPoint | None:
        """The first with the lowest loss; None where no loss is a number."""
        return min((p for p in self._trained if p.loss == p.loss), key=lambda point: point.loss, default=None)

    def newest_is_lowest(self) -> bool:
        """Whether the last validation is the best one so far."""
        return bool(self.points) and self.lowest is self.points[-1]

    def is_over(self, patience: int) -> bool:
        """Whether the loss has not fallen below the lowest for `patience` validations, one after the other; 0: never.

        A loss that is no number has not fallen.
        """
        if patience < 1:
            return False
        lowest, since = float("inf"), 0
        for point in self._trained:
            since = 0 if point.loss < lowest else since + 1
            lowest = min(lowest, point.loss) if point.loss == point.loss else lowest
        return since >= patience

    def kept(self, keep: Which, steps_done: int) -> Which:
        """Return which adapter a run that has come to `steps_done` gives out, where `keep` is asked for."""
        best, final = self.best, self.final
        if keep == "last" or best is None or best.step >= steps_done:
            return "last"
        return "last" if final is not None and final.step == steps_done and final.loss <= best.loss else "best"

    def outlives(self, error: DivergedError) -> bool:
        """Whether the best is of use where the run has fallen apart: of before that, and better than the beginning.

        Taken for better where that was not measured.
        """
        if self.best is None or self.best.step > error.good_until:
            return False
        first = self.points[0] if self.points and self.points[0].step == 0 else None
        return first is None or not first.loss <= self.best.loss
