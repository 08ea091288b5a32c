"""What a model card says of the run that made an adapter. All of it is optional.

The run's own record, lora-lab-run.json, is made and read by evaluation/record.py; here it is a file that goes along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RUN_FILE = "lora-lab-run.json"


@dataclass(frozen=True)
class RunFacts:
    """A run: on which rows, with which settings, and what came of it.

    `data` are files by name and sha256, "" where that is not known; `steps` and the losses are of the adapter that
    was kept. `record` is the content of lora-lab-run.json, empty where there is none.
    """

    program: str = ""  # and its version
    data: tuple[tuple[str, str], ...] = ()
    rows: int | None = None
    held_rows: int | None = None
    steps: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    first_loss: float | None = None
    last_loss: float | None = None
    held_loss: float | None = None
    record: bytes = field(default=b"", repr=False)
