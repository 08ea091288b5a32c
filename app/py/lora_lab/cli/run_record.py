"""The record of a run on the command line, which goes with its adapter: on which files, how, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_lab import __version__
from lora_lab.cli.files import file_sha256
from lora_lab.config import LoraConfig
from lora_lab.formats.run_record import RunData, RunRecord
from lora_lab.train import Trainer

# Those of TrainConfig that say something to whoever reads a model card.
_SETTINGS = ("learning_rate", "schedule", "weight_decay", "max_grad_norm", "max_length", "seed")


def data_of(paths: Sequence[Path]) -> tuple[RunData, ...]:
    """Return the files' names and hashes; to be asked before a run, for the files may change in its hours."""
    return tuple(RunData(path.name, file_sha256(path)) for path in paths)


def record_of(base: str | None, data: tuple[RunData, ...], lora: LoraConfig, trainer: Trainer) -> RunRecord:
    """Return the record of a run as far as it has come."""
    config, losses = trainer.config, trainer.losses
    settings = {"rank": lora.rank, "alpha": lora.alpha, "rows a step": config.batch * config.accumulate}
    return RunRecord(
        lora_lab=__version__,
        base_model=base,
        data=data,
        rows=len(trainer.examples),
        validation_rows=len(trainer.validation) or None,
        steps=trainer.steps_done,
        settings={**settings, **{name: getattr(config, name) for name in _SETTINGS}},
        first_loss=float(losses[0]) if losses else None,
        last_loss=float(losses[-2]) if losses else None,  # loss and gradient norm of every step
        validation_loss=trainer.validation_losses[-1][1] if trainer.validation_losses else None,
    )
