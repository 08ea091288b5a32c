"""What the train worker does before Train is pressed: it plans a run, compiles its kernels, times a trial.

Nobody waits for any of it. Kernels that were asked for are compiled to the end and stay on the device, whoever needs
them next; a trial is given up as soon as the page asks for something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from lora_lab.data.tokens.examples import input_lengths
from lora_lab.errors import LoraLabError
from lora_lab.gpu.device import Progress
from lora_lab.model import fill_model
from lora_lab.train import RunTime, Trainer, measure_run
from lora_lab.workers.dataset.opened import Choices, Split
from lora_lab.workers.protocol import (
    ClearDataset,
    Command,
    FieldProblem,
    ImportAdapter,
    MemoryPart,
    OpenModel,
    PlanTraining,
    ReadDataset,
    ReadValidation,
    StartTraining,
    TimeTraining,
    TrainingPlanned,
    TrainingTimed,
    TrainSettings,
)
from lora_lab.workers.run.planner import Planner, RunPlan, check_settings
from lora_lab.workers.run.words import run_notes, run_summary
from lora_lab.workers.services.viewer import DatasetViewer
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import phase

T = TypeVar("T")
SETTLED_S = 0.15  # after a plan, until its kernels are asked for: settings often change again at once
PARTS = {
    "weights": "Model weights",
    "activations": "Activations",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "AdamW's moments",
    "batch": "Batch and tables",
}
# What does not wait for a trial to end.
OVERTAKING = (
    OpenModel, ReadDataset, ReadValidation, ClearDataset, PlanTraining, TimeTraining, StartTraining, ImportAdapter,
)  # fmt: skip
# Settings that change what is learned, and not how long that takes.
TIMELESS = {"steps": 1, "learning_rate": 1.0, "alpha": 1.0, "schedule": "", "warmup_steps": None, "weight_decay": 0.0,
            "max_grad_norm": 0.0}  # fmt: skip


async def quietly(work: Callable[[], Awaitable[T]]) -> T | None:
    """Do `work`; return None when cancelled: Pyodide's loop reports a task that ends so as an error."""
    try:
        return await work()
    except asyncio.CancelledError:
        return None


class AheadWorker(DatasetViewer):
    """Answers the page's questions about a run that has not begun."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.planner: Planner | None = None
        self._newest: Command | None = None  # of those that overtake a trial
        self._trial: asyncio.Future[RunTime | None] | None = None
        self._compiling_ahead: asyncio.Future[None] | None = None
        self._timed: dict[tuple, RunTime] = {}  # by `_time_key`

    async def answer(self, command: Command) -> None:
        """Run the method for `command`; a trial that is going on makes room for it."""
        if isinstance(command, OVERTAKING):
            self._newest = command
            if self._trial is not None:
                self._trial.cancel()
        await super().answer(command)

    # --- planning ---

    @handles(PlanTraining, "settings", exclusive=True)
    async def plan_training(self, command: PlanTraining) -> None:
        """Say how many passes the steps make and what they take on the GPU; nothing is allocated for it."""
        if self.model is None or self.dataset is None:
            return
        settings = command.settings
        if problems := check_settings(settings, self.model.files.config):
            self.host.post(TrainingPlanned(command.request, problems=tuple(problems)))
            return
        choices = Choices.of(settings)
        # While a validation file is read nothing is described: the page takes the next description for its end.
        if self._is_reading_validation or not self.dataset.is_encoded(settings.masking):
            self.answer_when_counted(command, choices)
            return
        self.show_choices(choices)
        split = self.dataset.split(settings)
        if problem := nothing_to_do(split):
            self.host.post(TrainingPlanned(command.request, problems=(problem,)))
            return
        await self._plan(command.request, settings, split)

    async def _plan(self, request: int, settings: TrainSettings, split: Split) -> None:
        passes = settings.steps * settings.batch / len(split.trained)
        planned = TrainingPlanned(request, settings.steps, passes)
        try:
            await self.device()
        except LoraLabError:  # no GPU: the numbers of the data are still worth having
            summary = run_summary(settings, split, None)
            self.host.post(replace(planned, summary=summary))
            return
        try:
            plan = await self.plan_run(settings, split)
        except LoraLabError as error:
            self.host.post(replace(planned, problems=(FieldProblem("batch", str(error)),)))
            return
        parts = tuple(MemoryPart(PARTS.get(name, name), size) for name, size in plan.memory.parts.items())
        planned = replace(
            planned,
            summary=run_summary(settings, split, plan.rows_at_once, plan.packing_saves),
            memory_bytes=plan.memory.total_bytes,
            memory_parts=parts,
            recomputed_layers=plan.memory.recomputed_layers,
            notes=run_notes(settings, passes),
        )
        self.host.post(planned)
        if known := self._timed.get(_time_key(settings, split)):
            self.host.post(_as_event(request, settings, known))
        self._compile_ahead(plan.trainer)

    async def plan_run(self, settings: TrainSettings, split: Split) -> RunPlan:
        """Return the plan of a run, for the open model. Raises what Planner.plan does."""
        device = await self.device()
        if self.planner is None:
            self.planner = Planner(device, self.need_model("Planning needs a model").files)
        return self.planner.plan(settings, split.trained, split.held)

    # --- kernels ---

    def _compile_ahead(self, trainer: Trainer) -> None:
        """Have the run's kernels compiled while nothing else is to be done, in place of an earlier plan's.

        On a software device one after another, or the compiler would take all of the processor from chat and page.
        """
        if self._compiling_ahead is not None:
            self._compiling_ahead.cancel()  # what it has asked for already goes on

        async def settled() -> None:
            await asyncio.sleep(SETTLED_S)
            with phase("kernels ahead"):
                await trainer.compile_ahead(one_at_a_time=trainer.model.device.info.is_software)

        self._compiling_ahead = asyncio.ensure_future(quietly(settled))
        # What cannot be compiled is told when the run is begun.
        self._compiling_ahead.add_done_callback(lambda task: task.cancelled() or task.exception())

    # --- the run's memory ---

    async def get_ready(self, trainer: Trainer, seed: int, on_loaded: Progress, on_compiled: Progress) -> None:
        """Give a planned run its memory, weights and adapter, and compile what is not compiled yet, all at once."""
        with phase("run: adapter"):
            trainer.adapter.initialize(seed)

        async def load() -> None:
            with phase("run: weights"):
                await fill_model(trainer.model, on_loaded)

        async def prepare() -> None:
            with phase("run: kernels and plans"):
                await trainer.prepare(on_compiled)

        # The weights first: they take their memory at once, and the plans are built over it while they are read.
        work = [asyncio.ensure_future(quietly(one)) for one in (load, prepare)]
        try:
            await asyncio.gather(*work)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    @staticmethod
    def release(trainer: Trainer) -> None:
        """Take all of a run's memory back: plans, adapter, weights."""
        trainer.close()
        trainer.adapter.release()
        trainer.model.release()

    # --- the trial ---

    @handles(TimeTraining, "settings", exclusive=True)
    async def time_training(self, command: TimeTraining) -> None:
        """Time a few steps of the run on an adapter that is thrown away, and say how long the whole would take."""
        request, settings = command.request, command.settings
        if self._newest is not command:
            self.host.post(TrainingTimed(request, problem=""))
            return
        self._trial = asyncio.ensure_future(quietly(lambda: self._time(settings)))
        try:
            timed = await self._trial
        except asyncio.CancelledError:
            if not self._trial.cancelled():
                raise
            timed = None  # overtaken before it had begun
        except LoraLabError as error:
            self.host.post(TrainingTimed(request, problem=str(error)))
            return
        finally:
            self._trial = None
        self.host.post(_as_event(request, settings, timed) if timed else TrainingTimed(request, problem=""))

    async def _time(self, settings: TrainSettings) -> RunTime:
        opened = self.need_model("A trial needs a model")
        if problems := check_settings(settings, opened.files.config):
            raise LoraLabError("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        dataset, choices = self.dataset, Choices.of(settings)
        if dataset is None or not dataset.is_encoded(choices.masking):
            raise LoraLabError("A trial needs a dataset whose tokens are counted.")
        split = dataset.split(settings)
        if problem := nothing_to_do(split):
            raise LoraLabError(problem.message)
        key = _time_key(settings, split)
        if key not in self._timed:
            # Kernels that are being compiled would take the GPU's process from the steps: on an H100 these took twice
            # as long then.
            if self._compiling_ahead is not None:
                await asyncio.wait([self._compiling_ahead])
            trainer = (await self.plan_run(settings, split)).trainer
            nobody: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
            try:
                await self.get_ready(trainer, settings.seed, nobody, nobody)
                self._timed[key] = await measure_run(trainer)
            finally:
                self.release(trainer)
        return self._timed[key]

    def forget_times(self) -> None:
        """Another model is opened: what was measured and compiled was the last one's."""
        self._timed.clear()
        self.planner = None
        if self._compiling_ahead is not None:
            self._compiling_ahead.cancel()


def nothing_to_do(split: Split) -> FieldProblem | None:
    """Return why there is nothing to train on, or nothing to validate on in a file that is there for it."""
    if not len(split.trained):
        return FieldProblem("max_length", "No row has anything left to train on at this length.")
    if split.needs_held and not len(split.held):
        return FieldProblem("max_length", "No row of the validation file has anything left to measure at this length.")
    return None


def _time_key(settings: TrainSettings, split: Split) -> tuple:
    """Return what decides how long a step takes: the settings that matter, and the rows by their lengths."""
    rows = tuple(input_lengths(examples).tobytes() for examples in (split.trained, split.held))
    return replace(settings, **TIMELESS), hash(rows)  # type: ignore[arg-type]


def _as_event(request: int, settings: TrainSettings, timed: RunTime) -> TrainingTimed:
    return TrainingTimed(
        request, timed.step_ms, timed.total_ms(settings.steps), timed.tokens_per_s, timed.measured_steps
    )
