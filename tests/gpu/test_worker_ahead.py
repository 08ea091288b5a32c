"""The train worker before Train is pressed: kernels ahead, the trial, what overtakes it, a stop while getting ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lora_lab.gpu import Device
from lora_lab.workers.protocol import (
    Command,
    Failed,
    PlanTraining,
    ReadDataset,
    StartTraining,
    StopTraining,
    TimeTraining,
    TrainingDone,
    TrainingPlanned,
    TrainingState,
    TrainingStep,
    TrainingTimed,
    TrainSettings,
)
from tests.unit.workers.helpers import Session, drive, pairs

SETTINGS = TrainSettings(
    steps=6, batch=4, learning_rate=1e-2, rank=4, alpha=8, max_length=96, seed=0, targets=("q_proj", "v_proj"),
    validation_fraction=0.2,
)  # fmt: skip
Work = Callable[[Session], Awaitable[None]]
Drive = Callable[[Work], Session]


@pytest.fixture
def drive_on_gpu(device: Device, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Drive:
    """Run some work with a worker that has this device and a dataset; everything is given back afterwards."""

    def start(work: Work) -> Session:
        async def with_device(session: Session) -> None:
            async def opened() -> Device:
                return device

            session.worker.gpu._device = asyncio.ensure_future(opened())
            await session.send(ReadDataset(text="\n".join(map(json.dumps, pairs(40)))))
            await work(session)
            if session.worker.plans.compiling_ahead is not None:
                session.worker.plans.compiling_ahead.cancel()
            await asyncio.sleep(0)

        before = device.num_buffers, device.memory_in_use_bytes
        session = drive(tiny_model_folder, monkeypatch, with_device)
        assert [event.message for event in session.page.all(Failed)] == []
        assert (device.num_buffers, device.memory_in_use_bytes) == before
        return session

    return start


def losses(session: Session) -> list[float]:
    return [event.loss for event in session.page.all(TrainingStep)]


def test_the_trial_tells_the_time_and_it_is_kept_while_it_is_true(drive_on_gpu: Drive) -> None:
    async def work(session: Session) -> None:
        async def planned(settings: TrainSettings, request: int) -> list[TrainingTimed]:
            await session.send(PlanTraining(settings, request))
            await asyncio.sleep(0)
            assert session.page.last(TrainingPlanned).request == request
            assert session.page.last(TrainingPlanned).problems == ()
            return [event for event in session.page.all(TrainingTimed) if event.request == request]

        assert await planned(SETTINGS, 1) == []
        await session.send(TimeTraining(SETTINGS, 1))
        timed = session.page.last(TrainingTimed)
        assert (timed.request, timed.problem) == (1, None)
        assert timed.measured_steps >= 1
        assert timed.step_ms > 0
        assert timed.tokens_per_s > 0
        assert timed.total_ms > SETTINGS.steps * timed.step_ms  # and its validations

        more = replace(SETTINGS, learning_rate=1e-3, steps=60, alpha=16, weight_decay=0.1, schedule="linear")
        (known,) = await planned(more, 2)
        assert known.step_ms == timed.step_ms
        assert known.total_ms > 60 * timed.step_ms
        for request, other in enumerate([{"rank": 8}, {"max_length": 64}, {"batch": 8}, {"save_memory": True}], 3):
            assert await planned(replace(SETTINGS, **other), request) == []
        assert len(await planned(SETTINGS, 9)) == 1

    drive_on_gpu(work)


@pytest.mark.parametrize("overtaker", [PlanTraining(SETTINGS, 2), TimeTraining(SETTINGS, 2), StartTraining(SETTINGS)])
@pytest.mark.parametrize("turns", [1, 2, 5, 20])
def test_a_trial_that_is_overtaken_is_given_up(drive_on_gpu: Drive, overtaker: Command, turns: int) -> None:
    async def work(session: Session) -> None:
        worker = session.worker
        trial = asyncio.ensure_future(worker.answer(TimeTraining(SETTINGS, 1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not trial.done(), "the trial was over before anything could overtake it"
        await worker.answer(overtaker)
        await trial
        first = session.page.all(TrainingTimed)[0]
        assert (first.request, first.problem, first.step_ms) == (1, "", 0.0)

    session = drive_on_gpu(work)
    if isinstance(overtaker, StartTraining):
        assert len(losses(session)) == SETTINGS.steps
    elif isinstance(overtaker, TimeTraining):
        assert session.page.last(TrainingTimed).step_ms > 0
    else:
        assert session.page.last(TrainingPlanned).memory_bytes > 0


def test_a_trial_waits_until_the_kernels_are_compiled(drive_on_gpu: Drive) -> None:
    """Whatever becomes of that: what cannot be compiled is told by the trial itself, or the run."""

    async def work(session: Session) -> None:
        worker = session.worker
        for request, end in enumerate([lambda f: f.set_result(None), lambda f: f.cancel()]):
            compiling: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            worker.plans.compiling_ahead = compiling
            settings = replace(SETTINGS, rank=4 + 4 * request)
            trial = asyncio.ensure_future(worker.answer(TimeTraining(settings, request)))
            before = worker_memory(session)
            await asyncio.sleep(0.2)
            assert not trial.done()
            assert worker_memory(session) == before, "what waits takes no memory"
            end(compiling)
            await trial
            assert session.page.last(TrainingTimed).request == request
            assert session.page.last(TrainingTimed).step_ms > 0

    drive_on_gpu(work)


def worker_memory(session: Session) -> int:
    device = session.worker.gpu._device
    assert device is not None
    return device.result().memory_in_use_bytes


def test_a_run_after_a_trial_has_the_losses_of_one_without(drive_on_gpu: Drive) -> None:
    async def alone(session: Session) -> None:
        await session.send(StartTraining(SETTINGS))

    async def after_trial(session: Session) -> None:
        await session.send(PlanTraining(SETTINGS, 1))
        await session.send(TimeTraining(SETTINGS, 1))
        assert session.page.last(TrainingTimed).step_ms > 0
        await session.send(StartTraining(SETTINGS))

    async def other_seed(session: Session) -> None:
        await session.send(StartTraining(replace(SETTINGS, seed=1)))

    wanted = losses(drive_on_gpu(alone))
    assert len(wanted) == SETTINGS.steps
    assert losses(drive_on_gpu(after_trial)) == wanted
    assert losses(drive_on_gpu(other_seed)) != wanted


def test_a_plan_compiles_what_the_run_needs(drive_on_gpu: Drive, device: Device) -> None:
    known = dict(device._pipelines)
    device._pipelines.clear()

    async def work(session: Session) -> None:
        await session.send(PlanTraining(SETTINGS, 1))
        ahead = session.worker.plans.compiling_ahead
        assert ahead is not None
        await ahead
        compiled = set(device._pipelines)
        assert compiled
        # Another rate is the same run as far as kernels go, and what was traced serves it too.
        await session.send(StartTraining(replace(SETTINGS, learning_rate=1e-3)))
        assert set(device._pipelines) == compiled
        await session.send(StartTraining(replace(SETTINGS, max_length=64)))

    try:
        session = drive_on_gpu(work)
    finally:
        device._pipelines.update(known)
    assert len(session.page.all(TrainingDone)) == 2


def test_a_stop_while_the_run_gets_ready(drive_on_gpu: Drive, device: Device) -> None:
    known = dict(device._pipelines)
    device._pipelines.clear()

    async def work(session: Session) -> None:
        run = asyncio.ensure_future(session.worker.answer(StartTraining(SETTINGS)))
        while session.worker.runs.getting_ready is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await session.worker.answer(StopTraining())
        await run
        assert session.page.last(TrainingState).state == "idle"
        assert session.page.last(TrainingState).detail.startswith("Stopped before the first step")
        assert losses(session) == []
        await session.send(StartTraining(SETTINGS))
        assert len(losses(session)) == SETTINGS.steps

    try:
        drive_on_gpu(work)
    finally:
        device._pipelines.update(known)


@pytest.mark.parametrize("presses", [1, 2])
def test_a_run_is_stopped_while_a_trial_makes_room_for_it(drive_on_gpu: Drive, presses: int) -> None:
    """And the button pressed twice in that time is one run."""

    async def work(session: Session) -> None:
        worker = session.worker
        trial = asyncio.ensure_future(worker.answer(TimeTraining(SETTINGS, 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        runs = [asyncio.ensure_future(worker.answer(StartTraining(SETTINGS))) for _ in range(presses)]
        await asyncio.sleep(0)
        assert not trial.done(), "the run had its turn already"
        assert session.page.last(TrainingState).state == "loading"
        if presses == 1:
            await worker.answer(StopTraining())
        await asyncio.gather(trial, *runs)

    session = drive_on_gpu(work)
    assert len(losses(session)) == (0 if presses == 1 else SETTINGS.steps)
    assert session.page.last(TrainingState).state == ("idle" if presses == 1 else "done")


def test_a_stop_while_the_tokens_are_counted_anew(drive_on_gpu: Drive) -> None:
    other = replace(SETTINGS, masking="all")

    async def work(session: Session) -> None:
        await session.send(ReadDataset(text="\n".join(map(json.dumps, pairs(1500)))))
        run = asyncio.ensure_future(session.worker.answer(StartTraining(other, accept_problems=True)))
        while session.worker.datasets._counting != ("all", "auto"):
            assert not run.done(), "it began without counting"
            await asyncio.sleep(0)
        await session.worker.answer(StopTraining())
        await run
        assert session.worker.datasets.dataset is not None
        assert not session.worker.datasets.dataset.is_encoded("all"), "the tokens were counted to the end"
        assert session.ready.masking == "assistant" and session.ready.can_train
        assert session.page.last(TrainingState).state == "idle"
        assert losses(session) == []
        await session.send(StartTraining(replace(other, steps=2)))
        assert len(losses(session)) == 2

    drive_on_gpu(work)


def test_what_cannot_be_measured_is_said(drive_on_gpu: Drive) -> None:
    async def work(session: Session) -> None:
        await session.send(TimeTraining(replace(SETTINGS, rank=0), 7))
        assert "rank" in (session.page.last(TrainingTimed).problem or "")
        session.worker.datasets.dataset = None
        await session.send(TimeTraining(SETTINGS, 8))
        told = session.page.last(TrainingTimed)
        assert (told.request, told.step_ms) == (8, 0.0)
        assert "dataset" in (told.problem or "")

    drive_on_gpu(work)
