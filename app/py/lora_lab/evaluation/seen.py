"""When a run began and how long it trained, over all its sittings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lora_lab.evaluation.record import RunTimes
from lora_lab.train import StepDone, ValidationDone


class Seen:
    """When a run began, and how long it trained. Checkpoints carry `notes`."""

    def __init__(self, notes: Mapping[str, Any] | None = None) -> None:
        """`notes` are those of the checkpoint that the run goes on from."""
        before = notes or {}
        self.started_at = str(before.get("started_at") or now())
        self.training_s = float(before.get("training_s") or 0.0)

    def note(self, event: StepDone | ValidationDone) -> None:
        """Note what happened."""
        self.training_s += event.elapsed_ms / 1e3

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"started_at": self.started_at, "training_s": self.training_s}

    def times(self) -> RunTimes:
        """Return the times of a run that ends now."""
        return RunTimes(self.started_at, now(), round(self.training_s, 3))


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
