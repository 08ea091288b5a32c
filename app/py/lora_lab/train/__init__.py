"""Training: batches in, events out. Knows nothing of pages or files."""

from __future__ import annotations

from .events import MemoryReport, StepDone, TrainEvent, ValidationDone
from .plans import TrainPlans
from .trainer import Trainer
from .trial import RunTime, measure_run

__all__ = [
    "MemoryReport",
    "RunTime",
    "StepDone",
    "TrainEvent",
    "TrainPlans",
    "Trainer",
    "ValidationDone",
    "measure_run",
]
