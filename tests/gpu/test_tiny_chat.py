"""Chat over a tiny Llama: the cache gives what the whole text gives, and what a reply leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, SamplingConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.generate import ChatEngine, logits
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model
from tests import reference
from tests.engine_runs import adapter_with, random_tensors, run
from tests.gpu.conftest import Tiny, TinyModels

LORA = LoraConfig(rank=4, alpha=8)
GREEDY = SamplingConfig(max_new_tokens=8, temperature=0.0)


@contextmanager
def chat_with(model: Model, context_length: int = 512) -> Iterator[ChatEngine]:
    """An engine whose model never ends a turn, so that every reply has the length asked for."""
    endless = replace(model, config=replace(model.config, eos_token_ids=()))
    tokenizer = load_tokenizer(model.files.tokenizer)
    template = ChatTemplate(model.files.tokenizer.chat_template, model.files.tokenizer.special_tokens)
    chat = ChatEngine(endless, tokenizer, template, context_length)
    run(chat.prepare())
    yield chat
    chat.close()


@pytest.fixture(params=[False, True], ids=["one by one", "drawn ahead"])
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens as slow devices draw them, and as fast ones do: many before the first of them is read."""
    if request.param:
        monkeypatch.setattr("lora_lab.generate.tokens.AHEAD_BELOW_S", 1e9)
        monkeypatch.setattr("lora_lab.generate.tokens.READ_EVERY_S", 1e9)


def complete(chat: ChatEngine, prompt: Sequence[int], sampling: SamplingConfig, strength: float = 1.0) -> list[int]:
    async def collect() -> list[int]:
        return [piece.token_id async for piece in chat.complete(prompt, sampling, strength) if piece.token_id >= 0]

    return run(collect())[: sampling.max_new_tokens]


def complete_without_a_cache(
    model: Model, adapter: Adapter | None, prompt: Sequence[int], sampling: SamplingConfig, strength: float = 1.0
) -> list[int]:
    """Run the whole text again for each token, and sample with the float64 reference."""
    tokens = list(prompt)
    for number in range(sampling.max_new_tokens):
        last = run(logits(model, adapter, tokens, strength))[-1]
        p = reference.sampling_probabilities(
            last, tokens, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p,
            min_p=sampling.min_p, repetition_penalty=sampling.repetition_penalty,
        )  # fmt: skip
        tokens.append(reference.draw(p, sampling.seed, number))
    return tokens[len(prompt) :]


def prompt_of(length: int, model: Model) -> list[int]:
    return np.random.default_rng(length).integers(0, model.config.vocab_size, length).tolist()


SAMPLED = SamplingConfig(
    max_new_tokens=8, temperature=0.9, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.3, seed=11
)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 64, 100, 256, 300])
@pytest.mark.usefixtures("ahead")
def test_replies_are_those_of_the_whole_text(tiny: Tiny, length: int, sampling: SamplingConfig) -> None:
    """Prompts of one part, of one that fills it, of a padded one and of several."""
    prompt = prompt_of(length, tiny.model)
    with chat_with(tiny.model) as chat:
        found = complete(chat, prompt, sampling)
        assert chat.last_stats is not None
        assert (chat.last_stats.prompt_tokens, chat.last_stats.new_tokens) == (length, 8)
        assert chat.last_stats.finish_reason == "length"
    assert found == complete_without_a_cache(tiny.model, None, prompt, sampling)


@pytest.mark.parametrize("name", ["tied f32", "odd", "untied f16"])
def test_replies_on_each_device(each_device: Device, tiny_models: TinyModels, name: str) -> None:
    model = tiny_models[name].model
    prompt = prompt_of(40, model)
    with chat_with(model) as chat:
        assert complete(chat, prompt, GREEDY) == complete_without_a_cache(model, None, prompt, GREEDY)


@pytest.mark.usefixtures("ahead")
def test_the_adapter_goes_on_and_off_and_in_between(tiny: Tiny) -> None:
    model, prompt, tensors = tiny.model, prompt_of(40, tiny.model), random_tensors(tiny.model, LORA, b_std=0.3)
    with chat_with(model) as chat, adapter_with(model, LORA, tensors) as adapter:
        base = complete_without_a_cache(model, None, prompt, GREEDY)
        tuned = complete_without_a_cache(model, adapter, prompt, GREEDY)
        half = complete_without_a_cache(model, adapter, prompt, GREEDY, 0.5)
        assert len({tuple(base), tuple(tuned), tuple(half)}) == 3
        assert complete(chat, prompt, GREEDY) == base  # no adapter yet: the strength means nothing
        run(chat.set_adapter(LORA, tensors))
        assert complete(chat, prompt, GREEDY) == tuned
        assert complete(chat, prompt, GREEDY, 0.0) == base
        assert complete(chat, prompt, GREEDY, 0.5) == half
        assert complete(chat, prompt, GREEDY) == tuned
        run(chat.set_adapter(None))
        assert complete(chat, prompt, GREEDY) == base


def test_an_adapter_that_does_not_fit_leaves_the_old_one(tiny: Tiny) -> None:
    prompt, tensors = prompt_of(20, tiny.model), random_tensors(tiny.model, LORA, b_std=0.3)
    wrong = dict(list(tensors.items())[1:])
    with chat_with(tiny.model) as chat:
        run(chat.set_adapter(LORA, tensors))
        before = complete(chat, prompt, GREEDY)
        buffers = tiny.model.device.num_buffers
        with pytest.raises(AdapterError, match="is missing"):
            run(chat.set_adapter(LORA, wrong))
        assert tiny.model.device.num_buffers == buffers
        assert complete(chat, prompt, GREEDY) == before


@pytest.mark.usefixtures("ahead")
def test_a_second_turn_computes_only_what_is_new(tiny: Tiny) -> None:
    prompt = prompt_of(40, tiny.model)
    with chat_with(tiny.model) as chat:
        first = complete(chat, prompt, GREEDY)
        assert chat.last_stats is not None and chat.last_stats.cached_tokens == 0
        longer = [*prompt, *first, *prompt_of(9, tiny.model)]
        second = complete(chat, longer, GREEDY)
        # The reply's last token was drawn but never run.
        assert chat.last_stats.cached_tokens == len(prompt) + len(first) - 1
        other = [*prompt[:10], *prompt_of(5, tiny.model)]
        third = complete(chat, other, GREEDY)
        assert chat.last_stats.cached_tokens == 10
        assert complete(chat, prompt, GREEDY) == first
    assert second == complete_without_a_cache(tiny.model, None, longer, GREEDY)
    assert third == complete_without_a_cache(tiny.model, None, other, GREEDY)


@pytest.mark.usefixtures("ahead")
def test_a_seed_decides_the_reply(tiny: Tiny) -> None:
    prompt, hot = prompt_of(20, tiny.model), replace(SAMPLED, temperature=2.0, top_k=0, top_p=1.0, min_p=0.0)
    with chat_with(tiny.model) as chat:
        first = complete(chat, prompt, hot)
        assert complete(chat, prompt, hot) == first
        assert complete(chat, prompt, replace(hot, seed=12)) != first


@pytest.mark.usefixtures("ahead")
def test_a_reply_ends_at_a_stop_token_and_can_be_stopped(tiny: Tiny) -> None:
    prompt = prompt_of(20, tiny.model)

    async def stop_after(chat: ChatEngine, count: int) -> int:
        seen = 0
        async for _ in chat.complete(prompt, GREEDY):
            seen += 1
            if seen == count:
                chat.stop()
        return seen

    with chat_with(tiny.model) as chat:
        whole = complete(chat, prompt, GREEDY)
        first_use = whole.index(whole[4])
        ended = complete(chat, prompt, replace(GREEDY, stop_token_ids=(whole[4],)))
        assert chat.last_stats is not None and chat.last_stats.finish_reason == "stop"
        assert ended[: chat.last_stats.new_tokens] == whole[:first_use]
        run(stop_after(chat, 3))
        assert chat.last_stats.finish_reason == "stopped"
        assert chat.last_stats.new_tokens == 3
        assert complete(chat, prompt, GREEDY) == whole


def test_what_was_drawn_ahead_is_not_kept(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows behind a reply that was stopped are not the next turn's, and the GPU did draw ahead: the control."""
    monkeypatch.setattr("lora_lab.generate.tokens.AHEAD_BELOW_S", 1e9)
    monkeypatch.setattr("lora_lab.generate.tokens.READ_EVERY_S", 1e9)
    prompt, long = prompt_of(20, tiny.model), replace(GREEDY, max_new_tokens=40)

    async def few(chat: ChatEngine, count: int) -> list[int]:
        found: list[int] = []
        async for piece in chat.complete(prompt, long):
            found.append(piece.token_id)
            if len(found) == count:
                chat.stop()
        return found

    with chat_with(tiny.model) as chat:
        whole = complete(chat, prompt, long)
        decodes = 0
        decode = chat.plans.decode

        async def counted(*arguments) -> None:
            nonlocal decodes
            decodes += 1
            await decode(*arguments)

        monkeypatch.setattr(chat.plans, "decode", counted)
        assert run(few(chat, 9)) == whole[:9]
        assert decodes > 12
        assert chat.plans.cache.tokens == [*prompt, *whole[:8]]
        following = [*prompt, *whole[:9], 5, 6]
        found = complete(chat, following, GREEDY)
        assert chat.last_stats is not None and chat.last_stats.cached_tokens == len(prompt) + 8
    assert found == complete_without_a_cache(tiny.model, None, following, GREEDY)


def test_a_conversation_is_rendered_and_answered_with_text(tiny: Tiny) -> None:
    messages = [{"role": "user", "content": "What is your name? Straße, naïve, 你好, 😀"}]

    async def reply(chat: ChatEngine) -> str:
        sampling = SamplingConfig(max_new_tokens=40, temperature=1.5, seed=3)
        pieces = [piece.text async for piece in chat.reply(messages, sampling)]
        return "".join(pieces)

    with chat_with(tiny.model) as chat:
        text = run(reply(chat))
        assert chat.last_stats is not None
        prompt = chat.tokenizer.encode(chat.template.render(messages, add_generation_prompt=True))
        assert chat.last_stats.prompt_tokens == len(prompt)
        assert text
        text.encode("utf-8")  # no half characters


@pytest.mark.parametrize("length", [0, 64, 65])
def test_a_prompt_that_leaves_no_room_is_refused(tiny: Tiny, length: int) -> None:
    with chat_with(tiny.model, context_length=64) as chat:
        with pytest.raises(LoraLabError, match=f"{length} tokens long; the context holds 64"):
            complete(chat, [5] * length, GREEDY)
        assert len(complete(chat, [5] * 62, GREEDY)) == 2  # until the context is full
        assert chat.last_stats is not None and chat.last_stats.finish_reason == "length"


def test_a_conversation_that_outgrows_the_context_goes_on_without_its_oldest_turns(tiny: Tiny) -> None:
    sampling = replace(GREEDY, max_new_tokens=6)
    talk = [{"role": "system", "content": "Answer shortly."}]
    cuts = cached = dropped = 0
    with chat_with(tiny.model, context_length=128) as chat:

        async def reply() -> str:
            return "".join([piece.text async for piece in chat.reply(talk, sampling)])

        memory = chat.memory_bytes
        for turn in range(30):
            talk.append({"role": "user", "content": f"{turn}: and then?"})
            text = run(reply())
            assert chat.last_stats is not None and chat.last_stats.new_tokens == 6
            cuts += chat.last_stats.dropped_messages > 0
            cached += chat.last_stats.cached_tokens > chat.last_stats.prompt_tokens // 2
            del talk[1 : 1 + chat.last_stats.dropped_messages]
            dropped += chat.last_stats.dropped_messages
            prompt = list(chat.tokenizer.encode(chat.template.render(talk, add_generation_prompt=True)))
            assert chat.last_stats.prompt_tokens == len(prompt) <= 122
            if turn in (2, 12, 29):  # the answer to what is left, and to nothing else
                wanted = complete_without_a_cache(chat.model, None, prompt, sampling)
                assert text == chat.tokenizer.decode(wanted)
            talk.append({"role": "assistant", "content": text})
        assert chat.memory_bytes == memory
    assert len(talk) == 1 + 60 - dropped and talk[0]["role"] == "system" and talk[1]["role"] == "user"
    assert 0 < cuts < 15 and cached > 15  # most turns find the one before in the cache


def test_nothing_is_left_on_the_device(each_device: Device, tiny: Tiny) -> None:
    before = each_device.num_buffers, each_device.memory_in_use_bytes
    with chat_with(tiny.model) as chat:
        run(chat.set_adapter(LORA, random_tensors(tiny.model, LORA)))
        complete(chat, prompt_of(20, tiny.model), GREEDY)
        run(chat.set_adapter(LORA, random_tensors(tiny.model, LORA, seed=1)))
        complete(chat, prompt_of(20, tiny.model), GREEDY)
    run(logits(tiny.model, None, [1, 2, 3]))
    with pytest.raises(LoraLabError):
        run(logits(tiny.model, None, []))
    assert (each_device.num_buffers, each_device.memory_in_use_bytes) == before


def test_the_penalty_knows_nothing_of_what_is_drawn_inside_a_prompt(tiny: Tiny) -> None:
    """A long prompt runs in parts, and each part draws a token; only the last draw is real."""
    prompt, harsh = [7] * 300, replace(GREEDY, max_new_tokens=3, repetition_penalty=50.0)
    with chat_with(tiny.model) as chat:
        found = complete(chat, prompt, harsh)
    assert found == complete_without_a_cache(tiny.model, None, prompt, harsh)
