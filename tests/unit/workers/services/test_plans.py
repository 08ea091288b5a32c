"""Plans: what a run would take, what waits for tokens, kernels ahead, and a run's memory given and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import LoraLabError
from lora_lab.train import MemoryReport, RunTime
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import Command, Failed, MemoryPart, PlanTraining, TrainingPlanned, TrainingTimed
from lora_lab.workers.run.planner import RunPlan
from lora_lab.workers.run.times import RunTimes
from lora_lab.workers.services import plans as plan_service
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import SETTINGS, Page
from tests.unit.workers.services.helpers import FakeDataset, FakeDatasets, FakeGpu, FakeModels, split_of

MEMORY = MemoryReport(300, {"weights": 200, "something new": 100}, recomputed_layers=1)


class FakeTrainer:
    """A planned run; `did` is what was done with it."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.end = asyncio.Event()  # of compiling ahead
        self.model = SimpleNamespace(device=SimpleNamespace(info=SimpleNamespace(is_software=True)))
        self.model.release = lambda: self.did.append("model released")
        self.adapter = SimpleNamespace(initialize=lambda seed: self.did.append(f"adapter of seed {seed}"))
        self.adapter.release = lambda: self.did.append("adapter released")

    async def compile_ahead(self, *, one_at_a_time: bool) -> None:
        self.did.append(f"compiles, one at a time: {one_at_a_time}")
        await self.end.wait()
        self.did.append("compiled")

    async def prepare(self, on_progress: Any) -> None:
        on_progress(1, 1)
        self.did.append("prepared")

    def close(self) -> None:
        self.did.append("closed")


class Desk:
    """The service with its neighbours, and a planner that plans what it is told to."""

    def __init__(self, model: OpenedModel | None, dataset: FakeDataset | None, gpu: object | None = "device") -> None:
        self.page, self.models, self.datasets = Page(), FakeModels(model), FakeDatasets(dataset)
        self.times, self.asked_again = RunTimes(), list[Command]()
        self.plans = Plans(self.page, FakeGpu(gpu), self.models, self.datasets, self.times, self.ask_again)
        self.planners: list[object] = []
        self.trainer = FakeTrainer()
        self.error: LoraLabError | None = None
        self._dispatcher = Dispatcher(self.page, [self.plans])

    async def ask_again(self, command: Command) -> None:
        self.asked_again.append(command)

    async def send(self, command: Command) -> None:
        await self._dispatcher.answer(command)

    def make_planner(self, device: object, files: object) -> Desk:
        self.planners.append((device, files))
        return self

    def plan(self, *_: Any) -> RunPlan:
        if self.error:
            raise self.error
        return RunPlan(4, MEMORY, 10, None, self.trainer)  # type: ignore[arg-type]


At = Callable[..., Page]


@pytest.fixture
def at_desk(monkeypatch: pytest.MonkeyPatch, opened: OpenedModel) -> At:
    """Run some work with the service; by default a model and a dataset of 20 rows are open."""
    monkeypatch.setattr(plan_service, "SETTLED_S", 0.001)

    def start(work: Callable[[Desk], Awaitable[None]], **given: Any) -> Page:
        async def main() -> Page:
            desk = Desk(**{"model": opened, "dataset": FakeDataset(split_of(20, 2)), **given})
            monkeypatch.setattr(plan_service, "Planner", desk.make_planner)
            await work(desk)
            return desk.page

        return asyncio.run(main())

    return start


@pytest.mark.parametrize("missing", ["model", "dataset"])
def test_without_a_model_or_a_dataset_nothing_is_said(at_desk: At, missing: str) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(PlanTraining(SETTINGS, 1))
        with pytest.raises(LoraLabError, match="Planning needs a model") if missing == "model" else nullcontext():
            await desk.plans.plan_run(SETTINGS, split_of(1))

    assert at_desk(work, **{missing: None}).events == []


def test_a_plan_says_what_the_run_takes_and_how_long_where_that_is_known(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(PlanTraining(SETTINGS, 1))
        assert desk.page.all(TrainingTimed) == []
        desk.times.keep(SETTINGS, split_of(20, 2), RunTime(5.0, 100, 0.0, 4))
        await desk.send(PlanTraining(replace(SETTINGS, learning_rate=1e-3, steps=20), 2))
        await desk.send(PlanTraining(replace(SETTINGS, rank=8), 3))
        assert len(desk.planners) == 1 and desk.datasets.asked == ["show assistant"] * 3
        desk.plans.forget()
        await desk.send(PlanTraining(SETTINGS, 4))
        assert len(desk.planners) == 2, "another model needs another planner"
        desk.plans.forget()

    page = at_desk(work)
    planned = page.all(TrainingPlanned)
    assert [event.request for event in planned] == [1, 2, 3, 4] and page.all(Failed) == []
    assert (planned[0].memory_bytes, planned[0].recomputed_layers, planned[0].passes) == (300, 1, 4.0)
    assert planned[0].memory_parts == (MemoryPart("Model weights", 200), MemoryPart("something new", 100))
    assert [(event.request, event.total_ms) for event in page.all(TrainingTimed)] == [(2, 100.0), (4, 50.0)]


def test_without_a_gpu_the_numbers_of_the_data_are_told(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(PlanTraining(SETTINGS, 1))
        assert desk.planners == [] and desk.plans.compiling_ahead is None

    (planned,) = at_desk(work, gpu=None).events
    assert isinstance(planned, TrainingPlanned)
    assert "through 20 rows" in planned.summary and planned.memory_bytes == 0 and planned.problems == ()


def test_what_cannot_be_planned_is_a_problem_of_the_form(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(PlanTraining(replace(SETTINGS, rank=0), 1))
        assert desk.datasets.asked == []
        desk.error = LoraLabError("a buffer of 9 GB")
        await desk.send(PlanTraining(SETTINGS, 2))
        assert desk.datasets.dataset is not None
        desk.datasets.dataset.parts = split_of(0)
        await desk.send(PlanTraining(SETTINGS, 3))
        desk.datasets.dataset.parts = split_of(3, 0, needs_held=True)
        await desk.send(PlanTraining(SETTINGS, 4))
        assert desk.plans.compiling_ahead is None

    problems = [event.problems for event in at_desk(work).all(TrainingPlanned)]
    fields = [problem.field for (problem,) in problems]
    assert fields == ["rank", "batch", "max_length", "max_length"]
    assert problems[1][0].message == "a buffer of 9 GB" and "validation file" in problems[3][0].message


@pytest.mark.parametrize("why", ["masking", "validation"])
def test_a_plan_that_waits_for_tokens_is_asked_for_again(at_desk: At, why: str) -> None:
    command = PlanTraining(replace(SETTINGS, masking="all") if why == "masking" else SETTINGS, 7)

    async def work(desk: Desk) -> None:
        desk.datasets.is_reading_validation = why == "validation"
        await desk.send(command)
        assert desk.datasets.asked == [f"when counted for {command.settings.masking}"]
        assert desk.page.events == [] and desk.asked_again == [] and desk.datasets.waiting is not None
        await desk.datasets.waiting()
        assert desk.asked_again == [command]

    at_desk(work)


def test_kernels_are_compiled_ahead_of_the_last_plan_alone(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.plans.compiled()  # nothing is
        first = desk.trainer
        await desk.send(PlanTraining(SETTINGS, 1))
        desk.trainer = second = FakeTrainer()
        await desk.send(PlanTraining(SETTINGS, 2))  # before the first had settled
        waiting = asyncio.ensure_future(desk.plans.compiled())
        while not second.did:
            await asyncio.sleep(0.001)
        assert first.did == [] and not waiting.done()
        second.end.set()
        await waiting
        assert second.did == ["compiles, one at a time: True", "compiled"]
        desk.trainer = third = FakeTrainer()
        await desk.send(PlanTraining(SETTINGS, 3))
        while not third.did:
            await asyncio.sleep(0.001)
        desk.plans.forget()
        await desk.plans.compiled()
        assert third.did == ["compiles, one at a time: True"]

    assert at_desk(work).all(Failed) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_gets_its_memory_all_at_once(at_desk: At, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    told: list[str] = []

    async def work(desk: Desk) -> None:
        trainer = desk.trainer

        async def fill_model(model: object, on_progress: Any) -> None:
            assert model is trainer.model
            on_progress(1, 2)
            await asyncio.sleep(0.001)
            if fails:
                raise LoraLabError("the file is gone")
            trainer.did.append("filled")

        monkeypatch.setattr(plan_service, "fill_model", fill_model)
        getting = desk.plans.get_ready(
            trainer, 3, lambda done, total: told.append(f"loaded {done} of {total}"),  # type: ignore[arg-type]
            lambda done, total: told.append(f"compiled {done} of {total}"),
        )  # fmt: skip
        with pytest.raises(LoraLabError, match="gone") if fails else nullcontext():
            await getting
        assert trainer.did == ["adapter of seed 3", "prepared", *([] if fails else ["filled"])]
        trainer.did.clear()
        desk.plans.release(trainer)  # type: ignore[arg-type]
        assert trainer.did == ["closed", "adapter released", "model released"]

    at_desk(work)
    assert told == ["loaded 1 of 2", "compiled 1 of 1"]
