"""Replies and comparisons: what is written with the adapter, what a stop ends, and errors on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import SamplingConfig
from lora_lab.errors import DeviceError, ModelError
from lora_lab.generate.chat import Piece, ReplyStats
from lora_lab.workers.model.adapter_set import AdapterSet
from lora_lab.workers.protocol import (
    AdapterPart,
    AdapterUse,
    ChatMessage,
    Command,
    Compare,
    CompareDone,
    ComparePiece,
    Failed,
    Logits,
    Probe,
    ReadLogits,
    Reply,
    ReplyDone,
    ReplyPiece,
    Sampling,
    StopReply,
)
from lora_lab.workers.services import replies as reply_service
from lora_lab.workers.services.replies import Replies
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page

HELLO = (ChatMessage("user", "Hello"),)
REPLY = Reply(1, HELLO, Sampling())
SHIPS = AdapterSet((AdapterPart("1", "Ships"),))
TUNED = {"token_ids": (1, 1), "adapters": (AdapterUse("1", "Ships", 1.0),)}  # of its replies' last events
COMPARE = Compare("1", 2, Probe("Hello", HELLO, "Ahoy"))


class FakeModel:
    """The chat's model and its engine in one: it says `base` or `tuned` in two pieces."""

    def __init__(self) -> None:
        self.chat: FakeModel | None = self
        self.adapter: AdapterSet | None = SHIPS
        self.strength = 1.0
        self.error: Exception | None = None
        self.tokenizer, self.model = self, "weights"
        self.asked: list[tuple[SamplingConfig, float]] = []
        self.last_stats: ReplyStats | None = None
        self.stops = 0
        self.templates: list[tuple[str, bool]] = []  # that replies were to be written with
        self.losses = 0  # of the GPU that are still to come, each after a reply's first piece
        self.is_lost = False

    async def was_lost(self, chat: object) -> bool:
        return self.is_lost

    def use_template(self, chat_format: str, *, with_adapter: bool) -> None:
        self.templates.append((chat_format, with_adapter))

    async def engine(self) -> FakeModel:
        if self.error:
            raise self.error
        return self

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def stop(self) -> None:
        self.stops += 1

    async def reply(self, messages: Any, sampling: SamplingConfig, adapter_strength: float) -> AsyncIterator[Piece]:
        assert [message["content"][:5] for message in messages] == ["Hello"]
        self.asked.append((sampling, adapter_strength))
        await asyncio.sleep(0)
        self.stops = 0  # a stop that came before it had begun is forgotten, as by the engine itself
        for text in ["tu", "ned "] if adapter_strength else ["ba", "se "]:
            if self.stops:
                break
            yield Piece(text, 1)
            if self.losses:
                self.losses, self.is_lost = self.losses - 1, True
                raise DeviceError("mapping failed")
        self.last_stats = ReplyStats(3, 0, 2, 1.0, 8.0, "stopped" if self.stops else "stop")


def answer(page: Page, model: FakeModel, *commands: Command) -> None:
    """Have commands answered that come one right after the other."""

    async def main() -> None:
        dispatcher = Dispatcher(page, [Replies(page, model, Turns())])
        await asyncio.gather(*(dispatcher.answer(command) for command in commands))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "has_adapter", "strength"),
    [
        ({}, True, 1.0),
        ({"strength": 0.5}, True, 0.5),
        ({"strength": 0.5, "use_adapter": False}, True, 0.0),
        ({"strength": 0.5}, False, 0.0),
    ],
)
def test_a_reply_is_written_with_the_adapter_that_is_there(change: dict, has_adapter: bool, strength: float) -> None:
    page, model = Page(), FakeModel()
    model.adapter = model.adapter if has_adapter else None
    answer(page, model, replace(REPLY, **change))
    ((_, found),) = model.asked
    assert found == strength
    pieces = ["tu", "ned "] if strength else ["ba", "se "]
    label = (AdapterUse("1", "Ships", strength),) if strength else ()
    assert page.events == [
        *(ReplyPiece(1, piece) for piece in pieces),
        ReplyDone(1, "".join(pieces), 3, 2, 8.0, 1.0, "stop", token_ids=(1, 1), adapters=label),
    ]  # fmt: skip


@pytest.mark.parametrize("length", [50, 2_000_000])
def test_a_long_conversation_has_its_time(length: int) -> None:
    page, model = Page(), FakeModel()
    long = (ChatMessage("user", "Hello" + "o" * length),)
    answer(page, model, replace(REPLY, messages=long), replace(COMPARE, probe=Probe("Hello", long, "Ahoy")))
    assert len(page.all(ReplyDone)) == len(page.all(CompareDone)) == 1
    if length < 1000:
        assert page.busy == []  # what hangs is noticed as soon as ever
    else:
        assert page.busy == ["reading the conversation", ""] * 3 and page.busy_s[0] >= 20


def test_each_reply_and_each_side_says_how_it_is_to_be_written() -> None:
    page, model = Page(), FakeModel()
    quiet = replace(REPLY, use_adapter=False)
    commands = replace(REPLY, chat_format="plain"), quiet, replace(COMPARE, chat_format="chatml")
    answer(page, model, *commands)
    assert model.templates == [("plain", True), ("auto", False), ("chatml", False), ("chatml", True)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampling": Sampling(temperature=-3.0, top_p=7.0)},
         "Temperature is -3; wanted 0 to 5. Top-p is 7; wanted 0.01 to 1."),
        ({"strength": -1.0}, "Strength is -1; wanted 0 to 2."),
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused_by_name(change: dict, said: str) -> None:
    page, model = Page(), FakeModel()
    answer(page, model, replace(REPLY, **change), replace(REPLY, turn=2))
    assert page.events[0] == Failed("chat", said) and len(model.asked) == 1
    assert page.last(ReplyDone).turn == 2  # the next has its turn as ever


@pytest.mark.parametrize("losses", [0, 1, 3])
def test_a_reply_goes_on_after_the_gpu_was_lost(losses: int) -> None:
    page, model = Page(), FakeModel()
    model.losses = losses
    answer(page, model, REPLY)
    assert page.events == [
        ReplyPiece(1, "tu"),
        ReplyPiece(1, "ned "),
        ReplyDone(1, "tuned ", 3, 2, 8.0, 1.0, "stop", **TUNED),
    ]
    assert len(model.asked) == len(model.templates) == losses + 1  # written again each time


def test_a_gpu_that_is_lost_each_time_ends_the_reply() -> None:
    page, model = Page(), FakeModel()
    model.losses = 4
    answer(page, model, REPLY)
    assert page.events == [ReplyPiece(1, "tu"), Failed("chat", "mapping failed")]


def test_a_comparison_is_greedy_and_tells_both_answers() -> None:
    page, model = Page(), FakeModel()
    answer(page, model, COMPARE)
    assert [(event.side, event.text, event.done) for event in page.all(ComparePiece)] == [
        ("base", "ba", False), ("base", "se ", False), ("base", "", True),
        ("tuned", "tu", False), ("tuned", "ned ", False), ("tuned", "", True),
    ]  # fmt: skip
    done = page.last(CompareDone)
    assert (done.adapter_id, done.index) == ("1", 2) and done.answer is not None
    assert (done.answer.base, done.answer.tuned, done.answer.reference) == ("base", "tuned", "Ahoy")
    assert [(sampling.temperature, strength) for sampling, strength in model.asked] == [(0.0, 0.0), (0.0, 1.0)]


@pytest.mark.parametrize("other", [None, AdapterSet((AdapterPart("9", "Other"),))])
def test_with_another_adapter_there_is_nothing_to_compare(other: AdapterSet | None) -> None:
    page, model = Page(), FakeModel()
    model.adapter = other
    answer(page, model, COMPARE)
    assert page.events == [CompareDone("1", 2, None)] and model.asked == []


def test_a_model_that_does_not_come_ends_both_kinds_with_an_error() -> None:
    page, model = Page(), FakeModel()
    model.error = ModelError("no memory")
    answer(page, model, REPLY, COMPARE, ReadLogits("a b", use_adapter=False))
    assert page.events == [
        Failed("chat", "no memory"), Failed("compare", "no memory", None, "1"), CompareDone("1", 2, None),
        Failed("chat", "no memory"),
    ]  # fmt: skip


def test_a_stop_ends_what_came_before_it_and_nothing_after() -> None:
    page, model = Page(), FakeModel()
    answer(page, model, REPLY, COMPARE, replace(REPLY, turn=2), StopReply(), replace(REPLY, turn=3))
    stopped, waited, after = page.all(ReplyDone)
    # The first had begun when the stop came: its piece in flight is the last one.
    assert (stopped.turn, stopped.text, stopped.finish_reason) == (1, "tu", "stopped")
    assert waited == ReplyDone(2, "", 0, 0, 0.0, 0.0, "stopped")
    assert page.all(CompareDone) == [CompareDone("1", 2, None)]
    assert (after.turn, after.text, after.finish_reason) == (3, "tuned ", "stop")
    assert len(model.asked) == 2


def test_a_stop_without_a_model_is_nothing() -> None:
    page, model = Page(), FakeModel()
    model.chat = None
    answer(page, model, StopReply())
    assert page.events == [] and model.stops == 0


@pytest.mark.parametrize("use_adapter", [True, False])
def test_logits_are_those_of_the_text(monkeypatch: pytest.MonkeyPatch, use_adapter: bool) -> None:
    async def logits(model: object, adapter: object, ids: list[int], strength: float) -> np.ndarray:
        assert strength == 1.0
        assert model == "weights" and (adapter is not None) is use_adapter
        return np.arange(len(ids) * 3, dtype=np.float32).reshape(len(ids), 3)

    monkeypatch.setattr(reply_service, "logits", logits)
    page, model = Page(), FakeModel()
    answer(page, model, ReadLogits("one three", use_adapter=use_adapter))
    (told,) = page.events
    assert isinstance(told, Logits) and told.token_ids == (3, 5) and told.vocab_size == 3
    assert np.frombuffer(told.data, "<f4").tolist() == [0, 1, 2, 3, 4, 5]
