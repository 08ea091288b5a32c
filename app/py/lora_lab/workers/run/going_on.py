"""What there is of a run when its device is gone: its last checkpoint, with the losses up to there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lora_lab.config import TrainConfig
from lora_lab.errors import DivergedError, LoraLabError
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.record import Machine
from lora_lab.evaluation.results import RunResults
from lora_lab.evaluation.watch import Watch
from lora_lab.gpu import Device
from lora_lab.train import Best, History, RunState, Trainer, ValidationPoint
from lora_lab.train.history import Matrices, Which

NO_MACHINE = Machine("", "", "browser")


@dataclass(frozen=True)
class Curves:
    """A run's losses and accuracies as (step, value)."""

    loss: list[tuple[float, float]]
    validation: list[tuple[float, float]]
    accuracy: list[tuple[float, float]] = field(default_factory=list)


def curves_of(losses: Sequence[float], validation: Iterable[ValidationPoint]) -> Curves:
    """Return the curves of a run; `losses` are loss and gradient norm of each step, one after the other."""
    points = list(validation)
    return Curves(
        [(step, float(loss)) for step, loss in enumerate(losses[::2], 1)],
        [(point.step, point.loss) for point in points],
        [(point.step, point.accuracy) for point in points if point.accuracy is not None],
    )


@dataclass(frozen=True)
class Learned:
    """What came of a run: A and B by PEFT's key after `steps` steps, and the error that ended it early if one did.

    `gpu_is_gone`: there is no other one, and the run can go on when there is. `kept` says which of `tensors` and `best`
    is given out; `results` is what the run has shown, where it came to its end here.
    """

    steps: int
    total_steps: int
    tensors: Matrices
    curves: Curves
    error: LoraLabError | None
    recomputed_layers: int
    gpu_is_gone: bool = False
    best: Best | None = None
    kept: Which = "last"
    best_outlives: bool = False  # it is of use though the run has fallen apart
    results: RunResults | None = None
    sample_share: float = 0.0
    machine: Machine = NO_MACHINE
    rows_at_once: int = 1
    neutral: Neutral | None = None

    @property
    def stopped_early(self) -> bool:
        """Whether it ended before its last step because the validation loss fell no more."""
        return self.results is not None and self.results.stopped_early

    @property
    def adapters(self) -> list[tuple[int, Matrices]]:
        """The adapter that is given out, then the other one where there is another: each with the step it is of."""
        last, best = (self.steps, self.tensors), self.best
        if best is None or best.step == self.steps:
            return [last]
        if isinstance(self.error, DivergedError) and not self.error.has_good_step:
            return [(best.step, best.adapter)]  # the last one is of no use
        found = [(best.step, best.adapter), last]
        return found if self.kept == "best" else found[::-1]


class Point:
    """Where a run goes on from when its GPU is lost: its beginning, until a checkpoint was taken."""

    def __init__(self, state: RunState | None, keep: Which = "best") -> None:
        self.state, self._keep = state, keep
        self.is_new = True  # it has not run yet on any GPU
        self.total_steps = self.recomputed_layers = 0
        self.config, self.machine = TrainConfig(), NO_MACHINE
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
        tensors, history = {}, History()
        if self.state is not None:
            tensors = self.state.adapter
            history.restore(self.state.validation, self.state.best)
        return Learned(
            self.step, self.total_steps, tensors, self.curves(), error, self.recomputed_layers, gpu_is_gone,
            history.best, history.kept(self._keep, self.step), machine=self.machine, rows_at_once=self.config.batch,
        )  # fmt: skip


async def outcome(watch: Watch, error: LoraLabError | None, machine: Machine = NO_MACHINE) -> Learned:
    """Return what has come of a run that has ended, with this error if it has one."""
    trainer, history = watch.trainer, watch.trainer.history
    results = watch.results(error)
    tensors = await trainer.adapter.to_tensors() if trainer.steps_done else {}
    return Learned(
        trainer.steps_done, trainer.total_steps, tensors, curves_of(trainer.losses, history.points), error,
        trainer.memory.recomputed_layers, False, history.best, results.kept,
        isinstance(error, DivergedError) and history.outlives(error), results,
        watch.sample_share, machine, trainer.config.batch,
    )  # fmt: skip
