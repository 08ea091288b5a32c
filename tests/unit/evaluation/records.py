"""A record as a run leaves it, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lora_lab.evaluation.neutral import Neutral, NeutralAnswer, NeutralRow
from lora_lab.evaluation.record import (
    DataFacts,
    DataFile,
    Machine,
    ModelFacts,
    Outcome,
    RunRecord,
    RunTimes,
    perplexity,
    with_results,
)
from lora_lab.evaluation.results import (
    Answer,
    RunResults,
    SampleResult,
    StepResult,
    ValidationResult,
    Verdict,
)

STEPS = 60


def results(**changes: Any) -> RunResults:
    """A run of 60 steps whose validation was best at step 40."""
    steps = tuple(StepResult(i, 3.0 / i**0.5, 1.0, 1e-3, 900.0, 12.5) for i in range(1, STEPS + 1))
    losses = {0: 2.91, 20: 0.9, 40: 0.48, 60: 0.6}
    validation = tuple(ValidationResult(step, loss, perplexity(loss), step / 100) for step, loss in losses.items())
    samples = tuple(
        SampleResult(f"Question {i}?", f"It is number {i}.", (Answer(0, "I do not know."), Answer(40, said)))
        for i, said in enumerate(("it is number 0", "It is  number 1!", "It is 2."))
    )
    whole = RunResults(steps, validation, samples, best_step=40, kept="best", kept_step=40)
    return replace(whole, **changes)


def record(**changes: Any) -> RunRecord:
    """The record of that run."""
    rows = (NeutralRow("What is the capital of France?", 7, 1.0, 1.9), NeutralRow("A text.", 60, 3.0, 3.2))
    answers = (NeutralAnswer("What is the capital of France?", "Paris.", "Tern Point.", "Paris."),)
    made = RunRecord(
        program="lora-lab 0.1.0",
        name="Brindle, 60 steps",
        model=ModelFacts("SmolLM2", "HuggingFaceTB/SmolLM2-135M-Instruct", "ab" * 16),
        data=DataFacts("lighthouse.jsonl", (DataFile("lighthouse.jsonl", 12345, "cd" * 32),), 120, 12, 0, 9000, 3000),
        machine=Machine("Card", "Vulkan", "native"),
        time=RunTimes("2026-11-29T12:00:00+00:00", "2026-11-29T12:01:00+00:00", 41.5),
        settings={"rank": 16, "alpha": 32.0, "targets": ("q_proj", "v_proj"), "steps": STEPS, "learning_rate": 2e-3,
                  "batch": 8, "rows_at_once": 4, "warmup_steps": None, "shuffle": True},
        outcome=Outcome(STEPS, STEPS),
        neutral=Neutral(2.8, 3.1, 67, rows, answers),
    )  # fmt: skip
    return replace(with_results(made, results()), **changes)


VERDICT = Verdict("worse", "The validation loss rose.", {"best": 0.48})
