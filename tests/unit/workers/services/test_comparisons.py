"""Comparisons and looks without a GPU: who is told what, a GPU that is lost, errors, and the files that are held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from lora_lab.errors import AdapterError, DeviceError, ModelError
from lora_lab.generate.chat import Piece, ReplyStats
from lora_lab.workers.model import adapter_set
from lora_lab.workers.model.adapter_set import AdapterFiles, AdapterSet
from lora_lab.workers.protocol import (
    AdapterPart,
    AdapterUse,
    ChatMessage,
    Command,
    ComparedPiece,
    ComparedReply,
    CompareReplies,
    ComparisonEnded,
    Failed,
    Sampling,
    StopReply,
)
from lora_lab.workers.services import comparisons as service
from lora_lab.workers.services.comparisons import Comparisons
from lora_lab.workers.services.replies import Replies
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page

SHIPS = AdapterPart("1", "Ships", 0.5, {"weights": b"abc"})
LABEL = (AdapterUse("1", "Ships", 0.5),)
COMPARE = CompareReplies(4, (ChatMessage("user", "Hello"),), Sampling(seed=3), (), (SHIPS,))
STATS = ReplyStats(3, 0, 2, 1.0, 8.0, "stop")


class FakeModel:
    """The chat's model, and the comparison over it: the sides write `ab` and `xy` in turn."""

    def __init__(self, losses: int = 0) -> None:
        self.held, self.tokenizer, self.chat = AdapterFiles(), "tokenizer", None
        self.model, self.context_length = "weights", 512
        self.losses, self.is_lost, self.error = losses, False, None
        self.asked: list[tuple[tuple, Any]] = []
        self.closed = 0
        self._stop = False

    async def engine(self) -> FakeModel:
        if self.error is not None:
            raise self.error
        return self

    async def was_lost(self, chat: object) -> bool:
        return self.is_lost

    def side(self, adapter: AdapterSet | None, chat_format: str) -> tuple:
        return (adapter.name if adapter else "base", chat_format)

    def comparison(self, model: str, tokenizer: str, sides: list, context_length: int) -> FakeModel:
        assert (model, tokenizer, context_length) == ("weights", "tokenizer", 512)
        self.sides = tuple(sides)
        return self

    def stop(self) -> None:
        self._stop = True

    def close(self) -> None:
        self.closed += 1

    async def reply(self, messages: Any, sampling: Any) -> AsyncIterator[tuple[int, Piece | ReplyStats]]:
        assert messages == [{"role": "user", "content": "Hello"}]
        self.asked.append((self.sides, sampling))
        self._stop = False
        for left, right in (("a", "x"), ("b", "y")):
            for index, text in enumerate((left, right)):
                if not self._stop:
                    yield index, Piece(text, ord(text))
                    if self.losses:
                        self.losses, self.is_lost = self.losses - 1, True
                        raise DeviceError("mapping failed")
        for index in (0, 1):
            yield index, replace(STATS, finish_reason="stopped" if self._stop else "stop")


def answer(monkeypatch: pytest.MonkeyPatch, model: FakeModel, *commands: Command) -> Page:
    monkeypatch.setattr(service, "Comparison", model.comparison)
    page, turns = Page(), Turns()

    async def main() -> None:
        dispatcher = Dispatcher(page, [Comparisons(page, model, turns), Replies(page, model, turns)])  # type: ignore
        await asyncio.gather(*(dispatcher.answer(command) for command in commands))

    asyncio.run(main())
    return page


def done(side: str, label: tuple, text: str) -> ComparedReply:
    ids = tuple(map(ord, text))
    return ComparedReply(4, side, label, text, ids, 3, 8.0, 1.0, "stop")  # type: ignore[arg-type]


@pytest.mark.parametrize("losses", [0, 1, 3])
def test_both_sides_are_told_with_their_label_whatever_becomes_of_the_gpu(
    monkeypatch: pytest.MonkeyPatch, losses: int
) -> None:
    model = FakeModel(losses)
    page = answer(monkeypatch, model, COMPARE)
    assert page.events == [
        ComparedPiece(4, "left", (), "a"), ComparedPiece(4, "right", LABEL, "x"), ComparedPiece(4, "left", (), "b"),
        ComparedPiece(4, "right", LABEL, "y"), done("left", (), "ab"), done("right", LABEL, "xy"),
        ComparisonEnded(4, True),
    ]  # fmt: skip
    assert len(model.asked) == model.closed == losses + 1
    sides, sampling = model.asked[-1]
    assert sides == (("base", "auto"), ("Ships", "auto")) and sampling.seed == 3


def test_a_gpu_that_is_lost_each_time_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel(4)
    page = answer(monkeypatch, model, COMPARE)
    assert page.events == [
        ComparedPiece(4, "left", (), "a"),
        Failed("chat", "mapping failed", None, None, "DeviceError"),
        ComparisonEnded(4, False),
    ]
    assert model.closed == 4


def test_a_model_that_does_not_come_ends_it_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    model.error = ModelError("no memory")
    page = answer(monkeypatch, model, COMPARE)
    assert page.events == [Failed("chat", "no memory", None, None, "ModelError"), ComparisonEnded(4, False)]


def test_a_stop_ends_what_came_before_it_and_nothing_after(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    commands = COMPARE, replace(COMPARE, turn=5), StopReply(), replace(COMPARE, turn=6)
    page = answer(monkeypatch, model, *commands)
    assert page.all(ComparisonEnded) == [
        ComparisonEnded(4, False), ComparisonEnded(5, False), ComparisonEnded(6, True),
    ]  # fmt: skip
    assert [event.finish_reason for event in page.all(ComparedReply)] == ["stopped"] * 2 + ["stop"] * 2
    assert {event.turn for event in page.all(ComparedPiece)} == {4, 6} and len(model.asked) == 2


def test_files_are_held_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_set, "HELD_BYTES", 10)
    held = AdapterFiles()

    def part(id: str, size: int | None) -> AdapterPart:
        return AdapterPart(id, f"Adapter {id}", files=None if size is None else {"weights": bytes(size)})

    for id in "abc":
        held.whole([part(id, 4)])
    assert held.whole([part("b", None)]) is not None and held.whole([part("c", None)]) is not None
    with pytest.raises(AdapterError, match=r"^Adapter a: its files are not here; they have to be sent with it$"):
        held.whole([part("a", None)])
    held.whole([part("b", None)])  # asked for last: the other one goes first
    held.whole([part("d", 4)])
    assert held.whole([part("b", None)]) is not None
    with pytest.raises(AdapterError, match="Adapter c: its files"):
        held.whole([part("c", None)])
    assert held.whole([part("e", 100)]) is not None and held.whole([part("e", None)]) is not None  # one always
    held.forget()
    with pytest.raises(AdapterError, match="Adapter e: its files"):
        held.whole([part("e", None)])
    assert held.whole([]) is None
