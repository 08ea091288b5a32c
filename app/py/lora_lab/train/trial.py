"""A measured trial: how long a run will take on this device, from a few of its own steps on an adapter thrown away."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from dataclasses import dataclass

from .steps import PlannedStep
from .trainer import VALIDATIONS, Trainer

BUDGET_S = 1.2  # of measured steps, after those that warm up
SAMPLED_STEPS = 2000  # of the run, from its beginning, that the measured ones stand for
MEASURED = 4
ROUNDS = 3  # of the measured steps, where they are quick: the middle one counts, so a moment's hindrance does not


@dataclass(frozen=True)
class RunTime:
    """What a trial has found. `step_ms` is the mean over the run's steps, `validation_ms` that of one validation."""

    step_ms: float
    tokens_per_step: float  # that are no padding
    validation_ms: float
    measured_steps: int

    @property
    def tokens_per_s(self) -> float:
        return 1e3 * self.tokens_per_step / self.step_ms

    def total_ms(self, steps: int) -> float:
        """Return the time of a run of so many steps, with its validations, one of them before the first step."""
        every = max(1, steps // VALIDATIONS)
        return steps * self.step_ms + (1 + -(-steps // every)) * self.validation_ms


async def measure_run(trainer: Trainer) -> RunTime:
    """Train a few steps and return what the whole run would take. `trainer` is prepared; its adapter changes.

    The steps stand for the run's by their size: of the first SAMPLED_STEPS in order of the tokens that they compute,
    evenly spread ones are measured, one behind another as in a run, more than once where that is quick, and their time
    per computed token is taken for all. What would take longer than BUDGET_S is measured on fewer steps, of fewer
    micro-batches, of smaller shapes; at the least on one micro-batch.
    """
    sampled = trainer.first_steps(SAMPLED_STEPS)
    ordered = sorted(sampled, key=_computed)
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * MEASURED)] for i in range(min(MEASURED, len(ordered)))]
    warm = await _warm_up(trainer, chosen)
    largest = max(warm, key=lambda one: one.seconds)
    is_slow = largest.seconds > BUDGET_S
    if is_slow:  # the first use says enough: compiling is little beside it
        parts, step_s, rounds = [largest.step], largest.seconds, 1
    else:
        known = {one.step.shapes[0] for one in warm}
        whole = [step for step in chosen if known.issuperset(step.shapes)] or [largest.step]
        micros = max(1, min(trainer.config.accumulate, int(BUDGET_S / largest.seconds)))
        count = max(1, min(MEASURED, int(BUDGET_S / (largest.seconds * micros))))
        picked = whole if count >= len(whole) else whole[len(whole) // 2 :][:1] * count
        parts = [_part(step, micros) for step in picked]
        rounds = max(1, min(ROUNDS, int(BUDGET_S / (largest.seconds * micros * len(parts)))))
        step_s = statistics.median(await _time(trainer, parts, rounds))
    step_ms = 1e3 * step_s / sum(map(_computed, parts)) * statistics.mean(map(_computed, sampled))
    return RunTime(
        step_ms=step_ms,
        tokens_per_step=statistics.mean(step.tokens for step in sampled),
        validation_ms=await _validation_ms(trainer, is_slow),
        measured_steps=len(parts) * rounds,
    )


def _computed(step: PlannedStep) -> int:
    """Return the tokens that a step computes, padding among them."""
    return sum(batch * length for batch, length in step.shapes)


def _part(step: PlannedStep, micros: int) -> PlannedStep:
    """Return the first micro-batches of a step."""
    return PlannedStep(step.rows[:micros], step.shapes[:micros], step.tokens)


@dataclass(frozen=True)
class _Warm:
    """One micro-batch, as a step of its own, and what its first use took."""

    step: PlannedStep
    seconds: float


async def _warm_up(trainer: Trainer, steps: list[PlannedStep]) -> list[_Warm]:
    """Build and use once what the steps need, the smaller shapes first, until the budget is spent."""
    first_of = {shape: rows for step in steps for rows, shape in zip(step.rows, step.shapes, strict=True)}
    warm: list[_Warm] = []
    for shape in sorted(first_of, key=lambda shape: shape[0] * shape[1]):
        await trainer.plans.batch_plan(shape)
        begun = time.perf_counter()
        await trainer.train_step([trainer.make_batch(first_of[shape])], 0)
        step = PlannedStep([first_of[shape]], [shape], 0)
        warm.append(_Warm(step, max(1e-6, time.perf_counter() - begun)))
        if sum(one.seconds for one in warm) > BUDGET_S:
            break
    return warm


async def _time(trainer: Trainer, steps: list[PlannedStep], rounds: int) -> list[float]:
    """Return the seconds of each round of the steps, two of them in flight as in a run."""
    waiting: deque = deque()
    finished = [time.perf_counter()]  # of each step, and the beginning
    try:
        for index, step in enumerate(steps * rounds):
            waiting.append(await trainer.submit_step([trainer.make_batch(rows) for rows in step.rows], index))
            if len(waiting) > 1:
                await waiting.popleft().result()
                finished.append(time.perf_counter())
    finally:
        while waiting:
            await waiting.popleft().result()
            finished.append(time.perf_counter())
    ends = finished[:: len(steps)]
    return [end - begin for begin, end in itertools.pairwise(ends)]


async def _validation_ms(trainer: Trainer, is_slow: bool) -> float:
    """Return the milliseconds of a validation, from one of its micro-batches of the middle size; 0 without any."""
    if not trainer.validation:
        return 0.0
    groups = trainer.layout.groups(trainer.validation)
    sizes = [_area(trainer, group) for group in groups]
    middle = sorted(range(len(groups)), key=sizes.__getitem__)[len(groups) // 2]
    shape = trainer.layout.shape([example.input_length for example in groups[middle]])
    await trainer.plans.batch_plan(shape, False)
    if not is_slow:
        await trainer.validate([groups[middle]])
    begun = time.perf_counter()
    await trainer.validate([groups[middle]])
    return 1e3 * (time.perf_counter() - begun) * sum(sizes) / sizes[middle]


def _area(trainer: Trainer, group: list) -> int:
    batch, length = trainer.layout.shape([example.input_length for example in group])
    return batch * length
