"""--log: a JSON line for each step and each validation of a run, also of one that is gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_lab.cli.files import naming
from lora_lab.formats.json_reader import read_json
from lora_lab.train import StepDone, ValidationDone


class RunLog:
    """The file. Its lines are there as soon as they are written."""

    def __init__(self, path: Path, goes_on: bool) -> None:
        """`goes_on`: what is in the file stays, until `go_on_after` says how much of it."""
        self.path = path
        self._file = path.open("a" if goes_on else "w", encoding="utf-8")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def go_on_after(self, step: int) -> None:
        """Take away the lines of later steps, which are done again, and a last line that was cut off."""
        kept_bytes = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                if not line.endswith(b"\n") or read_json(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept_bytes += len(line)
        self._file.truncate(kept_bytes)

    def write(self, event: StepDone | ValidationDone) -> None:
        """Write down what happened. Raises OSError naming the file."""
        with naming(self.path):
            self._file.write(json.dumps(_values(event)) + "\n")
            self._file.flush()


def _values(event: StepDone | ValidationDone) -> dict[str, Any]:
    if isinstance(event, StepDone):
        return {
            "step": event.step,
            "loss": event.loss,
            "grad_norm": event.grad_norm,
            "lr": event.learning_rate,
            "trained_tokens": event.trained_tokens,
            "tokens_per_s": event.tokens_per_s,
            "elapsed_ms": event.elapsed_ms,
        }
    # Another name than `loss`, which only steps have.
    return {"step": event.step, "validation_loss": event.loss, "elapsed_ms": event.elapsed_ms}
