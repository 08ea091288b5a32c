"""Trials: a few steps of a run are timed on an adapter that is thrown away.

A trial is given up as soon as the page asks for something else that needs its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lora_lab.errors import LoraLabError
from lora_lab.train import RunTime, measure_run
from lora_lab.workers.dataset.opened import Choices
from lora_lab.workers.protocol import (
    ClearDataset,
    Command,
    ImportAdapter,
    OpenModel,
    PlanTraining,
    ReadDataset,
    ReadValidation,
    ResumeTraining,
    StartTraining,
    TimeTraining,
    TrainingTimed,
    TrainSettings,
)
from lora_lab.workers.run.checks import nothing_to_do, refuse
from lora_lab.workers.run.planner import check_settings
from lora_lab.workers.run.times import RunTimes, as_event
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.wire.dispatch import Host, handles, hears
from lora_lab.workers.wire.tasks import quietly


class Trials:
    """Answers TimeTraining."""

    def __init__(self, host: Host, models: Models, datasets: Datasets, plans: Plans, times: RunTimes) -> None:
        self._host, self._models, self._datasets, self._plans, self._times = host, models, datasets, plans, times
        self._newest: Command | None = None  # of those that overtake a trial
        self._trial: asyncio.Future[RunTime | None] | None = None

    @hears(OpenModel, ReadDataset, ReadValidation, ClearDataset, PlanTraining, TimeTraining, StartTraining,
           ResumeTraining, ImportAdapter)  # fmt: skip
    def make_room(self, command: Command) -> None:
        """End the trial that is going on, and any that has not begun: these commands do not wait for one."""
        self._newest = command
        if self._trial is not None:
            self._trial.cancel()

    @handles(TimeTraining, "settings", exclusive=True)
    async def time_training(self, command: TimeTraining) -> None:
        """Time a few steps of the run on an adapter that is thrown away, and say how long the whole would take."""
        request, settings = command.request, command.settings
        if self._newest is not command:
            self._host.post(TrainingTimed(request, problem=""))
            return
        self._trial = asyncio.ensure_future(quietly(lambda: self._time(settings)))
        try:
            timed = await self._trial
        except asyncio.CancelledError:
            if not self._trial.cancelled():
                raise
            timed = None  # overtaken before it had begun
        except LoraLabError as error:
            self._host.post(TrainingTimed(request, problem=str(error)))
            return
        finally:
            self._trial = None
        self._host.post(as_event(request, settings, timed) if timed else TrainingTimed(request, problem=""))

    async def _time(self, settings: TrainSettings) -> RunTime:
        opened = self._models.need_model("A trial needs a model")
        refuse(check_settings(settings, opened.files.config))
        dataset, choices = self._datasets.dataset, Choices.of(settings)
        if dataset is None or not dataset.is_encoded(choices.masking, choices.chat_format):
            raise LoraLabError("A trial needs a dataset whose tokens are counted.")
        split = dataset.split(settings)
        if problem := nothing_to_do(split):
            raise LoraLabError(problem.message)
        if (timed := self._times.get(settings, split)) is None:
            await self._plans.compiled()
            trainer = (await self._plans.plan_run(settings, split)).trainer
            nobody: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
            try:
                await self._plans.get_ready(trainer, settings.seed, nobody, nobody)
                timed = await measure_run(trainer)
                self._times.keep(settings, split, timed)
            finally:
                self._plans.release(trainer)
        return timed
