"""A run's record, as the card after the run tells it."""

from __future__ import annotations

import math

from lora_lab.evaluation.neutral import Neutral, in_words
from lora_lab.evaluation.record import RunRecord
from lora_lab.evaluation.report import headline
from lora_lab.evaluation.results import ValidationResult
from lora_lab.workers.protocol import ElseChanged, HeldNumbers, RunSummedUp, SampleAnswer


def summary_of(id: str, record: RunRecord) -> RunSummedUp:
    """Return what came of a run; `id` is its adapter's."""
    verdict, neutral = record.outcome.verdict, record.neutral
    return RunSummedUp(
        id=id,
        headline=headline(record),
        verdict=verdict.words if verdict is not None else "",
        before=_numbers(record.validation_before),
        after=_numbers(record.validation_kept),
        else_changed=_else_changed(neutral) if neutral is not None else None,
    )


def _numbers(found: ValidationResult | None) -> HeldNumbers | None:
    if found is None:
        return None
    perplexity = found.perplexity if math.isfinite(found.perplexity) else None
    return HeldNumbers(found.step, found.loss, perplexity, found.accuracy)


def _else_changed(neutral: Neutral) -> ElseChanged:
    answers = tuple(SampleAnswer(one.prompt, one.base, one.tuned, one.reference) for one in neutral.answers)
    return ElseChanged(neutral.base, neutral.tuned, neutral.rose, in_words(neutral.rose), neutral.advice, answers)
