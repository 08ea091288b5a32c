"""Which step was the best, when it is no use to go on, and which adapter is given out."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from lora_lab.errors import DivergedError
from lora_lab.train import Best, History, ValidationPoint
from lora_lab.train.evaluate import perplexity

NAN = math.nan


def history(*losses: float, start: float | None = None, best: bool = True) -> History:
    """Validations after steps 10, 20, …; `start` before the first."""
    made = History()
    if start is not None:
        made.points.append(ValidationPoint(0, start, 0.0))
    for number, loss in enumerate(losses, 1):
        made.points.append(ValidationPoint(10 * number, loss, 0.0))
        if best and made.newest_is_lowest():
            made.best = Best(10 * number, loss, {"a": np.ones(1, np.float32)})
    return made


@pytest.mark.parametrize(
    ("losses", "step"),
    [((3.0, 2.0, 2.5), 20), ((3.0, 2.0, 2.0), 20), ((3.0,), 10), ((NAN, 3.0, NAN), 20), ((NAN, NAN), None), ((), None)],
)
def test_the_best_is_the_first_of_the_lowest(losses: tuple[float, ...], step: int | None) -> None:
    found = history(*losses).best
    assert (found.step if found else None) == step


def test_before_the_first_step_there_is_nothing_to_keep() -> None:
    found = history(3.0, 2.9, start=1.0)
    assert found.best is not None and found.best.step == 20


@pytest.mark.parametrize(
    ("made", "good_until", "wanted"),
    [
        (history(3.0, 2.9, start=3.1), 20, True),
        (history(3.0, 2.9, start=3.1), 19, False),  # it had fallen apart by then
        (history(3.0, 2.9, start=1.0), 40, False),  # the model itself is better
        (history(3.0), 40, True),  # what is not known is not held against it
        (history(3.0, start=NAN), 40, True),
        (history(), 40, False),
    ],
)
def test_the_best_may_outlive_a_run_that_falls_apart(made: History, good_until: int, wanted: bool) -> None:
    assert made.outlives(DivergedError("gone", False, good_until)) is wanted


@pytest.mark.parametrize(
    ("losses", "over_at"),
    [
        ((3.0, 2.0, 2.5, 2.4, 2.3), {1: 3, 2: 4, 3: 5}),
        ((3.0, 2.0, 2.0, 1.0, 1.5), {1: 3, 2: None}),
        ((3.0, NAN, NAN, 2.0), {1: 2, 2: 3, 3: None}),
        ((NAN, NAN), {1: 1, 2: 2}),
        ((5.0, 4.0, 3.0, 2.0), {1: None}),
    ],
)
def test_patience_counts_what_did_not_fall(losses: tuple[float, ...], over_at: dict[int, int | None]) -> None:
    for patience, wanted in over_at.items():
        ends = (n for n in range(1, len(losses) + 1) if history(*losses[:n], start=0.1).is_over(patience))
        assert next(ends, None) == wanted
    assert not history(*losses).is_over(0), "0 is off"


@pytest.mark.parametrize(
    ("keep", "steps_done", "final", "wanted"),
    [
        ("best", 30, None, "best"),
        ("last", 30, None, "last"),
        ("best", 20, None, "last"),  # the best is the last
        ("best", 33, ValidationPoint(33, 1.9), "last"),  # a stop has measured that it is better still
        ("best", 33, ValidationPoint(33, 2.1), "best"),
        ("best", 33, ValidationPoint(33, NAN), "best"),
        ("best", 40, ValidationPoint(33, 1.9), "best"),  # of another step: it says nothing of this one
    ],
)
def test_what_is_given_out(keep: str, steps_done: int, final: ValidationPoint | None, wanted: str) -> None:
    made = history(3.0, 2.0, 2.5)
    made.final = final
    assert made.kept(keep, steps_done) == wanted  # type: ignore[arg-type]
    assert history().kept(keep, steps_done) == "last", "nothing was validated"  # type: ignore[arg-type]


def test_from_a_checkpoint_without_a_best_only_what_is_lower_than_all_is_the_best() -> None:
    made = History()
    made.restore((ValidationPoint(10, 3.0), ValidationPoint(20, 2.0)), None)
    for step, loss, is_best in ((30, 2.5, False), (40, 1.9, True)):
        made.points.append(ValidationPoint(step, loss))
        assert made.newest_is_lowest() is is_best
    assert made.losses == [(10, 3.0), (20, 2.0), (30, 2.5), (40, 1.9)]


def test_perplexity() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(49_152)) == pytest.approx(49_152)
    assert perplexity(1e4) == math.inf and math.isnan(perplexity(NAN))
    assert all(a < b for a, b in pairwise(map(perplexity, (0.1, 1.0, 5.0, 699.0, 701.0))))
