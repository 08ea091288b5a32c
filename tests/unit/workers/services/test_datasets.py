"""The dataset that is open: read without a model, counted with one, and what waits for the tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lora_lab.workers.dataset.opened import Choices
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    ClearDataset,
    CountTokens,
    DatasetCleared,
    DatasetReady,
    Failed,
    ReadDataset,
    ReadValidation,
)
from lora_lab.workers.services import datasets as dataset_service
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page, named, pairs
from tests.unit.workers.services.helpers import FakeModels

READ = ReadDataset(text="\n".join(map(json.dumps, pairs(9))))


class Desk:
    """The service with its one neighbour."""

    def __init__(self, model: OpenedModel | None = None) -> None:
        self.page, self.models = Page(), FakeModels(model)
        self.datasets = Datasets(self.page, self.models)
        self._dispatcher = Dispatcher(self.page, [self.datasets])

    async def send(self, *commands: Any) -> None:
        for command in commands:
            await self._dispatcher.answer(command)
        await self.settle()

    async def settle(self) -> None:
        while self.datasets.is_busy:
            await asyncio.sleep(0)

    @property
    def counted(self) -> list[bool]:
        """Of each description whether it knows the tokens."""
        return [event.report["tokens"] is not None for event in self.page.all(DatasetReady)]


def at_desk(work: Callable[[Desk], Awaitable[None]], model: OpenedModel | None = None) -> Page:
    async def main() -> Page:
        desk = Desk(model)
        await work(desk)
        return desk.page

    return asyncio.run(main())


def test_tokens_are_counted_when_a_model_came_and_void_when_it_leaves(opened: OpenedModel) -> None:
    async def work(desk: Desk) -> None:
        await desk.send(READ, CountTokens())
        assert desk.counted == [False]
        desk.models.model = opened
        desk.datasets.model_came()
        await desk.settle()
        assert desk.counted == [False, True] and desk.page.last(DatasetReady).suggested is not None
        desk.models.model = None
        await desk.datasets.model_leaves()
        assert desk.counted == [False, True, False]
        dataset = desk.datasets.need_dataset()
        assert not dataset.is_encoded("assistant") and dataset.shown is None

    assert at_desk(work).all(Failed) == []


def test_what_waits_for_tokens_is_done_once_and_the_last_one_counts(opened: OpenedModel) -> None:
    async def work(desk: Desk) -> None:
        done: list[str] = []

        def then(name: str) -> Callable[[], Awaitable[None]]:
            async def do() -> None:
                assert desk.datasets.dataset is not None and desk.datasets.dataset.is_encoded("all")
                done.append(name)

            return do

        await desk.send(READ)
        for name in ("first", "second"):
            desk.datasets.when_counted(Choices(64, "all"), then(name))
        await desk.settle()
        assert done == ["second"]
        assert await desk.datasets.count_for(Choices(64, "last"))
        await desk.settle()
        assert done == ["second"]
        desk.datasets.when_counted(Choices(64, "all"), then("third"))
        await desk.send(ClearDataset())
        assert done == ["second"] and desk.page.events[-1] == DatasetCleared()
        assert not await desk.datasets.count_for(Choices(64, "last"))

    assert at_desk(work, opened).all(Failed) == []


def test_what_fails_after_waiting_is_told(opened: OpenedModel) -> None:
    async def fail() -> None:
        raise KeyError("plan")

    async def work(desk: Desk) -> None:
        await desk.send(READ)
        desk.datasets.when_counted(Choices(64, "all"), fail)
        await desk.settle()

    (failed,) = at_desk(work, opened).all(Failed)
    assert failed.where == "dataset" and "'plan'" in failed.message


def test_choices_are_shown_once(opened: OpenedModel) -> None:
    async def work(desk: Desk) -> None:
        desk.datasets.show_choices(Choices(48))  # of nothing
        await desk.send(READ)
        for choices in (Choices(48), Choices(48), Choices(56)):
            desk.datasets.show_choices(choices)
        assert [event.max_length for event in desk.page.all(DatasetReady)][1:] == [48, 56]

    assert at_desk(work, opened).all(Failed) == []


@pytest.mark.parametrize("validation", [False, True])
def test_a_dataset_that_is_too_large_is_forgotten_and_a_validation_file_alone(
    monkeypatch: pytest.MonkeyPatch, opened: OpenedModel, validation: bool
) -> None:
    async def too_large(*_: Any) -> Any:
        raise MemoryError

    async def work(desk: Desk) -> None:
        await desk.send(READ)
        monkeypatch.setattr(dataset_service, "read_table", too_large)
        await desk.send(ReadValidation((named("v.jsonl", pairs(3)),)) if validation else READ)
        assert (desk.datasets.dataset is not None) is validation
        assert desk.datasets.dataset is None or desk.datasets.dataset.validation is None

    (failed,) = at_desk(work, opened).all(Failed)
    assert failed.where == "dataset" and "not enough memory" in failed.message and failed.details is None


def test_a_validation_file_needs_a_dataset() -> None:
    async def work(desk: Desk) -> None:
        await desk.send(ReadValidation((named("v.jsonl", pairs(3)),)))
        assert not desk.datasets.is_reading_validation

    assert at_desk(work).all(Failed) == [Failed("dataset", "No dataset is open.")]
