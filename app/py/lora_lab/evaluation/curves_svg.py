"""The losses of a run as a picture: numbers to points and ticks of an SVG, which the report's template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lora_lab.evaluation.record import RunRecord

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 30
MOST_POINTS = 720  # a point a pixel


@dataclass(frozen=True)
class Tick:
    """A number at an axis and where it stands, in the picture's units."""

    place: float
    text: str


@dataclass(frozen=True)
class Picture:
    """A chart: the steps' losses and the validations' as `points` of SVG, the ticks, the step that was kept."""

    loss: str
    validation: str
    dots: tuple[tuple[float, float], ...]
    steps: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    kept_at: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def picture_of(record: RunRecord) -> Picture | None:
    """Return a run's chart; None where there are no two points to draw."""
    loss = list(zip(record.steps.step, record.steps.loss, strict=True))
    validation = list(zip(record.validation.step, record.validation.loss, strict=True))
    if len(loss) + len(validation) < 2:
        return None
    values = [value for _, value in (*loss, *validation)]
    first, last = 0, max(step for step, _ in (*loss, *validation))
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / max(1, last - first), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def points(curve: Sequence[tuple[int, float]]) -> str:
        every = -(-len(curve) // MOST_POINTS) if curve else 1
        kept = [one for place, one in enumerate(curve) if place % every == 0 or place == len(curve) - 1]
        return " ".join(f"{x(step)},{y(value)}" for step, value in kept)

    kept = record.outcome.kept_step
    return Picture(
        loss=points(loss),
        validation=points(validation),
        dots=tuple((x(step), y(value)) for step, value in validation[-60:]),
        steps=tuple(Tick(x(one), f"{one:,.0f}") for one in ticks(first, last) if one == int(one)),
        losses=tuple(Tick(y(one), f"{one:g}") for one in ticks(low, high)),
        kept_at=x(kept) if validation and 0 < kept <= last else None,
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`, about so many."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
