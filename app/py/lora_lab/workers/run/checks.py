"""What stands against a run, found before anything is allocated for it."""

from __future__ import annotations

from collections.abc import Sequence

from lora_lab.errors import LoraLabError
from lora_lab.workers.dataset.opened import Split
from lora_lab.workers.protocol import FieldProblem


def refuse(problems: Sequence[FieldProblem]) -> None:
    """Raise LoraLabError with all of the problems, if there are any."""
    if problems:
        raise LoraLabError("; ".join(f"{problem.field}: {problem.message}" for problem in problems))


def nothing_to_do(split: Split) -> FieldProblem | None:
    """Return why there is nothing to train on, or nothing to validate on in a file that is there for it."""
    if not len(split.trained):
        return FieldProblem("max_length", "No row has anything left to train on at this length.")
    if split.needs_held and not len(split.held):
        return FieldProblem("max_length", "No row of the validation file has anything left to measure at this length.")
    return None
