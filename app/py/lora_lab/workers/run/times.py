"""How long runs take, as far as it was measured with the model that is open."""

from __future__ import annotations

from dataclasses import replace

from lora_lab.data.tokens.examples import input_lengths
from lora_lab.train import RunTime
from lora_lab.workers.dataset.opened import Split
from lora_lab.workers.protocol import TrainingTimed, TrainSettings

# Settings that change what is learned, and not how long that takes.
TIMELESS = {"steps": 1, "learning_rate": 1.0, "alpha": 1.0, "schedule": "", "warmup_steps": None, "weight_decay": 0.0,
            "max_grad_norm": 0.0, "checkpoint_every": None, "sample_every": None, "keep": "", "patience": 0,
            "neutral": "auto"}  # fmt: skip


class RunTimes:
    """The times that were measured, each kept for all runs that take as long."""

    def __init__(self) -> None:
        self._known: dict[tuple, RunTime] = {}

    def get(self, settings: TrainSettings, split: Split) -> RunTime | None:
        """Return what was measured for such a run; None if nothing was."""
        return self._known.get(_key(settings, split))

    def keep(self, settings: TrainSettings, split: Split, timed: RunTime) -> None:
        """Keep what was measured."""
        self._known[_key(settings, split)] = timed

    def forget(self) -> None:
        """Another model is opened: what was measured was the last one's."""
        self._known.clear()


def _key(settings: TrainSettings, split: Split) -> tuple:
    """Return what decides how long a step takes: the settings that matter, and the rows by their lengths."""
    rows = tuple(input_lengths(examples).tobytes() for examples in (split.trained, split.held))
    return replace(settings, **TIMELESS), hash(rows)  # type: ignore[arg-type]


def as_event(request: int, settings: TrainSettings, timed: RunTime) -> TrainingTimed:
    """Return the answer to a question for a run's time."""
    return TrainingTimed(
        request, timed.step_ms, timed.total_ms(settings.steps), timed.tokens_per_s, timed.measured_steps
    )
