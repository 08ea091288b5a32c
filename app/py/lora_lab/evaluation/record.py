"""A run's record, `lora-lab-run.json`: what was trained on what, how, what came of it, and in what time.

It lies beside the adapter, goes where the adapter goes, and comes back with it. Whoever reads one may have got it from
anybody.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from lora_lab.errors import LoraLabError
from lora_lab.evaluation.closed import ClosedError, from_plain, to_plain
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.results import (
    Kept,
    RunResults,
    SampleResult,
    StepResult,
    ValidationResult,
    Verdict,
)
from lora_lab.evaluation.settings_values import checked
from lora_lab.formats.json_reader import read_json
from lora_lab.formats.peft import RUN_FILE
from lora_lab.train.evaluate import perplexity

FORM = 1
MAX_FILE_BYTES = 8 << 20
MAX_POINTS = 5_000  # of a curve; of a longer run every second step is kept, or every third, …
Stopped = Literal["end", "by hand", "early", "failed"]


class RecordError(LoraLabError):
    """A record cannot be used: damaged, too large, of another form. The message says what is wrong with it."""


@dataclass(frozen=True)
class ModelFacts:
    """The model. `hub_id` is OWNER/NAME on the hub, "" where it is not known; `hash` is `model_fingerprint`'s.

    `source` is what the command line calls it: "" for the built-in one, hf:OWNER/NAME, else a file's or folder's name.
    """

    title: str
    hub_id: str
    hash: str
    source: str = ""


@dataclass(frozen=True)
class DataFile:
    """A file of rows, with the sha256 of its bytes; "" where it is not known."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class DataFacts:
    """The rows. `tokens` and `trained_tokens` are those of one pass, `mixed_rows` the everyday ones among `rows`.

    `validation_files`: of a file of its own; then no rows were held back. The rest is how the rows were read.
    """

    name: str
    files: tuple[DataFile, ...]
    rows: int
    held_rows: int
    mixed_rows: int
    tokens: int
    trained_tokens: int
    validation_files: tuple[DataFile, ...] = ()
    mapping: str = ""
    encoding: str = ""
    template: str = ""  # the name of the file that the chat template came from
    repaired: bool = False
    without_bad_rows: bool = False

    @property
    def sha256(self) -> str:
        """The hash of the bytes; of several files their hashes, one behind the other. "" where it is not known."""
        return " ".join(one.sha256 for one in self.files)


@dataclass(frozen=True)
class Machine:
    """What computed the run."""

    device: str
    backend: str
    host: Literal["native", "browser", ""]


@dataclass(frozen=True)
class RunTimes:
    """When the run was begun and ended, in ISO 8601, UTC; `training_s` are its steps and validations alone."""

    started_at: str
    ended_at: str
    training_s: float


@dataclass(frozen=True)
class Outcome:
    """How the run ended, and which of its adapters was kept: see RunResults. `error` is what ended it, if that did."""

    steps: int
    total_steps: int
    stopped: Stopped = "end"
    kept: Kept = "last"
    kept_step: int = 0
    best_step: int | None = None
    verdict: Verdict | None = None
    error: str = ""


@dataclass(frozen=True)
class StepColumns:
    """The steps, by column; `every`: of a long run only every so manieth, and the last."""

    step: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    grad_norm: tuple[float | None, ...] = ()
    learning_rate: tuple[float | None, ...] = ()
    tokens_per_s: tuple[float | None, ...] = ()
    elapsed_ms: tuple[float | None, ...] = ()
    every: int = 1


@dataclass(frozen=True)
class ValidationColumns:
    """The validations, by column; step 0 is before the first."""

    step: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    accuracy: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class AnswerPair:
    """A prompt answered by the model as it was, and as it is with the adapter."""

    prompt: str
    expected: str | None
    before: str
    after: str


@dataclass(frozen=True)
class RunRecord:
    """A run. `settings` are by the names of settings_values.py, as they were used. `name` is the adapter's.

    `begun_from` is the name of the adapter that it went on from, "" for a new one.
    """

    program: str
    name: str
    model: ModelFacts
    data: DataFacts
    machine: Machine
    time: RunTimes
    settings: dict[str, Any]
    outcome: Outcome
    steps: StepColumns = field(default_factory=StepColumns)
    validation: ValidationColumns = field(default_factory=ValidationColumns)
    samples: tuple[SampleResult, ...] = ()
    answers: tuple[AnswerPair, ...] = ()
    neutral: Neutral | None = None
    begun_from: str = ""

    @property
    def validations(self) -> tuple[ValidationResult, ...]:
        """The validations, one by one."""
        columns = (self.validation.step, self.validation.loss, self.validation.accuracy)
        return tuple(
            ValidationResult(step, loss, perplexity(loss), accuracy)
            for step, loss, accuracy in zip(*columns, strict=True)
        )

    @property
    def validation_kept(self) -> ValidationResult | None:
        """The validation of the adapter that was kept: the last one up to its step."""
        found = [one for one in self.validations if 0 < one.step <= self.outcome.kept_step]
        return found[-1] if found else None

    @property
    def validation_before(self) -> ValidationResult | None:
        """The one before the first step; without it the first there is, unless that is the kept one's."""
        first = self.validations[0] if self.validations else None
        return None if first is None or first == self.validation_kept else first


def step_columns(steps: Sequence[StepResult]) -> StepColumns:
    """Return steps by column, thinned where there are too many."""
    every = -(-len(steps) // MAX_POINTS) if steps else 1
    kept = [one for place, one in enumerate(steps) if place % every == 0 or place == len(steps) - 1]
    return StepColumns(
        tuple(one.step for one in kept), tuple(_short(one.loss) for one in kept),
        tuple(_or_none(one.grad_norm) for one in kept), tuple(_or_none(one.learning_rate) for one in kept),
        tuple(_or_none(one.tokens_per_s) for one in kept), tuple(_or_none(one.elapsed_ms) for one in kept), every,
    )  # fmt: skip


def validation_columns(validations: Sequence[ValidationResult]) -> ValidationColumns:
    """Return validations by column."""
    kept = [one for one in validations if math.isfinite(one.loss)][-MAX_POINTS:]
    return ValidationColumns(
        tuple(one.step for one in kept), tuple(_short(one.loss) for one in kept),
        tuple(_or_none(one.accuracy) for one in kept),
    )  # fmt: skip


def with_results(record: RunRecord, results: RunResults) -> RunRecord:
    """Return the record with what the run has shown in it."""
    outcome = replace(
        record.outcome, kept=results.kept, kept_step=results.kept_step or record.outcome.steps,
        best_step=results.best_step, verdict=results.verdict,
        stopped="early" if results.stopped_early else record.outcome.stopped,
    )  # fmt: skip
    return replace(
        record, outcome=outcome, steps=step_columns(results.steps), validation=validation_columns(results.validation),
        samples=results.samples,
    )  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.8g}")  # float32 has 7 digits


def _or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else _short(value)


# ---------------------------------------------------------------------------------------------------- the file


def record_bytes(record: RunRecord) -> bytes:
    """Return the file."""
    about = {"form": FORM, **to_plain(record)}
    return (json.dumps(about, ensure_ascii=False, indent=1) + "\n").encode()


def read_record(data: bytes, name: str = RUN_FILE) -> RunRecord:
    """Return the record that a file holds. RecordError says what is wrong with it; `name` is the file's."""
    if len(data) > MAX_FILE_BYTES:
        raise RecordError(f"{name} has {len(data):,} bytes; a run's record has at most {MAX_FILE_BYTES:,}")
    try:
        about = read_json(data)
        if not isinstance(about, dict) or "form" not in about:
            raise ClosedError('it is no run\'s record; wanted an object with "form"')
        form = about.pop("form")
        if form is True or form != FORM:
            raise ClosedError(f"it is of form {form!r:.40}; this version reads form {FORM}")
        settings = about.get("settings")
        record: RunRecord = from_plain(RunRecord, {**about, "settings": {}}, "the record")
        if not isinstance(settings, dict):
            raise ClosedError("settings are no object")
        return _checked(replace(record, settings=checked(settings, "settings").values))
    except RecordError:
        raise
    except (ValueError, LoraLabError) as error:
        raise RecordError(f"{name} cannot be used: {error}") from error


def _checked(record: RunRecord) -> RunRecord:
    """Return the record. ClosedError where its parts contradict each other."""
    for columns, needed in ((record.steps, ("step", "loss")), (record.validation, ("step", "loss", "accuracy"))):
        sizes = {name: len(values) for name, values in vars(columns).items() if isinstance(values, tuple)}
        wanted = sizes["step"]
        for name, size in sizes.items():
            if size != wanted and (size or name in needed):
                raise ClosedError(f"{name} has {size:,} values for {wanted:,} steps")
        steps = columns.step
        if any(step < 0 for step in steps) or any(b <= a for a, b in pairwise(steps)):
            raise ClosedError("the steps of a curve do not rise")
    for moment in (record.time.started_at, record.time.ended_at):
        if moment and datetime.fromisoformat(moment).tzinfo is None:
            raise ClosedError(f"{moment} says no time zone")
    if record.outcome.steps < 0 or record.outcome.total_steps < 0:
        raise ClosedError("there are fewer than no steps")
    for share in record.validation.accuracy:
        if share is not None and not 0 <= share <= 1:
            raise ClosedError(f"an accuracy is {share:g}; wanted 0 to 1")
    return record


def take_record(files: Mapping[str, bytes]) -> tuple[RunRecord | None, str]:
    """Return the record among an adapter's files, None without one; and what there is to say of one that is no good."""
    if RUN_FILE not in files:
        return None, ""
    try:
        return read_record(files[RUN_FILE]), ""
    except RecordError as error:
        return None, f"{error}. The adapter is used without it."
