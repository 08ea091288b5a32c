"""What a training run tells whoever listens."""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoint import RunState


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
    """The mean loss over the trained tokens of the rows held back, after `step` steps."""

    step: int
    loss: float
    elapsed_ms: float


@dataclass(frozen=True)
class CheckpointTaken:
    """The run's state as it is now, to be written down; the run waits until the next event is asked for."""

    state: RunState


TrainEvent = StepDone | ValidationDone | CheckpointTaken


@dataclass(frozen=True)
class MemoryReport:
    """What a run takes on the GPU, exact, known before anything is allocated. `parts` add up to the total, in bytes.

    `recomputed_layers` of the model's `layers` compute their activations again in the backward pass.
    """

    total_bytes: int
    parts: dict[str, int]
    recomputed_layers: int = 0
    layers: int = 0
