"""A step that is planned, and one that the GPU is at work on."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import numpy as np

from ..data.tokens.packing import Shape
from .plans import SLOTS


@dataclass(frozen=True)
class PlannedStep:
    """A step to come: the row numbers of its micro-batches, their shapes, and its tokens that are no padding."""

    rows: list[list[int]]
    shapes: list[Shape]
    tokens: int


@dataclass(frozen=True)
class StepInFlight:
    """A step that the GPU has been given; what it was made of, and where its loss will come from."""

    index: int
    learning_rate: float
    trained_tokens: int
    tokens: int
    reading: Awaitable[bytes]

    async def result(self) -> tuple[float, float]:
        """Wait for the step; return its loss and gradient norm."""
        ring = np.frombuffer(await self.reading, np.float32)
        at = 2 * (self.index % SLOTS)
        return float(ring[at]), float(ring[at + 1])
