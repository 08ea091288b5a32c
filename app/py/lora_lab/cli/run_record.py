"""The record of a run on the command line: what was seen of it, and what is written beside its adapter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_lab import __version__
from lora_lab.cli.builtin import BUILT_IN
from lora_lab.cli.data_check import RunRows
from lora_lab.data import ColumnMapping, Example
from lora_lab.data.rows.row_table import ReadFile
from lora_lab.data.tokens.examples import Examples
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.record import (
    DataFacts,
    DataFile,
    Machine,
    ModelFacts,
    Outcome,
    RunRecord,
    Stopped,
    with_results,
)
from lora_lab.evaluation.results import Kept, RunResults
from lora_lab.evaluation.seen import Seen
from lora_lab.formats.hub_names import is_hub_name
from lora_lab.model.files import ModelFiles
from lora_lab.model.fingerprint import model_fingerprint
from lora_lab.settings import CHAT_FORMAT, SWITCH
from lora_lab.train import Trainer

_SWITCH = {value: word for word, value in SWITCH.items()}


@dataclass(frozen=True)
class Which:
    """Which of a run's adapters: the best one or the last, and of which step it is."""

    kept: Kept
    step: int


@dataclass(frozen=True)
class ModelSaid:
    """The model's files, and what it is called on the hub if that is known."""

    files: ModelFiles
    hub_id: str | None


class Recorder:
    """Sees a run's events. `begun` are the notes of the checkpoint that it goes on from, None for a new run."""

    def __init__(
        self, options: argparse.Namespace, trainer: Trainer, rows: RunRows, model: ModelSaid,
        begun: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        self._options, self._trainer, self._rows, self._model = options, trainer, rows, model
        self._seen = Seen(begun)
        self.note, self.notes = self._seen.note, self._seen.notes

    async def record(
        self, results: RunResults, which: Which, error: Exception | None, neutral: Neutral | None
    ) -> RunRecord:
        """Return the record of the run as it is now, for one of its adapters; `error` is what ended it, if that did."""
        stopped: Stopped = "failed" if error else "end" if self._trainer.is_complete else "by hand"
        trainer, files, options = self._trainer, self._model.files, self._options
        device = trainer.model.device.info
        is_named = options.model == BUILT_IN or is_hub_name(options.model)
        source = options.model if is_named else Path(options.model).resolve().name
        record = RunRecord(
            program=f"lora-lab {__version__}",
            name=options.out.resolve().name,
            model=ModelFacts(
                files.name, self._model.hub_id or "", await model_fingerprint(files),
                "" if source == BUILT_IN else source,
            ),
            data=self._data(),
            machine=Machine(device.name, device.backend, "native"),
            time=self._seen.times(),
            settings=self._settings(),
            outcome=Outcome(trainer.steps_done, trainer.total_steps, stopped, error=_said(error)),
            neutral=neutral,
            begun_from=options.init_adapter.resolve().name if options.init_adapter else "",
        )  # fmt: skip
        record = with_results(record, results)
        return replace(record, outcome=replace(record.outcome, kept=which.kept, kept_step=which.step))

    def _data(self) -> DataFacts:
        rows, options, examples = self._rows, self._options, self._trainer.examples
        files, template = data_files(rows.files), options.chat_template
        tokens, trained_tokens = _tokens(examples)
        return DataFacts(
            name=files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more",
            files=files,
            rows=len(examples),
            held_rows=len(rows.held),
            mixed_rows=rows.mixed,
            tokens=tokens,
            trained_tokens=trained_tokens,
            validation_files=data_files(rows.validation_files),
            mapping=ColumnMapping.parse(options.map).describe() if options.map else "",
            encoding=options.encoding or "",
            template="" if template in CHAT_FORMAT.values else Path(template).name,
            repaired=options.repair,
            without_bad_rows=options.skip_bad_rows,
        )

    def _settings(self) -> dict[str, Any]:
        trainer, options = self._trainer, self._options
        config, lora = trainer.config, trainer.adapter.config
        named = {CHAT_FORMAT.name: options.chat_template} if options.chat_template in CHAT_FORMAT.values else {}
        return {
            "rank": lora.rank, "alpha": float(lora.alpha), "targets": lora.targets, "steps": trainer.total_steps,
            "learning_rate": config.learning_rate, "schedule": config.schedule, "warmup_steps": config.warmup_steps,
            "batch": config.batch * config.accumulate, "rows_at_once": config.batch,
            "packing": _SWITCH[config.packing], "max_length": config.max_length,
            "recompute": _SWITCH[config.recompute], "activation_memory": config.activation_budget_bytes >> 20,
            "weight_decay": config.weight_decay, "max_grad_norm": config.max_grad_norm, "seed": config.seed,
            "shuffle": config.shuffle, "validation_fraction": config.validation_fraction,
            "checkpoint_every": options.checkpoint_every, "sample_every": options.sample_every, "keep": options.keep,
            "patience": options.patience, "masking": options.mask, "on_long": options.on_long,
            **named, "mix_neutral": options.mix_neutral, "neutral": options.neutral,
        }  # fmt: skip


def _said(error: Exception | None) -> str:
    """Return an error's words; without a path of this machine, where it is the system's."""
    words = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error or "")
    return words[:2000]


def data_files(files: Sequence[ReadFile]) -> tuple[DataFile, ...]:
    """Return files as a record names them: without the folders of this machine."""
    return tuple(DataFile(Path(one.name).name, one.size_bytes, one.sha256) for one in files)


def _tokens(examples: Sequence[Example]) -> tuple[int, int]:
    """Return all tokens, and those that are trained."""
    if isinstance(examples, Examples):
        return int(examples.sizes.sum()), int(examples.trained_counts.sum())
    return sum(len(one.tokens) for one in examples), sum(one.trained_tokens for one in examples)
