"""What there is of a run when its device is gone: its last checkpoint, with the losses up to there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lora_lab.config import TrainConfig
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.gather import Paces, run_results
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.record import Machine
from lora_lab.evaluation.results import RunResults
from lora_lab.gpu import Device
from lora_lab.train import RunState, Trainer
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
    results: RunResults
    machine: Machine
    rows_at_once: int
    gpu_is_gone: bool = False
    neutral: Neutral | None = None


class Point:
    """Where a run goes on from when its GPU is lost: its beginning, until a checkpoint was taken."""

    def __init__(self, state: RunState | None) -> None:
        self.state = state
        self.is_new = True  # it has not run yet on any GPU
        self.total_steps = self.recomputed_layers = 0
        self.config, self.machine = TrainConfig(), Machine("", "", "browser")
        self._losses = 0  # of the GPU since the last checkpoint

    @property
    def step(self) -> int:
        """The steps that are done there."""
        return self.state.step if self.state is not None else 0

    def runs_on(self, device: Device, trainer: Trainer) -> None:
        """From now on it is this trainer that does the run, on this device."""
        self.total_steps, self.recomputed_layers = trainer.total_steps, trainer.memory.recomputed_layers
        self.config = trainer.config
        self.machine = Machine(device.info.name, device.info.backend, "browser")

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
        state = self.state
        losses, validation = (state.losses.reshape(-1), state.validation) if state is not None else ((), ())
        tensors = state.adapter if state is not None else {}
        return self._learned(tensors, losses, validation, {}, error, gpu_is_gone)  # type: ignore[arg-type]

    async def learned_by(
        self, trainer: Trainer, paces: Paces, error: LoraLabError | None, neutral: Neutral | None
    ) -> Learned:
        """Return what the trainer has come to."""
        tensors = await trainer.adapter.to_tensors() if trainer.steps_done else {}
        found = self._learned(tensors, trainer.losses, trainer.validation_losses, paces, error)
        return replace(found, neutral=neutral)

    def _learned(
        self, tensors: Matrices, losses: Sequence[float], validation: Sequence[tuple[int, float]], paces: Paces,
        error: LoraLabError | None, gpu_is_gone: bool = False,
    ) -> Learned:  # fmt: skip
        results = run_results(losses, validation, self.config, self.total_steps, paces)
        return Learned(
            len(results.steps), self.total_steps, tensors, curves_of(losses, validation), error, self.recomputed_layers,
            results, self.machine, self.config.batch, gpu_is_gone,
        )  # fmt: skip
