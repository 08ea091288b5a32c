"""When a run began and how long it trained, over all its sittings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from lora_lab.evaluation.record import RunTimes
from lora_lab.train import StepDone, ValidationDone


class Seen:
    """When a run began, and how long it trained. Checkpoints carry `notes`."""

    def __init__(self, notes: Mapping[str, Any] | None = None) -> None:
        """`notes` are those of the checkpoint that the run goes on from."""
        before = notes or {}
        started_at, training_s = before.get("started_at"), before.get("training_s")
        self.started_at = started_at if _is_moment(started_at) else now()
        self.training_s = training_s if isinstance(training_s, float) and 0 <= training_s < math.inf else 0.0

    def note(self, event: StepDone | ValidationDone) -> None:
        """Note what happened."""
        self.training_s += event.elapsed_ms / 1e3

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"started_at": self.started_at, "training_s": self.training_s}

    def times(self) -> RunTimes:
        """Return the times of a run that ends now."""
        return RunTimes(self.started_at, now(), round(self.training_s, 3))


def _is_moment(text: Any) -> TypeGuard[str]:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
