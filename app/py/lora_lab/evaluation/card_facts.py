"""What a run's record tells the model card of its adapter."""

from __future__ import annotations

from lora_lab.evaluation.record import RunRecord
from lora_lab.formats.run_facts import RunFacts

IN_THE_CARD_ANYWAY = frozenset({"rank", "alpha", "targets", "steps"})


def card_facts(record: RunRecord, content: bytes = b"") -> RunFacts:
    """Return what the card says. `content` is the record as a file, which goes along; b"" where none shall."""
    data, outcome = record.data, record.outcome
    step = outcome.kept_step or outcome.steps
    losses = [loss for at, loss in zip(record.steps.step, record.steps.loss, strict=True) if at <= step]
    held = record.validation_kept
    files = tuple((one.name, one.sha256) for one in data.files)
    return RunFacts(
        program=record.program,
        data=files or ((data.name, ""),) * bool(data.name),
        rows=data.rows or None,
        held_rows=data.held_rows or None,
        steps=step or None,
        settings={
            name: value for name, value in record.settings.items()
            if name not in IN_THE_CARD_ANYWAY and isinstance(value, str | int | float)
        },
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        held_loss=held.loss if held else None,
        record=content,
    )  # fmt: skip
