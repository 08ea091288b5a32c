"""The record of a run of this worker, and what one that came with an adapter says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING, Any

import lora_lab
from lora_lab.data.rows.row_table import ReadFile
from lora_lab.evaluation.record import (
    AnswerPair,
    DataFacts,
    DataFile,
    Machine,
    ModelFacts,
    Outcome,
    RunRecord,
    RunTimes,
    StepColumns,
    Stopped,
    ValidationColumns,
    perplexity,
    with_results,
)
from lora_lab.evaluation.results import Kept, RunResults, StepResult, ValidationResult
from lora_lab.model.fingerprint import model_fingerprint
from lora_lab.settings import TRAINING
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Split
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import AdapterInfo, SampleAnswer, TrainSettings
from lora_lab.workers.wire.codec import from_dict

if TYPE_CHECKING:
    from lora_lab.workers.run.going_on import Learned
    from lora_lab.workers.run.job import Job


def data_facts(dataset: OpenDataset, split: Split, settings: TrainSettings) -> DataFacts:
    """Return what a record says of the rows of a run, which are in tokens."""
    table = dataset.table
    return DataFacts(
        name=dataset.name,
        files=_files(table.files),
        rows=len(split.trained),
        held_rows=len(split.held),
        mixed_rows=split.mixed,
        tokens=int(split.trained.sizes.sum()),
        trained_tokens=int(split.trained.trained_counts.sum()),
        validation_files=_files(dataset.validation.rows.table.files) if dataset.validation else (),
        mapping=table.mapping.describe() if table.mapping else "",
        encoding=table.encoding or "",
        repaired=table.uses_mended,
        without_bad_rows=dataset.cut(Choices.of(settings)).bad_rows > 0,
    )


def _files(files: Sequence[ReadFile]) -> tuple[DataFile, ...]:
    return tuple(DataFile(one.name.rpartition("/")[2], one.size_bytes, one.sha256) for one in files)


async def make_record(opened: OpenedModel, job: Job, learned: Learned, step: int) -> RunRecord:
    """Return the record of a run that has ended, for the adapter of this step: the one given out, or the other one."""
    error = learned.error
    stopped: Stopped = "failed" if error else "by hand" if learned.steps < learned.total_steps else "end"
    nothing = DataFacts(job.dataset, (), len(job.split.trained), len(job.split.held), job.split.mixed, 0, 0)
    record = RunRecord(
        program=f"lora-lab {lora_lab.__version__}",
        name="",
        model=ModelFacts(opened.title, opened.hub_id or "", await model_fingerprint(opened.files), opened.source),
        data=job.data or nothing,
        machine=learned.machine,
        time=job.seen.times(),
        settings={
            **vars(job.settings),
            "rows_at_once": learned.rows_at_once,
            "targets": opened.files.config.chosen_linears(job.settings.targets),
        },
        outcome=Outcome(learned.steps, learned.total_steps, stopped, error=str(error)[:2000] if error else ""),
        neutral=learned.neutral if step == learned.adapters[0][0] else None,
    )
    record = with_results(record, learned.results or _results_of(learned))
    which: Kept = "best" if learned.best is not None and step == learned.best.step < learned.steps else "last"
    return replace(record, outcome=replace(record.outcome, kept=which, kept_step=step))


def _results_of(learned: Learned) -> RunResults:
    """Return what is known of a run that did not come to its end here: its device is gone, and its norms with it."""
    steps = tuple(StepResult(int(step), loss, nan, nan, None, None) for step, loss in learned.curves.loss)
    validation = tuple(
        ValidationResult(int(step), loss, perplexity(loss), None) for step, loss in learned.curves.validation
    )
    best = learned.best.step if learned.best is not None else None
    return RunResults(steps, validation, (), best_step=best, kept=learned.kept, kept_step=learned.steps)


# ---------------------------------------------------------------------------------------------------- and back


def known_of(record: RunRecord) -> dict[str, Any]:
    """Return what a record says of an adapter that came with it, as fields of AdapterInfo."""
    steps, validation, data = record.steps, record.validation, record.data
    rate, kept = record.settings.get("learning_rate"), record.outcome.kept_step or record.outcome.steps
    losses = [loss for step, loss in zip(steps.step, steps.loss, strict=True) if step <= kept]
    return {
        "dataset": data.name,
        "rows": max(0, data.rows - data.mixed_rows),
        "steps": kept,
        "learning_rate": rate,
        "final_loss": losses[-1] if losses else None,
        "loss_curve": tuple((float(step), loss) for step, loss in zip(steps.step, steps.loss, strict=True)),
        "validation_curve": tuple(
            (float(step), loss) for step, loss in zip(validation.step, validation.loss, strict=True)
        ),
        "sample_answers": tuple(
            SampleAnswer(one.prompt, one.before, one.after, one.expected) for one in record.answers
        ),
    }


def record_for(info: AdapterInfo, record: RunRecord | None) -> RunRecord:
    """Return what is known of a kept adapter's run: its record under the adapter's name, with the answers that the page
    has kept; of an adapter without one what the shelf's own list says.
    """
    answers = tuple(AnswerPair(one.prompt, one.reference, one.base, one.tuned) for one in info.sample_answers)
    if record is not None:
        return replace(record, name=info.name, answers=answers or record.answers)
    settings = {"rank": info.rank, "alpha": info.alpha, "targets": info.targets, "learning_rate": info.learning_rate}
    loss, validation = info.loss_curve, info.validation_curve
    return RunRecord(
        program="",
        name=info.name,
        model=ModelFacts(info.base_model, "", ""),
        data=DataFacts(info.dataset, (), info.rows, 0, 0, 0, 0),
        machine=Machine("", "", ""),
        time=RunTimes("", "", 0.0),
        settings={name: value for name, value in settings.items() if value is not None},
        outcome=Outcome(info.steps, info.steps, kept_step=info.steps),
        steps=StepColumns(tuple(int(step) for step, _ in loss), tuple(value for _, value in loss)),
        validation=ValidationColumns(
            tuple(int(step) for step, _ in validation), tuple(value for _, value in validation),
            tuple(None for _ in validation),
        ),
        answers=answers,
    )  # fmt: skip


def settings_for_page(values: dict[str, Any], first: TrainSettings) -> TrainSettings:
    """Return settings as the page has them; those that `values` do not name are `first`'s."""
    on_page = {setting.name for setting in TRAINING if setting.on_page}
    return from_dict(TrainSettings, {**vars(first), **{name: values[name] for name in values if name in on_page}})
