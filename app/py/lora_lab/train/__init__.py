"""Training: batches in, events out. Knows nothing of pages or files."""

from __future__ import annotations

from .events import MemoryReport, StepDone, TrainEvent, ValidationDone
from .trainer import Trainer

__all__ = ["MemoryReport", "StepDone", "TrainEvent", "Trainer", "ValidationDone"]
