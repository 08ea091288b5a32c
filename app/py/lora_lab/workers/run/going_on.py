"""What there is of a run when its device is gone: its last checkpoint, with the losses up to there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lora_lab.errors import LoraLabError
from lora_lab.train import RunState
from lora_lab.train.checkpoint import Matrices


@dataclass(frozen=True)
class Curves:
    """A run's losses as (step, loss)."""

    loss: list[tuple[float, float]]
    validation: list[tuple[float, float]]


def curves_of(losses: Sequence[float], validation: Iterable[tuple[int, float]]) -> Curves:
    """Return the curves of a run; `losses` are loss and gradient norm of each step, one after the other."""
    return Curves([(step, float(loss)) for step, loss in enumerate(losses[::2], 1)], list(validation))


@dataclass(frozen=True)
class Learned:
    """What came of a run: A and B by PEFT's key after `steps` steps, and the error that ended it early if one did.

    `gpu_is_gone`: there is no other one, and the run can go on when there is.
    """

    steps: int
    total_steps: int
    tensors: Matrices
    curves: Curves
    error: LoraLabError | None
    recomputed_layers: int
    gpu_is_gone: bool = False


class Point:
    """Where a run goes on from when its GPU is lost: its beginning, until a checkpoint was taken."""

    def __init__(self, state: RunState | None) -> None:
        self.state = state
        self.is_new = True  # it has not run yet on any GPU
        self.total_steps = self.recomputed_layers = 0
        self._losses = 0  # of the GPU since the last checkpoint

    @property
    def step(self) -> int:
        """The steps that are done there."""
        return self.state.step if self.state is not None else 0

    def take(self, state: RunState) -> None:
        """From now on go on from here."""
        self.state, self._losses = state, 0

    def lost(self) -> int:
        """Count a loss; return how many there were since the last checkpoint."""
        self._losses += 1
        return self._losses

    def curves(self) -> Curves:
        """Return the losses up to there."""
        if self.state is None:
            return Curves([], [])
        return curves_of(self.state.losses.reshape(-1), self.state.validation)  # type: ignore[arg-type]

    def learned(self, error: LoraLabError | None, *, gpu_is_gone: bool = False) -> Learned:
        """Return what there is if the run does not go on."""
        tensors = self.state.adapter if self.state is not None else {}
        return Learned(self.step, self.total_steps, tensors, self.curves(), error, self.recomputed_layers, gpu_is_gone)
