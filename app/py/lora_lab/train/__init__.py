"""Training: batches in, events out. Knows nothing of pages or files."""

from __future__ import annotations

from .checkpoint import Checkpoint, CheckpointTimes, RunState
from .events import CheckpointTaken, MemoryReport, StepDone, TrainEvent, ValidationDone
from .plans import TrainPlans
from .trainer import Trainer
from .trial import RunTime, measure_run

__all__ = [
    "Checkpoint",
    "CheckpointTaken",
    "CheckpointTimes",
    "MemoryReport",
    "RunState",
    "RunTime",
    "StepDone",
    "TrainEvent",
    "TrainPlans",
    "Trainer",
    "ValidationDone",
    "measure_run",
]
