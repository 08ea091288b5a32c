"""A run's results out of its trainer: what a checkpoint holds of earlier steps, and what was seen of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lora_lab.config import TrainConfig
from lora_lab.evaluation.record import RunTimes, perplexity
from lora_lab.evaluation.results import RunResults, StepResult, ValidationResult
from lora_lab.train import StepDone, ValidationDone
from lora_lab.train.schedule import learning_rate

Paces = Mapping[int, tuple[float, float]]  # by step: tokens a second, milliseconds


class Seen:
    """What was seen of a run: when it began, how long it trained, and at which pace. Checkpoints carry `notes`."""

    def __init__(self, notes: Mapping[str, Any] | None = None) -> None:
        """`notes` are those of the checkpoint that the run goes on from."""
        before = notes or {}
        self.started_at = str(before.get("started_at") or now())
        self.training_s = float(before.get("training_s") or 0.0)
        self.paces: dict[int, tuple[float, float]] = {}

    def note(self, event: StepDone | ValidationDone) -> None:
        """Note what happened."""
        self.training_s += event.elapsed_ms / 1e3
        if isinstance(event, StepDone):
            self.paces[event.step] = (event.tokens_per_s, event.elapsed_ms)

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"started_at": self.started_at, "training_s": self.training_s}

    def times(self) -> RunTimes:
        """Return the times of a run that ends now."""
        return RunTimes(self.started_at, now(), round(self.training_s, 3))


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
