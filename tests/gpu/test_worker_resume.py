"""The train worker on a GPU: a run is paused, its worker is gone, another worker goes on with it to the same bits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.errors import DeviceError
from lora_lab.formats.peft import WEIGHTS_FILE
from lora_lab.gpu import Device, open_device
from lora_lab.workers.protocol import (
    AdapterInfo,
    DiscardRun,
    Failed,
    PauseTraining,
    ReadDataset,
    ResumeTraining,
    StartTraining,
    StoppedRun,
    StopTraining,
    TrainingDone,
    TrainingResumed,
    TrainingState,
    TrainingStep,
    TrainSettings,
)
from lora_lab.workers.services import gpu as gpu_service
from lora_lab.workers.services import stores
from lora_lab.workers.storage.folders import Home, MemoryFolder, StorageError
from tests.tiny_model import write_tiny_model
from tests.unit.workers.helpers import Session, drive, pairs

SETTINGS = TrainSettings(
    steps=16, batch=4, learning_rate=1e-2, rank=4, alpha=8, max_length=96, seed=0, targets=("q_proj", "v_proj"),
    validation_fraction=0.2, checkpoint_every=3, warmup_steps=2,
)  # fmt: skip
Work = Callable[[Session], Awaitable[None]]
Visit = Callable[..., Session]


@pytest.fixture
def visit(device: Device, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Open the page anew, over the storage that the last visit left, and do something there."""
    home = MemoryFolder()

    def start(work: Work, *, model: Path = tiny_model_folder, fails: bool = False) -> Session:
        async def with_device(session: Session) -> None:
            async def opened() -> Device:
                return device

            async def same_home() -> Home:
                return Home(home)

            monkeypatch.setattr(stores, "open_home", same_home)
            session.worker.gpu._device = asyncio.ensure_future(opened())
            session.worker.gpu._watched = device
            session.worker.stores.__init__(session.page)  # type: ignore[misc]
            await session.open_model()
            await session.worker.checkpoints.tell_stopped()
            await work(session)

        before = device.num_buffers, device.memory_in_use_bytes
        session = drive(model, monkeypatch, with_device, model=False)
        assert bool([event.message for event in session.page.all(Failed)]) is fails
        assert (device.num_buffers, device.memory_in_use_bytes) == before
        return session

    return start


async def read(session: Session) -> None:
    await session.send(ReadDataset(text="\n".join(map(json.dumps, pairs(40)))))


async def until(session: Session, step: int, command: Any) -> None:
    """Wait for a step and send a command."""
    while not any(event.step >= step for event in session.page.all(TrainingStep)):
        await asyncio.sleep(0)
    await session.worker.answer(command)


async def outcome(session: Session) -> tuple[AdapterInfo, bytes]:
    done = session.page.last(TrainingDone)
    files = await session.worker.stores.shelf.files(done.adapter.id)
    # The size is with the run's record, which holds its times.
    return replace(done.adapter, id="", created_at="", name="", size_bytes=0), files[WEIGHTS_FILE]


def test_a_run_is_gone_on_with_by_another_worker(visit: Visit) -> None:
    found: list[tuple[AdapterInfo, bytes]] = []

    async def whole(session: Session) -> None:
        assert session.page.last(StoppedRun) == StoppedRun()
        await read(session)
        await session.send(StartTraining(SETTINGS))
        found.append(await outcome(session))
        assert session.page.last(StoppedRun) == StoppedRun()

    async def paused(session: Session) -> None:
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(SETTINGS)))
        await until(session, 5, PauseTraining())
        await run
        stopped = session.page.last(StoppedRun)
        assert 5 <= stopped.step <= 7 and stopped.total_steps == 16
        assert session.page.last(TrainingState).detail == f"Paused after step {stopped.step} of 16."
        assert session.page.all(TrainingDone) == []
        # In the same page, without a word about the data; and paused again.
        run = asyncio.ensure_future(session.send(ResumeTraining()))
        await until(session, stopped.step + 2, PauseTraining())
        await run
        assert session.page.last(TrainingResumed).step == stopped.step

    async def gone_on(session: Session) -> None:
        stopped = session.page.last(StoppedRun)
        assert stopped.dataset and stopped.model
        await session.send(ResumeTraining())  # no dataset is open
        told = session.page.last(TrainingResumed)
        assert told.step == stopped.step == len(told.loss_curve) and told.differs == ""
        steps = [event.step for event in session.page.all(TrainingStep)]
        assert steps == list(range(stopped.step + 1, 17))
        assert session.page.last(StoppedRun) == StoppedRun()
        found.append(await outcome(session))
        assert await session.worker.stores.runs.newest() is None

    for work in (whole, paused, gone_on):
        visit(work)
    (first, weights), (second, same) = found
    assert first == second
    assert weights == same
    assert np.isfinite(first.final_loss or np.nan)


def test_what_is_kept_and_what_is_not(visit: Visit, tmp_path: Path) -> None:
    async def stopped(session: Session) -> None:
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(SETTINGS)))
        await until(session, 4, StopTraining())
        await run
        assert session.page.last(TrainingDone).stopped
        assert session.page.last(StoppedRun) == StoppedRun()  # its adapter is kept

    async def paused(session: Session) -> None:
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(replace(SETTINGS, checkpoint_every=0))))
        await until(session, 4, PauseTraining())
        await run
        assert session.page.last(StoppedRun).step >= 4  # also where none are kept on the way

    async def of_another_model(session: Session) -> None:
        assert session.page.last(StoppedRun).step >= 4
        await session.send(ResumeTraining())
        assert "The stopped run is of the model" in session.page.last(Failed).message
        assert session.page.last(TrainingState).state == "error"

    async def discarded(session: Session) -> None:
        assert session.page.last(StoppedRun).step >= 4
        await session.send(DiscardRun())
        assert session.page.last(StoppedRun) == StoppedRun()

    async def gone(session: Session) -> None:
        await session.send(ResumeTraining())
        assert "no stopped run to go on with" in session.page.last(Failed).message

    visit(stopped)
    visit(paused)
    visit(of_another_model, model=write_tiny_model(tmp_path / "other", seed=9), fails=True)
    visit(discarded)
    visit(gone, fails=True)


def test_a_storage_that_refuses_is_told_of_once_and_the_run_goes_on(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise StorageError("the browser's storage for this site is full")

    async def work(session: Session) -> None:
        await read(session)
        monkeypatch.setattr(session.worker.stores.runs, "write", refuse)
        await session.send(StartTraining(SETTINGS))
        (failed,) = session.page.all(Failed)
        assert failed.where == "storage" and "No checkpoint of the run could be stored (the browser" in failed.message
        assert not session.page.last(TrainingDone).stopped

    visit(work, fails=True)


@pytest.mark.parametrize("lost_at", [2, 8, 15])
def test_a_lost_gpu_changes_no_bit_of_what_is_learned(
    visit: Visit, device: Device, monkeypatch: pytest.MonkeyPatch, lost_at: int
) -> None:
    """The run goes on from its last checkpoint, or from its beginning, on another device of the same kind."""
    found: list[tuple[AdapterInfo, bytes]] = []
    second = asyncio.run(open_device())
    gone = False

    async def whole(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(SETTINGS))
        found.append(await outcome(session))

    async def lost(session: Session) -> None:
        nonlocal gone

        def lose(method: Any) -> Any:
            def called(*given: Any) -> Any:
                if gone:
                    raise DeviceError("mapping failed")
                return method(*given)

            return called

        async def another() -> Device:
            return second

        for name in ("submit", "submit_reading", "read", "finished"):
            monkeypatch.setattr(device, name, lose(getattr(device, name)))
        monkeypatch.setattr(gpu_service, "open_device", another)
        session.worker.gpu._watched = device
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(SETTINGS)))
        while not any(event.step >= lost_at for event in session.page.all(TrainingStep)):
            await asyncio.sleep(0)
        gone = True
        await run
        resumed = session.page.last(TrainingResumed)
        assert 0 <= lost_at + 2 - resumed.step <= SETTINGS.checkpoint_every + 2 and resumed.differs == ""
        assert session.worker.gpu.losses == 1 and not session.page.last(TrainingDone).stopped
        found.append(await outcome(session))
        assert second.num_buffers == 0

    visit(whole)
    visit(lost)
    assert found[0] == found[1]
    asyncio.run(second.close())


def test_where_no_gpu_comes_any_more_the_kept_run_stays(
    visit: Visit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = False

    async def none() -> Device:
        raise DeviceError("no adapter")

    async def work(session: Session) -> None:
        nonlocal gone
        real = device.finished

        async def finished() -> None:
            if gone:
                raise DeviceError("crashed")
            await real()

        def submit_reading(*given: Any) -> Any:
            if gone:
                raise DeviceError("mapping failed")
            return Device.submit_reading(device, *given)

        monkeypatch.setattr(device, "finished", finished)
        monkeypatch.setattr(device, "submit_reading", submit_reading)
        monkeypatch.setattr(gpu_service, "open_device", none)
        monkeypatch.setattr(gpu_service, "ASK_AGAIN_AFTER_S", (0.0, 0.01))
        session.worker.gpu._watched = device
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(SETTINGS)))
        while not any(event.step >= 8 for event in session.page.all(TrainingStep)):
            await asyncio.sleep(0)
        gone = True
        await run
        stopped = session.page.last(StoppedRun)
        assert 5 <= stopped.step <= 9 and session.page.all(TrainingDone) == []
        assert f"What was learned in {stopped.step} steps is kept" in session.page.last(Failed).message
        gone = False

    async def gone_on(session: Session) -> None:
        await session.send(ResumeTraining())
        assert [event.step for event in session.page.all(TrainingStep)][-1] == 16
        assert not session.page.last(TrainingDone).stopped

    visit(work, fails=True)
    monkeypatch.undo()
    visit(gone_on)
