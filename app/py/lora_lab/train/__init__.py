"""Training: batches in, events out. Knows nothing of pages or files."""

from __future__ import annotations

from .checkpoint import Checkpoint, CheckpointTimes, RunState
from .evaluate import Evaluated
from .events import CheckpointTaken, MemoryReport, SampleAnswered, SamplesDue, StepDone, TrainEvent, ValidationDone
from .history import Best, History, ValidationPoint
from .plans import TrainPlans
from .sample_times import SampleTimes
from .trainer import Trainer
from .trial import RunTime, measure_run

__all__ = [
    "Best",
    "Checkpoint",
    "CheckpointTaken",
    "CheckpointTimes",
    "Evaluated",
    "History",
    "MemoryReport",
    "RunState",
    "RunTime",
    "SampleAnswered",
    "SampleTimes",
    "SamplesDue",
    "StepDone",
    "TrainEvent",
    "TrainPlans",
    "Trainer",
    "ValidationDone",
    "ValidationPoint",
    "measure_run",
]
