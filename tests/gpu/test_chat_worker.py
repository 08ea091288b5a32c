"""The chat worker on a GPU: replies asked for again, edited, side by side, by several adapters, and looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.gpu import Device
from lora_lab.model.files import open_model
from lora_lab.workers.protocol import (
    AdapterPart,
    AdaptersApplied,
    AdapterUse,
    ApplyAdapters,
    ChangesEnded,
    ChangesPart,
    ChatMessage,
    ComparedPiece,
    ComparedReply,
    CompareReplies,
    ComparisonEnded,
    Failed,
    Notice,
    ShowChanges,
    StopReply,
)
from tests.chat_session import SAMPLING, TALK, Chat
from tests.tiny_families import write_tiny_family
from tests.unit.workers.helpers import Page

SHIPS = LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj"))
STARS = LoraConfig(rank=6, alpha=3, targets=("v_proj", "down_proj"), use_rslora=True)
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


Start = Callable[..., Page]


@pytest.fixture
def start(device: Device, tiny_model_folder: Path) -> Start:
    """Open the tiny model in a chat worker, work with it, and see that nothing is left on the GPU."""

    def run(work: Callable[[Chat], Awaitable[None]], folder: Path = tiny_model_folder) -> Page:
        before = device.num_buffers, device.memory_in_use_bytes

        async def main() -> Page:
            async def opened() -> Device:
                return device

            chat = Chat(folder)
            chat.worker.gpu._device = asyncio.ensure_future(opened())  # type: ignore[assignment]
            await chat.open_model()
            try:
                await work(chat)
            finally:
                chat.worker.model._release()
            return chat.page

        page = asyncio.run(main())
        assert (device.num_buffers, device.memory_in_use_bytes) == before
        return page

    return run


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path) -> ModelConfig:
    return asyncio.run(open_model(sources_from_path(tiny_model_folder))).config


def adapter(config: ModelConfig, id: str, lora: LoraConfig, strength: float = 1.0, template: str | None = None):
    rng = np.random.default_rng(int(id))
    tensors = {key: rng.normal(0, 0.25, shape).astype(np.float32) for key, shape in
               expected_shapes(lora, config).items()}  # fmt: skip
    return AdapterPart(id, f"Adapter {id}", strength, write_adapter(tensors, lora, config, None, template))


def test_a_reply_asked_for_again_and_an_edited_turn_compute_only_what_is_new(start: Start, tmp_path: Path) -> None:
    """Every earlier turn can be gone on from, and gives the tokens of a chat that has seen nothing before."""
    folder = write_tiny_family(tmp_path / "lfm2", "lfm2")

    async def work(chat: Chat) -> None:
        talk = list(TALK)
        for words in ("And then?", "How far is it?", "Who lives there?"):
            said = await chat.reply(*talk)
            talk += [ChatMessage("assistant", said.text), ChatMessage("user", words)]
        newest = await chat.reply(*talk)
        cases = {
            "again": (talk, replace(SAMPLING, seed=6)),
            "with the same seed": (talk, SAMPLING),
            "an edited last turn": ([*talk[:-1], ChatMessage("user", "Who built it?")], SAMPLING),
            "an edited second turn": ([*talk[:2], ChatMessage("user", "And before that?")], SAMPLING),
            "the first again": (talk[:1], replace(SAMPLING, seed=9)),
        }
        found = {}
        for name, (messages, sampling) in cases.items():
            found[name] = await chat.reply(*messages, sampling=sampling)
        assert found["with the same seed"].token_ids == newest.token_ids != found["again"].token_ids
        # All of a repeated prompt but its last token, which is what is computed; of an edited one what is the same.
        for name in ("again", "with the same seed"):
            assert found[name].cached_tokens == found[name].prompt_tokens - 1, name
        encode, render = chat.worker.model.tokenizer.encode, chat.worker.model.chat.template.render  # type: ignore
        for name in ("an edited last turn", "an edited second turn"):
            kept = cases[name][0][:-1]
            same = encode(render([vars(turn) for turn in kept], add_generation_prompt=False))
            assert found[name].cached_tokens >= len(same), name
            assert found[name].cached_tokens < found[name].prompt_tokens - 1, name
        for name, (messages, sampling) in cases.items():
            assert chat.worker.model.chat is not None
            chat.worker.model.chat.plans.cache.clear()
            afresh = await chat.reply(*messages, sampling=sampling)
            assert afresh.cached_tokens == 0
            assert (found[name].token_ids, found[name].text) == (afresh.token_ids, afresh.text), name

    start(work)
    start(work, folder)


def test_several_adapters_are_applied_together(start: Start, config: ModelConfig) -> None:
    ships, stars = adapter(config, "1", SHIPS), adapter(config, "2", STARS, 0.5)

    async def work(chat: Chat) -> None:
        base = await chat.reply(*TALK)
        assert base.adapters == ()
        await chat.send(ApplyAdapters((ships, stars)))
        uses = (AdapterUse("1", "Adapter 1", 1.0), AdapterUse("2", "Adapter 2", 0.5))
        assert chat.page.last(AdaptersApplied).adapters == uses
        both = await chat.reply(*TALK)
        assert both.adapters == uses
        # Its files came: a strength can change without them.
        await chat.send(ApplyAdapters((replace(ships, files=None, strength=0.25),)))
        quarter = await chat.reply(*TALK)
        assert quarter.adapters == (AdapterUse("1", "Adapter 1", 0.25),)
        await chat.send(ApplyAdapters((replace(ships, files=None),)))
        assert (await chat.reply(*TALK, strength=0.25)).token_ids == quarter.token_ids
        one = await chat.reply(*TALK)
        assert len({base.token_ids, both.token_ids, one.token_ids}) == 3
        # A second one that adds nothing changes nothing.
        await chat.send(ApplyAdapters((replace(ships, files=None), replace(stars, files=None, strength=0.0))))
        assert (await chat.reply(*TALK)).token_ids == one.token_ids
        assert (await chat.reply(*TALK, use_adapter=False)).token_ids == base.token_ids
        await chat.send(ApplyAdapters(()))
        assert chat.page.last(AdaptersApplied).adapters == () and (await chat.reply(*TALK)).token_ids == base.token_ids

    start(work)


def test_what_cannot_be_applied_leaves_what_was(start: Start, config: ModelConfig, tmp_path: Path) -> None:
    ships = adapter(config, "1", SHIPS)
    wide = asyncio.run(open_model(sources_from_path(write_tiny_family(tmp_path / "m", "mistral", hidden_size=128))))
    strange = adapter(wide.config, "2", SHIPS)

    async def work(chat: Chat) -> None:
        await chat.send(ApplyAdapters((ships,)))
        before = await chat.reply(*TALK)
        wrong = {
            "Adapter 2: the adapter was made for a model of 3 layers and width 128": (ships, strange),
            "Adapter 9: its files are not here": (AdapterPart("9", "Adapter 9"),),
            "Adapter 1: the strength is 7; wanted 0 to 2.": (replace(ships, strength=7.0),),
            "an adapter is named twice": (ships, ships),
        }
        for words, parts in wrong.items():
            await chat.send(ApplyAdapters(parts))
            failed = chat.page.last(Failed)
            assert words in failed.message and (failed.where, failed.kind) == ("adapter", "AdapterError")
        assert len(chat.page.all(Failed)) == len(wrong) and len(chat.page.all(AdaptersApplied)) == 1
        chat.page.events.clear()
        after = await chat.reply(*TALK)
        assert (after.token_ids, after.adapters) == (before.token_ids, before.adapters)

    start(work)


def test_any_two_answer_side_by_side(start: Start, config: ModelConfig) -> None:
    ships, stars = adapter(config, "1", SHIPS), adapter(config, "2", STARS)

    async def work(chat: Chat) -> None:
        base = await chat.reply(*TALK)
        await chat.send(ApplyAdapters((ships,)))
        tuned, half = await chat.reply(*TALK), await chat.reply(*TALK, strength=0.5)
        left, right = await chat.compare((), (replace(ships, files=None),))
        assert (left.token_ids, right.token_ids) == (base.token_ids, tuned.token_ids)
        assert (left.text, right.text) == (base.text, tuned.text)
        assert (left.adapters, right.adapters) == ((), (AdapterUse("1", "Adapter 1", 1.0),))
        pieces = [event for event in chat.page.all(ComparedPiece) if event.turn == chat.turn]
        assert {event.adapters for event in pieces if event.side == "right"} == {right.adapters}
        for side, done in (("left", left), ("right", right)):
            assert "".join(event.text for event in pieces if event.side == side) == done.text
        turns = [event.side for event in pieces]
        assert turns != sorted(turns), "one side came after the other, not beside it"
        # Two strengths, and what is not applied at all.
        left, right = await chat.compare((replace(ships, files=None, strength=0.5),), (stars,))
        assert left.token_ids == half.token_ids and right.adapters[0].name == "Adapter 2"
        both, alone = await chat.compare((replace(ships, files=None), replace(stars, files=None)), (ships,))
        assert alone.token_ids == tuned.token_ids != both.token_ids and len(both.adapters) == 2
        # What was applied still is, with its cache.
        again = await chat.reply(*TALK, strength=0.5)
        assert again.token_ids == half.token_ids and again.cached_tokens == again.prompt_tokens - 1

    start(work)


def test_a_stop_ends_both_sides_and_what_waits(start: Start, config: ModelConfig) -> None:
    ships = adapter(config, "1", SHIPS)
    compare = CompareReplies(1, TALK, replace(SAMPLING, max_new_tokens=300), (), (ships,))

    async def work(chat: Chat) -> None:
        asked = [asyncio.ensure_future(chat.worker.answer(one)) for one in (
            compare, replace(compare, turn=2), ShowChanges(3, text="What is it?"))]  # fmt: skip
        while len(chat.page.all(ComparedPiece)) < 3:
            await asyncio.sleep(0)
        await chat.send(StopReply())
        await asyncio.gather(*asked)
        assert chat.page.all(ComparisonEnded) == [ComparisonEnded(1, False), ComparisonEnded(2, False)]
        assert chat.page.last(ChangesEnded) == ChangesEnded(3, False)
        first = [event for event in chat.page.all(ComparedReply) if event.turn == 1]
        assert [event.finish_reason for event in first] == ["stopped"] * 2
        assert sum(len(event.token_ids) for event in first) < 20
        assert {event.turn for event in chat.page.all(ComparedPiece)} == {1}
        assert (await chat.reply(*TALK)).finish_reason == "length"

    start(work)


def test_a_comparison_that_cannot_be_made_says_why_and_ends(start: Start, config: ModelConfig) -> None:
    ships = adapter(config, "1", SHIPS)
    wrong = {
        "Top-p is 7; wanted 0.01 to 1.": {"sampling": replace(SAMPLING, top_p=7.0)},
        "Adapter 3: its files are not here": {"left": (AdapterPart("3", "Adapter 3"),)},
        "Adapter 1: the strength is -1; wanted 0 to 2.": {"right": (replace(ships, strength=-1.0),)},
        "the newest message": {"messages": (ChatMessage("user", "word " * 3000),)},
    }

    async def work(chat: Chat) -> None:
        for number, (words, change) in enumerate(wrong.items()):
            await chat.send(replace(CompareReplies(number, TALK, SAMPLING, (), (ships,)), **change))
            assert words in chat.page.last(Failed).message and chat.page.last(Failed).where == "chat"
            assert chat.page.last(ComparisonEnded) == ComparisonEnded(number, False)
        assert chat.page.all(ComparedPiece) == []

    start(work)


def test_each_tokens_two_probabilities_are_those_that_replies_are_drawn_from(start: Start, config: ModelConfig) -> None:
    """Of a greedy reply each token is the likeliest where its writer is asked."""
    ships, greedy = adapter(config, "1", SHIPS), replace(SAMPLING, temperature=0.0, repetition_penalty=1.0)

    async def work(chat: Chat) -> None:
        await chat.send(ApplyAdapters((ships,)))
        base = await chat.reply(*TALK, sampling=greedy, use_adapter=False)
        tuned = await chat.reply(*TALK, sampling=greedy)
        for reply, by_base in ((base, True), (tuned, False)):
            found = await chat.changes(messages=TALK, token_ids=reply.token_ids, alternatives=3)
            assert tuple(token.token_id for token in found) == reply.token_ids
            assert "".join(token.text for token in found) == reply.text
            for token in found:
                best = (token.base_top if by_base else token.tuned_top)[0]
                assert best.token_id == token.token_id and best.base == token.base and best.tuned == token.tuned
                assert [len(token.base_top), len(token.tuned_top)] == [3, 3]
            # The control: the other one would have written something else somewhere.
            tops = [(token.tuned_top if by_base else token.base_top)[0].token_id for token in found]
            assert tuple(tops) != reply.token_ids
        assert chat.page.last(ChangesEnded).adapters == (AdapterUse("1", "Adapter 1", 1.0),)
        # The same adapter, not as the applied one; none; another strength; the text in place of its tokens.
        same = await chat.changes(messages=TALK, token_ids=tuned.token_ids, adapters=(ships,))
        applied = await chat.changes(messages=TALK, token_ids=tuned.token_ids)
        assert same == applied
        none = await chat.changes(messages=TALK, token_ids=tuned.token_ids, adapters=())
        assert all(token.base == token.tuned for token in none)
        half = await chat.changes(messages=TALK, token_ids=tuned.token_ids, strength=0.5)
        assert [t.base for t in half] == [t.base for t in applied] and half != applied
        assert half == await chat.changes(messages=TALK, token_ids=tuned.token_ids,
                                          adapters=(replace(ships, strength=0.5),))  # fmt: skip
        text = "The lighthouse keeper wrote: 你好, 😀."
        found = await chat.changes(text=text)
        ids = chat.worker.model.tokenizer.encode(text)  # type: ignore[union-attr]
        assert [token.token_id for token in found] == ids[1:]
        assert "".join(token.text for token in found) == chat.worker.model.tokenizer.decode(ids[1:])  # type: ignore

    start(work)


def test_a_text_that_cannot_be_looked_at_says_why_and_ends(start: Start, config: ModelConfig) -> None:
    wrong = {
        "the text has 1 tokens": {"text": "e"},
        "the text has 0 tokens": {},
        "the text has token 99999; this model's are 0 to 383": {"token_ids": (1, 99999)},
        "wanted 0 to 50": {"text": "What is it?", "alternatives": 51},
        "Strength is 3; wanted 0 to 2.": {"text": "What is it?", "strength": 3.0},
        "Adapter 3: its files are not here": {"text": "What?", "adapters": (AdapterPart("3", "Adapter 3"),)},
    }

    async def work(chat: Chat) -> None:
        for number, (words, what) in enumerate(wrong.items()):
            await chat.send(ShowChanges(number, **what))
            assert words in chat.page.last(Failed).message, chat.page.last(Failed)
            ended = chat.page.last(ChangesEnded)
            assert (ended.request, ended.is_whole) == (number, False)
        assert chat.page.all(ChangesPart) == []

    start(work)


def test_adapters_bring_their_template_also_to_a_comparison(start: Start, config: ModelConfig) -> None:
    plain, bringing = adapter(config, "1", SHIPS), adapter(config, "2", STARS, template=TEMPLATE)
    other = adapter(config, "3", STARS, template=TEMPLATE + " ")

    async def work(chat: Chat) -> None:
        base, _ = await chat.compare((), (bringing,))
        await chat.send(ApplyAdapters((bringing,)))
        tuned = await chat.reply(*TALK)
        base_again, compared = await chat.compare((), (bringing,))
        assert compared.token_ids == tuned.token_ids and base.prompt_tokens == base_again.prompt_tokens
        assert compared.prompt_tokens == tuned.prompt_tokens < base.prompt_tokens
        base_once_more, off = await chat.compare((), (replace(bringing, strength=0.0),))
        assert off.adapters == () and off.token_ids == base_once_more.token_ids  # it takes no part: nor does its format
        # It is the first that brings one; where another brings another, that is told.
        await chat.send(ApplyAdapters((plain, bringing)))
        assert (await chat.reply(*TALK)).prompt_tokens == tuned.prompt_tokens and chat.page.all(Notice) == []
        await chat.send(ApplyAdapters((bringing, other)))
        words = "Adapter 3: trained with another chat format than Adapter 2, whose format is used."
        assert chat.page.all(Notice) == [Notice(words)]

    start(work)
