"""What a run has shown, from its first step to its last, as plain values: for charts, the verdict and the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

VerdictKind = Literal["diverged", "collapsed", "repeats", "worse", "unchanged"]
Kept = Literal["best", "last"]


@dataclass(frozen=True)
class StepResult:
    """One optimizer step. The last two are None where the run went on from a checkpoint, which does not hold them."""

    step: int  # 1 is the first
    loss: float
    grad_norm: float
    learning_rate: float
    tokens_per_s: float | None
    elapsed_ms: float | None


@dataclass(frozen=True)
class ValidationResult:
    """The rows held back, after `step` steps; 0: before the first.

    `perplexity` is e^loss, infinite where that is too large. `accuracy`: the share of trained tokens that the model
    holds to be the likeliest, 0 to 1; None where a checkpoint of an older version has none.
    """

    step: int
    loss: float
    perplexity: float
    accuracy: float | None


@dataclass(frozen=True)
class Answer:
    """What the model that is being trained has answered after `step` steps."""

    step: int
    text: str


@dataclass(frozen=True)
class SampleResult:
    """A prompt, the data's own answer where it has one, and what the model said to it as it learned."""

    prompt: str
    expected: str | None
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Verdict:
    """Why a run is not to be called good. `words` are for people; `numbers` are what it was judged by, by name."""

    kind: VerdictKind
    words: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResults:
    """A run as it has ended. `verdict` None: nothing is wrong with it.

    `best_step` is that of the lowest validation loss, None without one; `kept` says which adapter is given out,
    `kept_step` of which step it is. `stopped_early`: the validation loss fell no more for as long as `patience` said.
    """

    steps: Sequence[StepResult]  # each made when it is asked for: there may be millions
    validation: tuple[ValidationResult, ...]
    samples: tuple[SampleResult, ...]
    verdict: Verdict | None = None
    best_step: int | None = None
    kept: Kept = "last"
    kept_step: int = 0
    stopped_early: bool = False
