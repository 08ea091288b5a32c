"""A run's results out of its trainer: what a checkpoint holds of earlier steps, and what was seen of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lora_lab.config import TrainConfig
from lora_lab.evaluation.record import perplexity
from lora_lab.evaluation.results import RunResults, StepResult, ValidationResult
from lora_lab.train.schedule import learning_rate

Paces = Mapping[int, tuple[float, float]]  # by step: tokens a second, milliseconds


def run_results(
    losses: Sequence[float], validation: Iterable[tuple[int, float]], config: TrainConfig, total_steps: int,
    paces: Paces,
) -> RunResults:  # fmt: skip
    """Return the results of a run; `losses` are loss and gradient norm of each step, one after the other.

    `paces` are those of the steps that were seen.
    """
    steps = []
    for place in range(len(losses) // 2):
        tokens_per_s, elapsed_ms = paces.get(place + 1, (None, None))
        rate = learning_rate(place, total_steps, config)
        steps.append(StepResult(place + 1, losses[2 * place], losses[2 * place + 1], rate, tokens_per_s, elapsed_ms))
    measured = tuple(ValidationResult(step, loss, perplexity(loss), None) for step, loss in validation)
    best = min(measured, key=lambda one: one.loss).step if measured else None
    return RunResults(tuple(steps), measured, (), best_step=best, kept_step=len(steps))
