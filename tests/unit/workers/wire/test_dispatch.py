"""The dispatcher: one answer to a command, turns in the order of arrival, and what is heard before its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lora_lab.errors import ModelError
from lora_lab.workers.protocol import ClearDataset, Command, DeleteAdapter, Failed, StopReading, StopReply, WakeModel
from lora_lab.workers.wire.dispatch import Dispatcher, failure, handles, hears
from tests.unit.workers.helpers import Page


async def work(did: list[str], name: str) -> None:
    """Do something that takes a while, and say when it begins and ends."""
    did.append(f"{name} begins")
    await asyncio.sleep(0.002)
    did.append(f"{name} ends")


class Slow:
    """A service with an answer that takes its turn and one that does not."""

    def __init__(self, did: list[str]) -> None:
        self.did = did

    @handles(WakeModel, "model", exclusive=True)
    async def wake(self, _: WakeModel) -> None:
        await work(self.did, "wake")

    @handles(StopReading, "dataset")
    async def stop(self, _: StopReading) -> None:
        self.did.append("stop")


class Other:
    """Another service, with an exclusive method of its own."""

    def __init__(self, did: list[str]) -> None:
        self.did = did

    @handles(ClearDataset, "dataset", exclusive=True)
    async def clear(self, _: ClearDataset) -> None:
        await work(self.did, "clear")


class Failing:
    @handles(DeleteAdapter, "adapter")
    async def delete(self, _: DeleteAdapter) -> None:
        raise ModelError("it is not there")

    @handles(WakeModel, "model", exclusive=True)
    async def wake(self, _: WakeModel) -> None:
        raise KeyError("weights")


def answer_all(dispatcher: Dispatcher, *commands: Command) -> None:
    """Have commands answered that come one right after the other."""

    async def main() -> None:
        await asyncio.gather(*(dispatcher.answer(command) for command in commands))

    asyncio.run(main())


def test_exclusive_methods_of_all_services_take_turns_in_the_order_of_arrival() -> None:
    did: list[str] = []
    dispatcher = Dispatcher(Page(), [Slow(did), Other(did)])
    answer_all(dispatcher, ClearDataset(), WakeModel(), StopReading(), ClearDataset())
    # What is not exclusive waits for nobody.
    assert did == ["clear begins", "stop", "clear ends", "wake begins", "wake ends", "clear begins", "clear ends"]


def test_a_failure_is_told_where_it_belongs_and_gives_the_turn_back() -> None:
    page = Page()
    answer_all(Dispatcher(page, [Failing()]), WakeModel(), DeleteAdapter("7"), WakeModel())
    of_ours = Failed("adapter", "it is not there", None, "7")
    assert of_ours in page.events and len(page.events) == 3
    for event in page.all(Failed):
        if event != of_ours:
            assert event.where == "model" and "'weights'" in event.message
            assert "KeyError" in (event.details or "") and "in wake" in (event.details or "")


def test_an_unknown_command_is_named() -> None:
    page = Page()
    answer_all(Dispatcher(page, [Failing()]), StopReply())
    (failed,) = page.all(Failed)
    assert (failed.where, failed.message) == ("worker", "This worker has no answer to stop_reply.")


def test_two_answers_to_one_command_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wake_model is answered by Slow.wake and Failing.wake; wanted one"):
        Dispatcher(Page(), [Slow([]), Failing()])
    assert Dispatcher(Page(), [Slow([]), Other([])]).commands == {WakeModel, StopReading, ClearDataset}


class Hearer:
    """Hears of two commands; drops them when asked to."""

    def __init__(self, did: list[str], name: str, says: bool | None = None) -> None:
        self.did, self.name, self.says = did, name, says

    @hears(WakeModel, ClearDataset)
    def hear(self, command: Command) -> bool | None:
        self.did.append(f"{self.name} hears {command.wire_type()}")
        return self.says


def test_a_command_is_heard_before_its_turn() -> None:
    did: list[str] = []
    answer_all(Dispatcher(Page(), [Slow(did), Hearer(did, "a"), Hearer(did, "b")]), WakeModel(), WakeModel())
    heard = ["a hears wake_model", "b hears wake_model"]
    assert did == [*heard, "wake begins", *heard, "wake ends", "wake begins", "wake ends"]


def test_what_is_dropped_is_neither_answered_nor_heard_of_further() -> None:
    did: list[str] = []
    page = Page()
    answer_all(Dispatcher(page, [Slow(did), Hearer(did, "a", False), Hearer(did, "b")]), WakeModel(), StopReading())
    assert did == ["a hears wake_model", "stop"] and page.events == []
    did.clear()
    answer_all(Dispatcher(page, [Slow(did), Hearer(did, "a", True), Hearer(did, "b")]), WakeModel())  # the control
    assert did == ["a hears wake_model", "b hears wake_model", "wake begins", "wake ends"]


def test_what_cannot_be_heard_is_told() -> None:
    class Deaf:
        @hears(WakeModel)
        def hear(self, _: WakeModel) -> None:
            raise ModelError("too loud")

    did: list[str] = []
    page = Page()
    answer_all(Dispatcher(page, [Slow(did), Deaf()]), WakeModel())
    assert page.events == [Failed("model", "too loud")] and did == []


def test_the_marks_leave_a_method_what_it_was() -> None:
    calls: list[Callable[[WakeModel], Awaitable[None]]] = [Slow([]).wake]
    assert asyncio.run(calls[0](WakeModel())) is None  # type: ignore[arg-type]
    assert Hearer([], "a", True).hear(WakeModel()) is True


def test_python_without_memory_says_what_to_do() -> None:
    told = failure("training", MemoryError())
    assert "Choose a smaller file" in told.message and told.kind == "MemoryError"
    assert "unexpected" in failure("training", KeyError("x")).message  # the control
