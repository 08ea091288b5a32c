"""What a training run tells whoever listens."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .checkpoint import RunState
from .evaluate import perplexity


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. `loss` is the mean over its trained tokens before its update, `grad_norm` before clipping.

    The steps' `elapsed_ms` and the validations' add up to the run's time, but for its checkpoints'.
    """

    step: int  # 1 is the first
    total_steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    trained_tokens: int
    tokens: int  # all tokens that were no padding
    tokens_per_s: float  # over the last steps, 20 at most
    elapsed_ms: float  # of this step: what it took to give it to the GPU and then to wait for it
    eta_ms: float  # until the last step


@dataclass(frozen=True)
class ValidationDone:
    """The mean loss over the trained tokens of the rows held back, after `step` steps; 0: before the first.

    `accuracy`: the share of those tokens that the model held to be the likeliest, 0 to 1.
    """

    step: int
    loss: float
    elapsed_ms: float
    accuracy: float | None = None

    @property
    def perplexity(self) -> float:
        """e^loss."""
        return perplexity(self.loss)


@dataclass(frozen=True)
class CheckpointTaken:
    """The run's state as it is now, to be written down; the run waits until the next event is asked for."""

    state: RunState


@dataclass(frozen=True)
class SamplesDue:
    """After `step` steps the model is to be asked what it answers by now: nothing is in flight, and the run waits until
    the next event is asked for.
    """

    step: int


@dataclass(frozen=True)
class SampleAnswered:
    """What the model says to prompt number `index` after `step` steps; `expected` is the data's own answer.

    `is_cut`: the time for it was over. `problem` says instead why there is no answer, and will be none.
    """

    step: int
    index: int
    prompt: str
    expected: str | None
    text: str
    is_cut: bool = False
    problem: str = ""


TrainEvent = StepDone | ValidationDone | CheckpointTaken | SamplesDue | SampleAnswered


@dataclass(frozen=True)
class MemoryReport:
    """What a run takes on the GPU, exact, known before anything is allocated. `parts` add up to the total, in bytes.

    `recomputed_layers` of the model's `layers` compute their activations again in the backward pass.
    """

    total_bytes: int
    parts: dict[str, int]
    recomputed_layers: int = 0
    layers: int = 0

    def with_part(self, name: str, size_bytes: int) -> MemoryReport:
        """Return what the run takes with something beside it."""
        return replace(self, total_bytes=self.total_bytes + size_bytes, parts={**self.parts, name: size_bytes})
