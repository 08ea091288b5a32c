"""The end of a run: what was learned is kept and told, whatever else goes wrong; then the next run can begin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.config import TrainConfig
from lora_lab.evaluation.record import read_record
from lora_lab.evaluation.watch import Watch
from lora_lab.formats.peft import RUN_FILE
from lora_lab.formats.zipping import unpack_adapter
from lora_lab.train import History
from lora_lab.workers.protocol import (
    AdapterLearned,
    AdapterList,
    Event,
    Failed,
    ReadDataset,
    StartTraining,
    StopTraining,
    TrainingDone,
    TrainingState,
)
from lora_lab.workers.services import results, stores
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.services.runs import Runs
from lora_lab.workers.services.watching import Watching
from lora_lab.workers.storage.folders import FullError, StorageError
from tests.unit.workers.helpers import SETTINGS, Session, drive, failures, named, pairs
from tests.unit.workers.services.helpers import fake_device

FILES = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}


@pytest.fixture(autouse=True)
def run_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is three steps that take no time; what it has learned are `FILES`."""

    async def to_tensors() -> dict:
        return {}

    async def plan_run(self: Plans, *_: Any) -> Any:
        memory, adapter = SimpleNamespace(recomputed_layers=0), SimpleNamespace(to_tensors=to_tensors)
        model = SimpleNamespace(config=SimpleNamespace(vocab_size=384), device=fake_device())
        trainer = SimpleNamespace(steps_done=3, total_steps=3, memory=memory, adapter=adapter, stop=lambda: None,
                                  losses=[2.0, 1.0, 1.7, 1.0, 1.5, 1.0], history=History(), watched={},
                                  config=TrainConfig(steps=3), stopped_early=False, model=model)  # fmt: skip
        return SimpleNamespace(trainer=trainer)

    async def get_ready(self: Runs, *_: Any) -> None: ...

    async def run(self: Runs, *_: Any) -> None: ...

    async def device(self: Gpu) -> object:
        return fake_device()

    monkeypatch.setattr(Gpu, "device", device)
    monkeypatch.setattr(Plans, "plan_run", plan_run)
    monkeypatch.setattr(Runs, "_get_ready", get_ready)
    monkeypatch.setattr(Runs, "_go_on", run)
    monkeypatch.setattr(Runs, "_run", run)
    monkeypatch.setattr(Plans, "release", staticmethod(lambda trainer: None))
    monkeypatch.setattr(Watching, "begin", lambda self, trainer, job: Watch(trainer))
    monkeypatch.setattr(results, "write_adapter", lambda *given: {**FILES, RUN_FILE: given[5].record})


async def with_rows(session: Session) -> None:
    await session.send(ReadDataset((named("ships.jsonl", pairs(20)),)))
    session.page.events.clear()


def states(session: Session) -> list[str]:
    return [event.state for event in session.page.all(TrainingState)]


def test_a_stop_at_the_very_end_comes_before_the_end(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await with_rows(session)
        tell = session.worker.adapters.tell_adapters

        async def stopped_meanwhile() -> None:
            await session.worker.answer(StopTraining())
            await tell()

        monkeypatch.setattr(session.worker.adapters, "tell_adapters", stopped_meanwhile)
        await session.send(StartTraining(SETTINGS))
        assert states(session)[-2:] == ["stopping", "done"]
        assert isinstance(session.page.events[-1], TrainingDone)
        assert not session.page.last(TrainingDone).stopped  # all of its steps were done
        assert len(session.page.last(AdapterList).adapters) == 1

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_the_next_run_can_begin_as_soon_as_the_last_is_told_of(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await with_rows(session)
        post, tell, again = session.page.post, session.worker.adapters.tell_adapters, []

        async def tell_slowly() -> None:
            await asyncio.sleep(0.001)  # as long as the browser's storage takes
            await tell()

        def post_and_press(event: Event) -> None:
            post(event)
            if isinstance(event, TrainingDone) and not again:
                again.append(asyncio.ensure_future(session.worker.answer(StartTraining(SETTINGS))))

        monkeypatch.setattr(session.page, "post", post_and_press)
        monkeypatch.setattr(session.worker.adapters, "tell_adapters", tell_slowly)
        await session.worker.answer(StartTraining(SETTINGS))
        await asyncio.gather(*again)
        assert len(session.page.all(TrainingDone)) == 2

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_what_fails_after_a_run_does_not_hide_its_result(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await with_rows(session)

        async def fail() -> None:
            raise StorageError("the numbers are not to be had")

        monkeypatch.setattr(session.worker.stores, "tell_storage", fail)
        await session.send(StartTraining(SETTINGS))
        assert states(session)[-1] == "done" and session.page.all(TrainingDone)
        assert session.page.events[-1] == Failed("storage", "the numbers are not to be had")

    drive(tiny_model_folder, monkeypatch, work)


def test_a_store_that_does_not_answer_holds_up_nothing(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await with_rows(session)

        async def silent(*_: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(results, "STORED_WITHIN_S", 0.01)
        monkeypatch.setattr(session.worker.stores.shelf, "add", silent)
        await asyncio.wait_for(session.send(StartTraining(SETTINGS)), 30)
        assert session.page.all(AdapterLearned) and "did not answer" in session.page.last(Failed).message
        assert not session.worker.runs.training

    drive(tiny_model_folder, monkeypatch, work)


def test_a_full_store_says_how_much_is_needed_and_what_can_go(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def numbers() -> tuple[int, int, bool]:
        return 90_000_000, 100_000_000, False

    async def work(session: Session) -> None:
        await with_rows(session)

        async def full(*_: Any) -> Any:
            raise FullError("no room")

        monkeypatch.setattr(stores, "storage_numbers", numbers)
        monkeypatch.setattr(session.worker.stores.shelf, "add", full)
        await session.send(StartTraining(SETTINGS))
        said = session.page.last(Failed).message
        assert "0.0 MB are needed; 90.0 MB of the 100.0 MB that the browser allows are in use" in said
        assert "remove models" in said and "as a download" in said and "delete adapters" not in said  # there is none

    drive(tiny_model_folder, monkeypatch, work)


def test_an_adapter_that_cannot_be_kept_is_given_as_a_download(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await with_rows(session)

        async def full(*_: Any) -> Any:
            raise StorageError("the browser's storage for this site is full")

        monkeypatch.setattr(session.worker.stores.shelf, "add", full)
        await session.send(StartTraining(SETTINGS))
        learned, state, failed = session.page.events[-3:]
        assert isinstance(learned, AdapterLearned) and isinstance(failed, Failed)
        assert learned.file_name == "ships-3-steps-lora.zip"
        given = unpack_adapter(learned.data)
        record = read_record(given.pop(RUN_FILE))
        assert given == FILES
        assert record.data.name == "ships.jsonl" and record.steps.loss == (2.0, 1.7, 1.5)
        assert state == TrainingState("error") and failed.where == "training"
        assert "storage for this site is full" in failed.message and "as a download" in failed.message
        assert session.page.all(TrainingDone) == [] and not session.worker.runs.training

    drive(tiny_model_folder, monkeypatch, work)
