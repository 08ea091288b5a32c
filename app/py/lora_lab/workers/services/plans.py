"""A run before it has begun: what it will take, its kernels compiled ahead, then its memory given and taken back.

Nobody waits for what is compiled ahead. Kernels that were asked for are compiled to the end and stay on the device,
whoever needs them next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lora_lab.errors import LoraLabError, OutOfMemoryError
from lora_lab.gpu.device import Progress
from lora_lab.model import fill_model
from lora_lab.train import Trainer
from lora_lab.workers.dataset.opened import Choices, Split
from lora_lab.workers.protocol import Command, FieldProblem, MemoryPart, PlanTraining, TrainingPlanned, TrainSettings
from lora_lab.workers.run.advice import less_memory
from lora_lab.workers.run.checks import nothing_to_do
from lora_lab.workers.run.planner import Planner, RunPlan, check_settings
from lora_lab.workers.run.times import RunTimes, as_event
from lora_lab.workers.run.words import run_notes, run_summary
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import Models
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import phase
from lora_lab.workers.wire.tasks import quietly

PLANNED_WITHIN_S = 120.0  # a large model is traced in one go
SETTLED_S = 0.15  # after a plan, until its kernels are asked for: settings often change again at once
PARTS = {
    "weights": "Model weights",
    "activations": "Activations",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "AdamW's moments",
    "batch": "Batch and tables",
    "samples": "Answers while it learns",
}


class Plans:
    """Answers PlanTraining. `answer` is called with a command that has to wait for tokens, when they are counted."""

    def __init__(
        self, host: Host, gpu: Gpu, models: Models, datasets: Datasets, times: RunTimes,
        answer: Callable[[Command], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._host, self._gpu, self._models, self._datasets, self._times = host, gpu, models, datasets, times
        self._answer = answer
        self._planner: Planner | None = None
        self.compiling_ahead: asyncio.Future[None] | None = None  # the last plan's kernels

    # --- planning ---

    @handles(PlanTraining, "settings", exclusive=True)
    async def plan_training(self, command: PlanTraining) -> None:
        """Say how many passes the steps make and what they take on the GPU; nothing is allocated for it."""
        model, dataset = self._models.model, self._datasets.dataset
        if model is None or dataset is None:
            return
        settings = command.settings
        if problems := check_settings(settings, model.files.config):
            self._host.post(TrainingPlanned(command.request, problems=tuple(problems)))
            return
        choices = Choices.of(settings)
        # While a validation file is read nothing is described: the page takes the next description for its end.
        if self._datasets.is_reading_validation or not dataset.is_encoded(choices.masking, choices.chat_format):
            self._datasets.when_counted(choices, lambda: self._answer(command))
            return
        self._datasets.show_choices(choices)
        split = dataset.split(settings)
        if problem := nothing_to_do(split):
            self._host.post(TrainingPlanned(command.request, problems=(problem,)))
            return
        await self._plan(command.request, settings, split)

    async def _plan(self, request: int, settings: TrainSettings, split: Split) -> None:
        passes = settings.steps * settings.batch / len(split.trained)
        planned = TrainingPlanned(request, settings.steps, passes)
        try:
            await self._gpu.device()
        except LoraLabError:  # no GPU: the numbers of the data are still worth having
            summary = run_summary(settings, split, None)
            self._host.post(replace(planned, summary=summary))
            return
        try:
            plan = await self.plan_run(settings, split)
        except OutOfMemoryError as error:
            message = str(await self.with_advice(error, settings, split))
            self._host.post(replace(planned, problems=(FieldProblem("batch", message),)))
            return
        except LoraLabError as error:
            self._host.post(replace(planned, problems=(FieldProblem("batch", str(error)),)))
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
        self._host.post(planned)
        if known := self._times.get(settings, split):
            self._host.post(as_event(request, settings, known))
        self._compile_ahead(plan.trainer)

    async def plan_run(self, settings: TrainSettings, split: Split) -> RunPlan:
        """Return the plan of a run, for the open model. Raises what Planner.plan does."""
        device = await self._gpu.device()
        if self._planner is None:
            self._planner = Planner(device, self._models.need_model("Planning needs a model").files)
        with busy(self._host, "planning the run", PLANNED_WITHIN_S):
            return self._planner.plan(settings, split.trained, split.held)

    async def with_advice(self, error: OutOfMemoryError, settings: TrainSettings, split: Split) -> OutOfMemoryError:
        """Return the error with what would take less: which settings, and how much they save."""
        if self._planner is None:
            return error
        return OutOfMemoryError("\n".join([str(error), *less_memory(self._planner, settings, split)]))

    # --- kernels ---

    def _compile_ahead(self, trainer: Trainer) -> None:
        """Have the run's kernels compiled while nothing else is to be done, in place of an earlier plan's.

        On a software device one after another, or the compiler would take all of the processor from chat and page.
        """
        if self.compiling_ahead is not None:
            self.compiling_ahead.cancel()  # what it has asked for already goes on

        async def settled() -> None:
            await asyncio.sleep(SETTLED_S)
            with phase("kernels ahead"):
                await trainer.compile_ahead(one_at_a_time=trainer.model.device.info.is_software)

        self.compiling_ahead = asyncio.ensure_future(quietly(settled))
        # What cannot be compiled is told when the run is begun.
        self.compiling_ahead.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def compiled(self) -> None:
        """Wait until nothing is compiled ahead any more.

        Kernels that are being compiled take the GPU's process from the steps: on an H100 these took twice as long then.
        """
        if self.compiling_ahead is not None:
            await asyncio.wait([self.compiling_ahead])

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

    def forget(self) -> None:
        """Another model is opened, or the GPU was lost: what was planned and compiled was the last one's."""
        self._planner = None
        if self.compiling_ahead is not None:
            self.compiling_ahead.cancel()
