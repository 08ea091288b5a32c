"""--log: a JSON line for each step, validation and answer of a run, also one that is gone on with; one at its end."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_lab.cli.files import naming
from lora_lab.evaluation.results import RunResults
from lora_lab.formats.json_reader import read_json
from lora_lab.train import SampleAnswered, StepDone, ValidationDone


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

    def write(self, event: StepDone | ValidationDone | SampleAnswered) -> None:
        """Write down what happened. Raises OSError naming the file."""
        self._write_line(_values(event))

    def write_end(self, results: RunResults, sample_share: float) -> None:
        """Write down how the run has ended: which step is kept, and what is wrong with it, if something is."""
        verdict = None if results.verdict is None else asdict(results.verdict)
        self._write_line({
            "step": len(results.steps), "kept": results.kept, "kept_step": results.kept_step,
            "best_step": results.best_step, "stopped_early": results.stopped_early, "verdict": verdict,
            "sample_share": sample_share,
        })  # fmt: skip

    def _write_line(self, values: dict[str, Any]) -> None:
        with naming(self.path):
            self._file.write(json.dumps(_as_json(values), allow_nan=False) + "\n")
            self._file.flush()


def _as_json(value: Any) -> Any:
    """Return a value without numbers that are none, for which JSON has no word."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(event: StepDone | ValidationDone | SampleAnswered) -> dict[str, Any]:
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
    if isinstance(event, SampleAnswered):
        return {"step": event.step, "prompt": event.prompt, "expected": event.expected, "answer": event.text}
    # Another name than `loss`, which only steps have.
    return {
        "step": event.step,
        "validation_loss": event.loss,
        "perplexity": event.perplexity,
        "accuracy": event.accuracy,
        "elapsed_ms": event.elapsed_ms,
    }
