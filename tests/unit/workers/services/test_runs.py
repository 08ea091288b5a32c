"""Runs: one at a time, stopped wherever they are, their memory given back and what they learned kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import TrainConfig
from lora_lab.data.tokens.chat_formats import CHATML, PLAIN
from lora_lab.errors import DeviceError, KernelError, LoraLabError, OutOfMemoryError
from lora_lab.formats.peft import RUN_FILE
from lora_lab.train import CheckpointTaken, CheckpointTimes, History, RunState, SampleTimes, StepDone, ValidationDone
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    Command,
    Failed,
    Notice,
    StartTraining,
    StopTraining,
    Storage,
    TrainingDone,
    TrainingResumed,
    TrainingState,
    TrainingStep,
    ValidationLoss,
)
from lora_lab.workers.services import results as result_service
from lora_lab.workers.services import runs as run_service
from lora_lab.workers.services.runs import NOTHING_LEARNED, Runs
from lora_lab.workers.services.watching import Watching
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import SETTINGS, Page
from tests.unit.workers.services.helpers import (
    FakeCheckpoints,
    FakeDataset,
    FakeDatasets,
    FakeGpu,
    FakeModels,
    FakeStores,
    adapter_files,
    fake_device,
    split_of,
)

START = StartTraining(replace(SETTINGS, sample_every=0))  # what answers take a GPU for: tests/gpu/test_watch.py


class FakeTrainer:
    """A run of four steps; it breaks off after `good` of them."""

    def __init__(self, good: int = 4) -> None:
        self.steps_done, self.total_steps, self.good = 0, 4, good
        self.memory = SimpleNamespace(recomputed_layers=1, parts={"adapter": 64})
        self.adapter, self.size = self, 16
        self._stop = False
        self.losses: list[float] = []
        self.history, self.watched, self.config = History(), {}, TrainConfig(steps=4)
        self.model = SimpleNamespace(config=SimpleNamespace(vocab_size=384), device=fake_device())
        self.stopped_early, self.asked_for = False, {}

    async def to_tensors(self) -> dict:
        return {}

    def stop(self) -> None:
        self._stop = True

    async def run(
        self, checkpoints: CheckpointTimes, samples: SampleTimes, patience: int, *, from_start: bool
    ) -> AsyncIterator[StepDone | ValidationDone]:
        self.asked_for = {"patience": patience, "from start": from_start}
        while self.steps_done < self.total_steps and not self._stop:
            if self.steps_done == self.good:
                raise LoraLabError("the loss is no number")
            self.steps_done += 1
            self.losses.extend((3.0 / self.steps_done, 1.0))
            yield StepDone(self.steps_done, 4, 3.0 / self.steps_done, 1.0, 1e-3, 10, 12, 100.0, 1.0, 1.0)
        yield ValidationDone(self.steps_done, 2.0, 5.0, 0.25)


class FakePlans:
    """Plans of one run, which gets ready as soon as it may `go`; `did` is what was asked of it."""

    def __init__(self) -> None:
        self.trainer: Any = FakeTrainer()
        self.did: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def plan_run(self, *_: Any) -> Any:
        return SimpleNamespace(trainer=self.trainer)

    async def get_ready(self, trainer: object, seed: int, on_loaded: Any, on_compiled: Any) -> None:
        on_compiled(1, 8)  # not told: the weights take longer
        on_loaded(0, 50)
        await self.go.wait()
        if self.error:
            raise self.error
        on_loaded(50, 50)
        on_compiled(8, 8)
        self.did.append("ready")

    def release(self, trainer: object) -> None:
        self.did.append("released")

    def forget(self) -> None:
        self.did.append("forgotten")

    async def with_advice(self, error: OutOfMemoryError, *_: Any) -> OutOfMemoryError:
        return OutOfMemoryError(f"{error}\nRank 8 in place of 16: 5 MB less")


class FakeAdapters:
    """Adapters that only count how often they were told of."""

    told = 0

    async def tell_adapters(self) -> None:
        self.told += 1


class Desk:
    """The service with its neighbours; a dataset of 20 rows is open."""

    def __init__(self, opened: OpenedModel) -> None:
        self.page, self.models, self.plans, self.adapters = Page(), FakeModels(opened), FakePlans(), FakeAdapters()
        self.gpu, self.stores = FakeGpu(self), FakeStores(self.page)
        self.datasets = FakeDatasets(FakeDataset(split_of(20)))
        self.runs = Runs(
            self.page, self.gpu, self.stores, self.models, self.adapters, self.datasets, self.plans, FakeCheckpoints(),
            Watching(self.page, self.models),
        )  # fmt: skip
        self.info = fake_device().info  # it is the device, too
        self.gone, self.next_trainer, self.plainer = False, None, [False]
        self._dispatcher = Dispatcher(self.page, [self.runs])

    def lose(self) -> None:
        """The GPU is lost; the next one, if there is to be one, is another object."""
        self.gpu.losses += 1
        self.gpu.found = None if self.gone else fake_device()
        if self.next_trainer is not None:
            self.plans.trainer = self.next_trainer

    def use_plainer_kernels(self) -> bool:
        return self.plainer.pop(0)

    async def send(self, command: Command) -> None:
        await self._dispatcher.answer(command)

    @property
    def states(self) -> list[tuple[str, float, float]]:
        return [(event.state, event.done, event.total) for event in self.page.all(TrainingState)]

    async def names(self) -> list[str]:
        """What was kept is called."""
        return [info.name for info in await self.stores.shelf.all()]


At = Callable[[Callable[[Desk], Awaitable[None]]], Page]


@pytest.fixture
def at_desk(monkeypatch: pytest.MonkeyPatch, opened: OpenedModel) -> At:
    def written(*given: Any) -> dict[str, bytes]:
        return {**adapter_files(opened), RUN_FILE: given[5].record}

    monkeypatch.setattr(result_service, "write_adapter", written)

    def start(work: Callable[[Desk], Awaitable[None]]) -> Page:
        async def main() -> Page:
            desk = Desk(opened)
            await work(desk)
            assert not desk.runs.training and desk.runs.getting_ready is None
            return desk.page

        return asyncio.run(main())

    return start


def test_a_run_is_told_from_the_press_to_the_end_and_kept(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(START)
        assert desk.plans.did == ["ready", "released"]
        assert desk.datasets.asked == ["count for assistant", "show assistant"]
        assert desk.states == [
            ("loading", 0, 0), ("loading", 0, 50), ("compiling", 0, 0), ("compiling", 8, 8), ("training", 0, 4),
            ("done", 0, 0),
        ]  # fmt: skip
        assert await desk.names() == ["ships, 4 steps"] and desk.adapters.told == 1

    page = at_desk(work)
    assert [event.step for event in page.all(TrainingStep)] == [1, 2, 3, 4]
    assert page.all(ValidationLoss) == [ValidationLoss(4, 2.0, math.exp(2.0), 0.25)] and page.all(Failed) == []
    done = page.events[-1]
    assert isinstance(done, TrainingDone) and not done.stopped and page.all(Storage) == [Storage(True)]
    assert done.adapter.loss_curve == ((1, 3.0), (2, 1.5), (3, 1.0), (4, 0.75)) and done.adapter.final_loss == 0.75
    assert (done.adapter.rows, done.adapter.recomputed_layers, done.adapter.rank) == (20, 1, SETTINGS.rank)


@pytest.mark.parametrize("chat_format", ["auto", "plain"])
@pytest.mark.parametrize("base", [False, True])
def test_the_format_that_was_learned_goes_along_where_it_is_not_the_models_own(
    at_desk: At, monkeypatch: pytest.MonkeyPatch, opened_base: OpenedModel, base: bool, chat_format: str
) -> None:
    written: list[str | None] = []
    plain = result_service.write_adapter
    monkeypatch.setattr(result_service, "write_adapter", lambda *given: (written.append(given[4]), plain(*given))[1])

    async def work(desk: Desk) -> None:
        if base:
            desk.models.model = opened_base
        await desk.send(replace(START, settings=replace(START.settings, chat_format=chat_format)))

    done = at_desk(work).last(TrainingDone)
    wanted = PLAIN if chat_format == "plain" else CHATML
    assert written == [wanted.source if base else None]
    assert done.adapter.chat_format == (wanted.title if base else "")


def test_a_second_press_is_one_run_and_a_stop_without_one_is_nothing(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(StopTraining())
        assert desk.page.events == [] and desk.datasets.asked == []
        await asyncio.gather(desk.send(START), desk.send(START))
        assert len(desk.page.all(TrainingDone)) == 1 and desk.states.count(("loading", 0, 0)) == 1
        desk.plans.trainer = FakeTrainer()
        await desk.send(START)  # and the next press is the next run
        assert len(desk.page.all(TrainingDone)) == 2

    assert at_desk(work).all(Failed) == []


@pytest.mark.parametrize("when", ["waiting", "counting", "getting ready", "training"])
def test_a_stop_ends_a_run_wherever_it_is(at_desk: At, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    async def work(desk: Desk) -> None:
        if when == "counting":

            async def stopped(_: Any) -> bool:
                await desk.send(StopTraining())
                return False

            monkeypatch.setattr(desk.datasets, "count_for", stopped)
        if when == "getting ready":
            desk.plans.go.clear()
        run = asyncio.ensure_future(desk.send(START))
        if when == "waiting":
            assert desk.runs.asked_for(START)  # it has come, and not yet its turn
            run.cancel()
            await desk.send(StopTraining())
            await desk.runs.start_training(START)
        elif when == "getting ready":
            while desk.runs.getting_ready is None:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            await desk.send(StopTraining())
        elif when == "training":
            while not desk.page.all(TrainingStep):
                await asyncio.sleep(0)
            await desk.send(StopTraining())
        await asyncio.gather(run, return_exceptions=True)
        assert ("stopping", 0, 0) in desk.states
        assert ("stop counting" in desk.datasets.asked) is (when in ("waiting", "counting"))
        if when == "training":
            assert desk.page.last(TrainingDone).stopped and (await desk.names()) == ["ships, 1 step"]
            assert desk.states[-1] == ("done", 0, 0)
        else:
            assert desk.page.last(TrainingState) == TrainingState("idle", NOTHING_LEARNED)
            assert await desk.names() == [] and desk.page.all(TrainingDone) == []
        assert desk.plans.did == {"getting ready": ["released"], "training": ["ready", "released"]}.get(when, [])

    assert at_desk(work).all(Failed) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no model", "Training needs a model"),
        ("no dataset", "Training needs a dataset"),
        ("bad settings", "rank: "),
        ("given up", "Training did not begin"),
        ("bad rows", "2 rows cannot be used"),
        ("a question", "Say first how the rows are to be read: what is it."),
        ("nothing left", "No row has anything left"),
    ],
)
def test_a_run_that_cannot_begin_says_why_and_takes_no_memory(at_desk: At, change: str, said: str) -> None:
    async def work(desk: Desk) -> None:
        command, dataset = START, desk.datasets.dataset
        assert dataset is not None
        if change == "no model":
            desk.models.model = None
        elif change == "no dataset":
            desk.datasets.dataset = None
        elif change == "bad settings":
            command = replace(START, settings=replace(SETTINGS, rank=0))
        elif change == "given up":
            desk.datasets.can_count = False
        elif change == "bad rows":
            dataset.bad_rows = 2
        elif change == "a question":
            dataset.asks = ("what is it",)
        else:
            dataset.parts = split_of(0)
        await desk.send(command)
        assert desk.states == [("loading", 0, 0), ("error", 0, 0)] and desk.plans.did == []
        if change == "bad rows":  # the control
            await desk.send(replace(command, accept_problems=True))
            assert len(desk.page.all(TrainingDone)) == 1

    (failed,) = at_desk(work).all(Failed)
    assert failed.where == "training" and failed.message.startswith(said) and failed.details is None


@pytest.mark.parametrize("good", [0, 2])
def test_what_was_learned_before_an_error_is_kept(at_desk: At, good: int) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.trainer = FakeTrainer(good)
        await desk.send(START)
        assert desk.states[-1] == ("error", 0, 0) and desk.plans.did == ["ready", "released"]
        assert await desk.names() == (["ships, 2 steps"] if good else [])
        assert [event.stopped for event in desk.page.all(TrainingDone)] == ([True] if good else [])

    page = at_desk(work)
    assert page.events[-1] == Failed("training", "the loss is no number")


def test_memory_is_given_back_whatever_happens(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.trainer, desk.plans.error = FakeTrainer(2), KeyError("kernel")
        await desk.send(START)
        assert desk.plans.did[-1] == "released" and await desk.names() == []

    page = at_desk(work)
    (failed,) = page.all(Failed)
    assert "'kernel'" in failed.message
    assert page.all(TrainingDone) == [] and page.last(TrainingState).state == "error"


class LosingTrainer(FakeTrainer):
    """A run whose GPU is lost after `good` steps; a checkpoint was taken after the step before, if that is not 0."""

    def __init__(self, desk: Desk, good: int) -> None:
        super().__init__(good)
        self.desk = desk

    async def run(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        async for event in self.steps():
            yield event

    async def steps(self) -> AsyncIterator[Any]:
        while self.steps_done < self.total_steps:
            if self.steps_done == self.good:
                self.desk.lose()
                raise DeviceError("mapping failed")
            self.steps_done += 1
            self.losses.extend((3.0 / self.steps_done, 1.0))
            yield StepDone(self.steps_done, 4, 3.0 / self.steps_done, 1.0, 1e-3, 10, 12, 100.0, 1.0, 1.0)
            if self.steps_done == self.good - 1:
                losses = np.array(self.losses, np.float32).reshape(-1, 2)
                yield CheckpointTaken(RunState(self.steps_done, {"a": np.ones(1)}, {}, {}, losses))

    def restore(self, state: RunState) -> None:
        self.desk.plans.did.append(f"from {state.step}")
        self.steps_done, self.losses = state.step, list(state.losses.reshape(-1))


@pytest.mark.parametrize(("good", "goes_on"), [(1, 0), (3, 2)])
def test_a_lost_gpu_interrupts_a_run_and_does_not_end_it(at_desk: At, good: int, goes_on: int) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.trainer, desk.next_trainer = LosingTrainer(desk, good), FakeTrainerFrom()
        desk.next_trainer.desk = desk
        await desk.send(START)
        restored = [f"from {goes_on}"] if goes_on else []
        assert desk.plans.did == ["ready", "released", "ready", *restored, "released"]
        assert await desk.names() == ["ships, 4 steps"] and desk.states[-1] == ("done", 0, 0)
        assert ("training", goes_on, 4) in desk.states[-2:]

    page = at_desk(work)
    (again,), (notice,) = page.all(TrainingResumed), page.all(Notice)
    assert (again.step, again.total_steps, len(again.loss_curve)) == (goes_on, 4, goes_on)
    assert "The GPU was lost (once) and is back" in notice.message
    done = page.last(TrainingDone)
    assert [step for step, _ in done.adapter.loss_curve] == [1, 2, 3, 4] and not done.stopped
    assert page.all(Failed) == []


class FakeTrainerFrom(FakeTrainer):
    desk: Desk

    def restore(self, state: RunState) -> None:
        self.desk.plans.did.append(f"from {state.step}")
        self.steps_done, self.losses = state.step, list(state.losses.reshape(-1))


def test_where_no_gpu_comes_any_more_what_was_learned_is_kept(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.trainer, desk.gone = LosingTrainer(desk, 3), True
        await desk.send(START)
        assert await desk.names() == ["ships, 2 steps"] and desk.states[-1] == ("error", 0, 0)

    page = at_desk(work)
    (failed,) = page.all(Failed)
    assert "There is no GPU." in failed.message and "What was learned in 2 steps is kept" in failed.message
    assert page.last(TrainingDone).stopped


def test_a_run_that_brings_the_gpu_down_each_time_is_given_up(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.trainer = desk.next_trainer = LosingTrainer(desk, 0)
        await desk.send(START)
        assert await desk.names() == [] and desk.gpu.losses == run_service.MOST_LOSSES + 1

    (failed,) = at_desk(work).all(Failed)
    assert "lost 4 times in a row" in failed.message and "fewer rows" in failed.message


def test_a_kernel_that_does_not_compile_has_a_plainer_one_take_its_place(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.error, desk.plainer = KernelError("linear/tiled.forward does not compile: no"), [True, False]
        await desk.send(START)  # neither does: told, and no third try
        assert desk.plans.did == ["released", "forgotten", "released"]
        assert "linear/tiled.forward" in desk.page.last(Failed).message

    (again,) = at_desk(work).all(Notice)
    assert "linear/tiled.forward" in again.message and "Plainer kernels" in again.message


def test_what_does_not_fit_comes_with_advice(at_desk: At) -> None:
    async def work(desk: Desk) -> None:
        desk.plans.error = OutOfMemoryError("no room")
        await desk.send(START)

    (failed,) = at_desk(work).all(Failed)
    assert failed.message == "no room\nRank 8 in place of 16: 5 MB less" and failed.kind == "OutOfMemoryError"
