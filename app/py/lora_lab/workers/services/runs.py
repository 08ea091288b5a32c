"""Training runs: one at a time, from the first step to the last, to a stop or a pause; what was learned is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lora_lab.errors import DatasetError, DeviceError, DivergedError, KernelError, LoraLabError, OutOfMemoryError
from lora_lab.evaluation.watch import Watch
from lora_lab.gpu import Device
from lora_lab.train import CheckpointTaken, CheckpointTimes, SampleAnswered, Trainer
from lora_lab.train.history import Which
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Split
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    Notice,
    PauseTraining,
    ResumeTraining,
    StartTraining,
    StopTraining,
    TrainingResumed,
    TrainingState,
)
from lora_lab.workers.run.checks import nothing_to_do, refuse
from lora_lab.workers.run.going_on import Learned, Point, outcome
from lora_lab.workers.run.job import Job
from lora_lab.workers.run.planner import check_settings
from lora_lab.workers.services.adapters import Adapters
from lora_lab.workers.services.checkpoints import Checkpoints, Keeper
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.neutral import NeutralCheck
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.services.results import Results, done_event
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.services.watching import Watching
from lora_lab.workers.storage.checkpoints import StoppedAt
from lora_lab.workers.wire.dispatch import Host, handles, hears
from lora_lab.workers.wire.seldom import seldom
from lora_lab.workers.wire.tasks import quietly

NOTHING_LEARNED = "Stopped before the first step: nothing was learned, nothing is kept."
PAUSING = "Pausing after this step"


# Of the GPU, without a checkpoint between them: a run that brings it down each time would do so for ever.
MOST_LOSSES = 3
SMALLER = "It may be too much for this GPU: choose fewer rows a step, shorter rows or a smaller rank."


class Runs:
    """Answers StartTraining, ResumeTraining, StopTraining, PauseTraining; tells the page all along how the run goes."""

    def __init__(
        self, host: Host, gpu: Gpu, stores: Stores, models: Models, adapters: Adapters, datasets: Datasets,
        plans: Plans, checkpoints: Checkpoints, watching: Watching,
    ) -> None:  # fmt: skip
        self._host, self._gpu, self._models = host, gpu, models
        self._datasets, self._plans, self._checkpoints = datasets, plans, checkpoints
        self._watching = watching
        self._results = Results(host, stores, adapters)
        self._neutral = NeutralCheck(host, models)
        self.training = False  # from the moment that a run was asked for
        self.getting_ready: asyncio.Future[None] | None = None
        self._trainer: Trainer | None = None
        self._stop_asked = self._pauses = False

    def is_stopping(self) -> bool:
        """Whether somebody wants the run to end."""
        return self._stop_asked

    @hears(StartTraining, ResumeTraining)
    def asked_for(self, _: StartTraining | ResumeTraining) -> bool:
        """Note that a run was asked for: it can be stopped, and is the only one, while it waits for its turn."""
        if self.training:  # the button was pressed twice
            return False
        self.training, self._stop_asked, self._pauses = True, False, False
        self._tell_state("loading")
        return True

    @handles(StopTraining, "training")
    async def stop_training(self, _: StopTraining) -> None:
        """Ask the run to end after what the GPU has been given: two steps at most."""
        if not self.training:
            return
        self._stop_asked = True
        self._tell_state("stopping")
        if self._trainer is not None:
            self._trainer.stop()
        if self.getting_ready is not None:
            self.getting_ready.cancel()
        elif self._trainer is None:
            await self._datasets.stop_counting()

    @handles(PauseTraining, "training")
    async def pause_training(self, command: PauseTraining) -> None:
        """Ask the run to end after what the GPU has been given, to go on later. Before its first step: to stop."""
        if self._trainer is None or self.getting_ready is not None:
            await self.stop_training(StopTraining())
        elif not self._stop_asked:
            self._stop_asked = self._pauses = True
            self._tell_state("stopping", detail=PAUSING)
            self._trainer.pause()

    @handles(StartTraining, "training", exclusive=True)
    async def start_training(self, command: StartTraining) -> None:
        """Train from the first step to the last or to a stop; keep the adapter; tell the page all along."""
        await self._guarded(lambda: self._start(command))

    @handles(ResumeTraining, "training", exclusive=True)
    async def resume_training(self, _: ResumeTraining) -> None:
        """Go on with the run that was stopped, from its last checkpoint."""
        await self._guarded(self._resume)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            self._tell_state("error")
            raise
        finally:
            self.training = False
            if self._checkpoints.changed:
                with contextlib.suppress(LoraLabError):  # what ended the run is the one to tell
                    await self._checkpoints.tell_stopped()

    async def _start(self, command: StartTraining) -> None:
        ready = None if self._stop_asked else await self._ready_to_train(command)
        if ready is None:
            self._tell_state("idle", detail=NOTHING_LEARNED)
            return
        opened, dataset, split = ready
        async with self._checkpoints.held() as keeps:
            await self._train(opened, Job.of(dataset, split, command.settings), None, keeps)

    async def _resume(self) -> None:
        opened = self._models.need_model("Going on needs the run's model")
        async with self._checkpoints.held() as keeps:
            if not keeps:
                raise LoraLabError("The run goes on in another tab already.")
            stopped, job = await self._checkpoints.stopped()
            await self._train(opened, job, stopped, keeps)

    async def _train(self, opened: OpenedModel, job: Job, stopped: StoppedAt | None, keeps: bool) -> None:
        """Do a run, from its beginning or from where it was stopped. `keeps`: checkpoints may be stored."""
        keeper = self._checkpoints.keeper(opened, job, stopped) if keeps else None
        learned = await self._learn(job, stopped, keeper)
        error, kept = learned.error, keeper.kept if keeper is not None else 0
        was_stopped = self._stop_asked or error is not None
        is_complete = learned.steps == learned.total_steps or learned.stopped_early
        is_paused = self._pauses and error is None and not is_complete
        if is_paused and kept == learned.steps > 0:
            self._tell_state("idle", detail=f"Paused after step {kept:,} of {learned.total_steps:,}.")
            return
        has_good = not isinstance(error, DivergedError) or error.has_good_step or learned.best_outlives
        verdict = self._watching.tell_verdict(learned.results) if learned.results is not None else None
        if learned.steps > 0 and has_good and not (learned.gpu_is_gone and kept):
            info, other = await self._results.keep_run(opened, job, learned)
            if keeper is not None:
                await keeper.forget()
            trouble = await self._results.tell_what_is_kept()
            # From here to the end of the run nothing else gets a turn: no stop can come after "done".
            self._tell_state("error" if error else "done")
            self._host.post(done_event(job, learned, info, other, was_stopped, verdict))
            if trouble:
                self._host.post(trouble)
        elif error is None:
            at = stopped.checkpoint.state.step if stopped else 0
            self._tell_state("idle", detail=f"Stopped; the run stands at step {at:,}." if at else NOTHING_LEARNED)
        if error:
            if keeper is not None and isinstance(error, DivergedError):
                await keeper.forget()  # it would only lead to the same end
            raise error

    async def _learn(self, job: Job, stopped: StoppedAt | None, keeper: Keeper | None) -> Learned:
        """Run to the end, a stop or an error; after a loss of the GPU on another one, from the last checkpoint."""
        keep: Which = "last" if job.settings.keep == "last" else "best"
        point = Point(stopped.checkpoint.state if stopped else None, keep)
        while True:
            device = await self._gpu.device()
            try:
                return await self._learn_on(device, point, job, stopped, keeper)
            except Exception as error:
                if isinstance(error, KernelError) and device.use_plainer_kernels():
                    self._host.post(Notice(f"{error}\nPlainer kernels, which are slower, take its place."))
                    self._plans.forget()
                    continue
                if not await self._gpu.is_lost(device):
                    if isinstance(error, OutOfMemoryError):
                        raise await self._plans.with_advice(error, job.settings, job.split) from error
                    raise
                lost = error
            self._tell_state("loading", detail="The GPU was lost and is asked for anew; the run goes on then.")
            if (gave_up := await self._give_up(point, lost)) is not None:
                return gave_up
            step = f"step {point.step:,}" if point.step else "its beginning"
            losses = "once" if self._gpu.losses == 1 else f"{self._gpu.losses} times"
            self._host.post(Notice(f"The GPU was lost ({losses}) and is back: the run goes on from {step}."))

    async def _give_up(self, point: Point, lost: Exception) -> Learned | None:
        """Wait for another GPU. Return what there is of a run that cannot go on, or shall not."""
        if self._stop_asked:
            return point.learned(None)
        if point.lost() > MOST_LOSSES:
            said = f"The GPU was lost {MOST_LOSSES + 1} times in a row: {lost}\n{SMALLER}"
            return point.learned(DeviceError(said), gpu_is_gone=True)
        self.getting_ready = asyncio.ensure_future(_quiet(self._gpu.device))
        try:
            await self.getting_ready
        except asyncio.CancelledError:
            if not self._stop_asked:
                raise
        except DeviceError as gone:
            kept = f"What was learned in {point.step:,} steps is kept." if point.step else "Nothing was learned yet."
            return point.learned(DeviceError(f"{gone}\n{kept}"), gpu_is_gone=True)
        finally:
            self.getting_ready = None
        return point.learned(None) if self._stop_asked else None

    async def _learn_on(
        self, device: Device, point: Point, job: Job, stopped: StoppedAt | None, keeper: Keeper | None
    ) -> Learned:
        """Run from `point` on, on this device. Raises what `get_ready` does, and any error that comes of its loss."""
        trainer = self._trainer = (await self._plans.plan_run(job.settings, job.split)).trainer
        point.runs_on(device, trainer)
        try:
            await self._get_ready(trainer, job.settings.seed)
            if self._stop_asked and point.step:
                return point.learned(None)
            if not self._stop_asked:
                await self._go_on(trainer, point, stopped, keeper)
            watch = self._watching.begin(trainer, job)
            error = await self._run(device, watch, job, keeper, point)
            learned = await outcome(watch, error, point.machine)
            if error is not None or not (learned.steps == learned.total_steps or learned.stopped_early):
                return learned
            self._watching.end()
            kept = learned.adapters[0][1]
            return replace(learned, neutral=await self._neutral.after(trainer, job.settings, kept, self.is_stopping))
        finally:
            self._watching.end()
            self._trainer = None
            self._plans.release(trainer)

    async def _go_on(self, trainer: Trainer, point: Point, stopped: StoppedAt | None, keeper: Keeper | None) -> None:
        """Take a run that was got ready to where it was interrupted, if it was, and tell the page of it."""
        differs = await keeper.use(trainer) if keeper is not None else ""
        if point.is_new:
            if stopped is None or keeper is None:
                return
            differs = await keeper.refuse_other(stopped)
        if point.state is not None:
            trainer.restore(point.state)
        curves = point.curves()
        self._host.post(
            TrainingResumed(
                point.step,
                trainer.total_steps,
                tuple(curves.loss),
                tuple(curves.validation),
                differs,
                tuple(curves.accuracy),
            )
        )

    async def _ready_to_train(self, command: StartTraining) -> tuple[OpenedModel, OpenDataset, Split] | None:
        """Return what the run works on, its tokens counted; None when it was stopped meanwhile."""
        opened = self._models.need_model("Training needs a model")
        dataset = self._datasets.dataset
        if dataset is None:
            raise DatasetError("Training needs a dataset: drop a file, or take the sample.")
        refuse(check_settings(command.settings, opened.files.config))
        choices = Choices.of(command.settings)
        is_counted = await self._datasets.count_for(choices)
        if self._stop_asked:
            return None
        if not is_counted:
            raise DatasetError("Training did not begin: the dataset was given up while its tokens were counted.")
        self._datasets.show_choices(choices)
        bad = dataset.cut(choices).bad_rows
        if bad and not command.accept_problems:
            raise DatasetError(f"{bad} rows cannot be used. Mend them, or agree to train on the good rows only.")
        if asks := dataset.asks:
            raise DatasetError(f"Say first how the rows are to be read: {'; '.join(asks)}.")
        split = dataset.split(command.settings)
        if problem := nothing_to_do(split):
            raise DatasetError(problem.message)
        return opened, dataset, split

    async def _get_ready(self, trainer: Trainer, seed: int) -> None:
        """Bring the run to the GPU. What is told is what takes longest: first the weights, then what still compiles."""
        loaded = False

        def on_loaded(done: float, total: float) -> None:
            nonlocal loaded
            loaded = done >= total
            self._tell_state("compiling" if loaded else "loading", *(() if loaded else (done, total)))

        def on_compiled(done: float, total: float) -> None:
            if loaded:
                self._tell_state("compiling", done, total)

        if self._stop_asked:
            return

        def get_ready() -> Awaitable[None]:
            return self._plans.get_ready(trainer, seed, seldom(on_loaded), seldom(on_compiled))

        self.getting_ready = asyncio.ensure_future(quietly(get_ready))
        try:
            await self.getting_ready
        except asyncio.CancelledError:
            if not self._stop_asked:
                raise
        finally:
            self.getting_ready = None

    async def _run(
        self, device: Device, watch: Watch, job: Job, keeper: Keeper | None, point: Point
    ) -> LoraLabError | None:
        """Run to the end; return the error that ended the run early if there was one."""
        if self._stop_asked:
            return None
        trainer = watch.trainer
        self._tell_state("training", trainer.steps_done, trainer.total_steps)
        point.is_new = False
        try:
            every = job.settings.checkpoint_every
            async for event in watch.run(CheckpointTimes(every, 4 * 4 * trainer.adapter.size)):
                if not isinstance(event, CheckpointTaken):
                    if not isinstance(event, SampleAnswered):
                        job.seen.note(event)
                    self._watching.tell(event)
                else:
                    point.take(event.state)  # for a lost GPU; what is stored is for all else
                    if keeper is not None:
                        await keeper.keep(event.state)
                await asyncio.sleep(0)  # let a stop, a rename or a list in
        except LoraLabError as error:
            if await self._gpu.is_lost(device):  # then nothing can be read back
                raise
            return error
        return None

    def _tell_state(self, state: str, done: float = 0, total: float = 0, detail: str = "") -> None:
        if self._stop_asked and state in ("loading", "compiling", "training"):
            state = "stopping"
        self._host.post(TrainingState(state, detail, done, total))  # type: ignore[arg-type]


async def _quiet(work: Callable[[], Awaitable[object]]) -> None:
    await quietly(work)
