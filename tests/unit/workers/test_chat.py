"""The chat worker without a GPU: what a stop ends, and what the page hears of the adapter and the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lora_lab.errors import ModelError
from lora_lab.generate.chat import Piece, ReplyStats
from lora_lab.workers.chat_worker import ChatWorker
from lora_lab.workers.model.adapter_set import AdapterSet
from lora_lab.workers.protocol import (
    AdapterApplied,
    AdapterPart,
    ChatMessage,
    Command,
    Compare,
    CompareDone,
    Failed,
    OpenModel,
    Probe,
    Reply,
    ReplyDone,
    ReplyPiece,
    Sampling,
    StopReply,
    WakeModel,
)
from tests.unit.workers.helpers import Page, named

LENGTH = 5  # of a reply that nobody stops, in tokens
HELLO = (ChatMessage("user", "Hello"),)
COMPARE = Compare("1", 0, Probe("Hello", HELLO))


class FakeChat:
    """An engine that writes `a` again and again; `begun` are its replies."""

    def __init__(self) -> None:
        self.begun = 0
        self.last_stats: ReplyStats | None = None
        self._stop = False

    def stop(self) -> None:
        self._stop = True

    async def reply(self, messages: Any, sampling: Any, adapter_strength: float) -> AsyncIterator[Piece]:
        self.begun += 1
        self._stop, count = False, 0
        while count < LENGTH and not self._stop:
            await asyncio.sleep(0)
            count += 1
            yield Piece("a", 1)
        self.last_stats = ReplyStats(3, 0, count, 1.0, 1.0, "stopped" if self._stop else "length")


def reply(turn: int) -> Reply:
    return Reply(turn, HELLO, Sampling())


def chat_with(work: Callable[[ChatWorker, Page, FakeChat], Awaitable[None]]) -> Page:
    """Run `work` with a worker whose engine is a fake, the adapter `1` applied."""
    page = Page()

    async def main() -> None:
        worker, chat = ChatWorker(page), FakeChat()
        worker.model.chat = chat  # type: ignore[assignment]
        worker.model.adapter = AdapterSet((AdapterPart("1", "Ships"),))
        await work(worker, page, chat)

    asyncio.run(main())
    return page


def send(worker: ChatWorker, *commands: Command) -> list[asyncio.Future[None]]:
    """Have commands answered as they are when they come one right after the other."""
    return [asyncio.ensure_future(worker.answer(command)) for command in commands]


def test_a_stop_ends_what_waits_as_well_as_what_is_written() -> None:
    async def work(worker: ChatWorker, page: Page, chat: FakeChat) -> None:
        asked = send(worker, reply(1), reply(2), COMPARE)
        while not page.all(ReplyPiece):
            await asyncio.sleep(0)
        asked += send(worker, StopReply(), reply(3))
        await asyncio.gather(*asked)
        first, second, third = page.all(ReplyDone)
        assert (first.turn, first.finish_reason) == (1, "stopped") and 0 < first.new_tokens < LENGTH
        assert second == ReplyDone(2, "", 0, 0, 0.0, 0.0, "stopped")
        assert page.all(CompareDone) == [CompareDone("1", 0, None)]
        assert (third.turn, third.text, third.finish_reason) == (3, "a" * LENGTH, "length")  # it came after the stop
        assert chat.begun == 2

    assert chat_with(work).all(Failed) == []


def test_a_stop_while_the_model_comes_back_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(worker: ChatWorker, page: Page, chat: FakeChat) -> None:
        async def engine() -> FakeChat:
            await worker.answer(StopReply())
            return chat

        monkeypatch.setattr(worker.model, "engine", engine)
        await worker.answer(reply(1))
        await worker.answer(COMPARE)
        assert page.last(ReplyDone).finish_reason == "stopped"
        assert page.last(CompareDone).answer is None
        assert chat.begun == 0

    assert chat_with(work).all(Failed) == []


def test_a_comparison_that_nobody_stops_has_both_answers() -> None:
    async def work(worker: ChatWorker, page: Page, chat: FakeChat) -> None:
        await worker.answer(StopReply())  # of nothing
        await worker.answer(COMPARE)
        answer = page.last(CompareDone).answer
        assert answer is not None and (answer.base, answer.tuned) == ("a" * LENGTH, "a" * LENGTH)
        worker.model.adapter = None
        await worker.answer(COMPARE)
        assert page.last(CompareDone).answer is None

    assert chat_with(work).all(Failed) == []


def test_another_model_drops_the_adapter_and_says_so(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path for path in sorted(tiny_model_folder.iterdir()) if path.is_file()]
    opened = OpenModel(files=tuple(named(f"tiny/{path.name}", path.read_bytes()) for path in files))

    async def work(worker: ChatWorker, page: Page, chat: FakeChat) -> None:
        async def engine() -> FakeChat:
            return chat

        monkeypatch.setattr(worker.model, "engine", engine)
        worker.model.chat = None
        await worker.answer(opened)
        await worker.answer(opened)  # nothing is dropped: nothing is told
        assert worker.model.adapter is None and page.all(AdapterApplied) == [AdapterApplied(None)]

    assert chat_with(work).all(Failed) == []


def test_a_model_that_does_not_wake_is_the_models_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(worker: ChatWorker, page: Page, chat: FakeChat) -> None:
        async def engine() -> FakeChat:
            raise ModelError("no memory")

        monkeypatch.setattr(worker.model, "engine", engine)
        await worker.answer(WakeModel())

    assert chat_with(work).all(Failed) == [Failed("model", "no memory")]
