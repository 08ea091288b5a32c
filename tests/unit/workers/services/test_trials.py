"""Trials: measured once, given up for what comes after, and their memory given back whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import LoraLabError
from lora_lab.train import RunTime
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import ClearDataset, Command, Failed, PlanTraining, TimeTraining, TrainingTimed
from lora_lab.workers.run.times import RunTimes
from lora_lab.workers.services import trials as trial_service
from lora_lab.workers.services.trials import Trials
from lora_lab.workers.wire.dispatch import Dispatcher, handles
from tests.unit.workers.helpers import SETTINGS, Page
from tests.unit.workers.services.helpers import FakeDataset, FakeDatasets, FakeModels, split_of


class FakePlans:
    """Plans whose runs can fail to get ready, or wait for `go`; `did` is what was asked of it."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def compiled(self) -> None:
        self.did.append("compiled")

    async def plan_run(self, *_: Any) -> Any:
        self.did.append("planned")
        return SimpleNamespace(trainer="trainer")

    async def get_ready(self, trainer: object, seed: int, *_: Any) -> None:
        await self.go.wait()
        if self.error:
            raise self.error
        self.did.append("ready")

    def release(self, trainer: object) -> None:
        self.did.append("released")


class Others:
    """Answers what does not wait for a trial."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @handles(PlanTraining, "settings", exclusive=True)
    async def plan(self, command: PlanTraining) -> None:
        self.page.post(TrainingTimed(-command.request))


class Desk:
    """The service with its neighbours; a dataset of 20 rows is open."""

    def __init__(self, opened: OpenedModel) -> None:
        self.page, self.models, self.times, self.plans = Page(), FakeModels(opened), RunTimes(), FakePlans()
        self.datasets = FakeDatasets(FakeDataset(split_of(20)))
        self.trials = Trials(self.page, self.models, self.datasets, self.plans, self.times)
        self._dispatcher = Dispatcher(self.page, [self.trials, Others(self.page)])

    async def send(self, command: Command) -> None:
        await self._dispatcher.answer(command)

    @property
    def told(self) -> list[tuple[int, float, str | None]]:
        return [(event.request, event.step_ms, event.problem) for event in self.page.all(TrainingTimed)]


At = Callable[[Callable[[Desk], Awaitable[None]]], Page]


@pytest.fixture
def at_desk(monkeypatch: pytest.MonkeyPatch, opened: OpenedModel) -> At:
    """Run some work with the service, where every run takes 5 ms a step."""

    async def measure_run(trainer: object) -> RunTime:
        assert trainer == "trainer"
        await asyncio.sleep(0)
        return RunTime(5.0, 100, 0.0, 4)

    monkeypatch.setattr(trial_service, "measure_run", measure_run)

    def start(work: Callable[[Desk], Awaitable[None]]) -> Page:
        async def main() -> Page:
            desk = Desk(opened)
            await work(desk)
            return desk.page

        return asyncio.run(main())

    return start


def test_what_was_measured_is_not_measured_again(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(TimeTraining(SETTINGS, 1))
        assert desk.plans.did == ["compiled", "planned", "ready", "released"]
        await desk.send(TimeTraining(replace(SETTINGS, learning_rate=1e-3, steps=99), 2))
        assert len(desk.plans.did) == 4 and desk.told == [(1, 5.0, None), (2, 5.0, None)]
        assert desk.page.last(TrainingTimed).total_ms == 99 * 5
        await desk.send(TimeTraining(replace(SETTINGS, max_length=128), 3))
        assert len(desk.plans.did) == 8
        desk.times.forget()
        await desk.send(TimeTraining(SETTINGS, 4))
        assert len(desk.plans.did) == 12 and len(desk.told) == 4

    assert at_desk(work).all(Failed) == []


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_trial_makes_room_and_says_so(at_desk: At, turns: int) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.go.clear()
        trial = asyncio.ensure_future(desk.send(TimeTraining(SETTINGS, 1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(trial, desk.send(PlanTraining(SETTINGS, 2))), timeout=10)
        assert desk.told == [(1, 0.0, ""), (-2, 0.0, None)]
        assert desk.plans.did.count("planned") == desk.plans.did.count("released")
        assert desk.times.get(SETTINGS, split_of(20)) is None
        desk.plans.go.set()
        await desk.send(TimeTraining(SETTINGS, 3))
        assert desk.told[-1] == (3, 5.0, None)

    assert at_desk(work).all(Failed) == []


def test_of_two_trials_that_wait_the_newer_one_is_done(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await asyncio.gather(*(desk.send(TimeTraining(SETTINGS, number)) for number in (1, 2)))
        assert desk.told == [(1, 0.0, ""), (2, 5.0, None)]

    at_desk(work)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("model", "A trial needs a model, and none is open."),
        ("dataset", "A trial needs a dataset whose tokens are counted."),
        ("tokens", "A trial needs a dataset whose tokens are counted."),
        ("rows", "No row has anything left to train on at this length."),
        ("memory", "no memory"),
        ("rank", "rank: "),
    ],
)
def test_what_cannot_be_measured_is_the_answer(at_desk: At, missing: str, said: str) -> None:
    async def work(desk: Desk) -> None:
        settings = SETTINGS
        assert desk.datasets.dataset is not None
        if missing == "model":
            desk.models.model = None
        elif missing == "dataset":
            desk.datasets.dataset = None
        elif missing == "tokens":
            desk.datasets.dataset.masking = "all"
        elif missing == "rows":
            desk.datasets.dataset.parts = split_of(0)
        elif missing == "memory":
            desk.plans.error = LoraLabError("no memory")
        else:
            settings = replace(SETTINGS, rank=0)
        await desk.send(TimeTraining(settings, 1))
        ((request, step_ms, problem),) = desk.told
        assert (request, step_ms) == (1, 0.0) and problem is not None and problem.startswith(said)
        assert desk.plans.did == (["compiled", "planned", "released"] if missing == "memory" else [])

    assert at_desk(work).all(Failed) == []


def test_what_nobody_expected_fails_and_gives_the_memory_back(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.error = KeyError("kernel")
        await desk.send(TimeTraining(SETTINGS, 1))
        assert desk.plans.did[-1] == "released" and desk.told == []
        desk.plans.error = None
        desk.trials.make_room(ClearDataset())  # there is none that could be in the way of anything
        await desk.send(TimeTraining(SETTINGS, 2))
        assert desk.told == [(2, 5.0, None)]

    (failed,) = at_desk(work).all(Failed)
    assert failed.where == "settings" and "'kernel'" in failed.message
