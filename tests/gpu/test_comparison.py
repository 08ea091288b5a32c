"""Two replies side by side: each is the one that its variant gives alone, and both meet the same chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lora_lab.config import LoraConfig, SamplingConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.generate import Piece, ReplyStats
from lora_lab.generate.comparison import Comparison, Side
from lora_lab.gpu import Device
from lora_lab.model import Model
from tests.engine_runs import adapter_with, load, random_tensors, run
from tests.gpu.conftest import Tiny
from tests.gpu.test_tiny_chat import (
    ahead,  # noqa: F401  (a fixture)
    chat_with,
    complete,
    complete_without_a_cache,
)
from tests.tiny_families import write_tiny_family

TALK = [{"role": "user", "content": "What is the way to the lighthouse?"}]
LORA = LoraConfig(rank=4, alpha=8)
SAMPLED = SamplingConfig(max_new_tokens=12, temperature=1.1, top_k=60, top_p=0.97, repetition_penalty=1.2, seed=11)


def parts_of(model: Model) -> tuple[Model, Tokenizer, ChatTemplate]:
    """The model, which never ends a turn, so that every reply has the length asked for."""
    files = model.files.tokenizer
    endless = replace(model, config=replace(model.config, eos_token_ids=()))
    return endless, load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens)


def compare(
    model: Model, sides: list[Callable[[ChatTemplate], Side]], sampling: SamplingConfig, context: int = 512
) -> tuple[list[list[int]], list[ReplyStats], list[int]]:
    """Return each side's tokens, how each went, and whose turn it was, piece after piece."""
    endless, tokenizer, template = parts_of(model)
    comparison = Comparison(endless, tokenizer, [side(template) for side in sides], context)
    found: list[list[int]] = [[] for _ in sides]
    stats: dict[int, ReplyStats] = {}
    order = []

    async def collect() -> None:
        async for index, said in comparison.reply(TALK, sampling):
            if isinstance(said, Piece):
                found[index].append(said.token_id)
                order.append(index)
            else:
                stats[index] = said

    run(collect())
    comparison.close()
    # What a decoder held back comes as a piece of its own, without a token of its own.
    count = sampling.max_new_tokens
    return [tokens[:count] for tokens in found], [stats[index] for index in range(len(sides))], order


@pytest.mark.usefixtures("ahead")
def test_each_side_is_what_it_gives_alone(tiny: Tiny) -> None:
    """Two adapters and the base, against the whole text run again for each token and drawn in float64."""
    model = tiny.model
    adapters = [random_tensors(model, LORA, seed, b_std=0.3) for seed in (1, 2)]
    sides = [lambda t: Side(t), lambda t: Side(t, LORA, adapters[0]), lambda t: Side(t, LORA, adapters[1], 0.5)]
    found, stats, order = compare(model, sides, SAMPLED)
    _, tokenizer, template = parts_of(model)
    prompt = tokenizer.encode(template.render(TALK, add_generation_prompt=True))
    with adapter_with(model, LORA, adapters[0]) as one, adapter_with(model, LORA, adapters[1]) as two:
        assert found[0] == complete_without_a_cache(model, None, prompt, SAMPLED)
        assert found[1] == complete_without_a_cache(model, one, prompt, SAMPLED)
        assert found[2] == complete_without_a_cache(model, two, prompt, SAMPLED, 0.5)
    assert len({tuple(tokens) for tokens in found}) == 3
    assert order[:6] == [0, 1, 2, 0, 1, 2]  # side by side, not one after the other
    for one_side in stats:
        assert (one_side.prompt_tokens, one_side.new_tokens, one_side.finish_reason) == (len(prompt), 12, "length")


def test_equal_sides_meet_the_same_chance(tiny: Tiny) -> None:
    """And the control: the chance of another seed is another."""
    tensors = random_tensors(tiny.model, LORA, b_std=0.3)
    hot = replace(SAMPLED, temperature=3.0, top_k=0, top_p=1.0)
    (left, right), _, _ = compare(tiny.model, [lambda t: Side(t, LORA, tensors)] * 2, hot)
    assert left == right
    (other, _), _, _ = compare(tiny.model, [lambda t: Side(t, LORA, tensors)] * 2, replace(hot, seed=12))
    assert other != left
    # An adapter that changes nothing answers as the base does, draw for draw.
    nothing = {key: value * (0 if ".lora_B." in key else 1) for key, value in tensors.items()}
    (base, tuned), _, _ = compare(tiny.model, [lambda t: Side(t), lambda t: Side(t, LORA, nothing)], hot)
    assert base == tuned


def test_it_is_the_reply_that_the_chat_gives(device: Device, tmp_path: Path) -> None:
    """Of a family with convolutions too, whose cache is of another kind."""
    folder = write_tiny_family(tmp_path / "lfm2", "lfm2")
    model = load(device, folder)
    lora = LoraConfig(rank=4, alpha=8, targets=model.config.linear_names)
    tensors = random_tensors(model, lora, b_std=0.2)
    (base, tuned), _, _ = compare(model, [lambda t: Side(t), lambda t: Side(t, lora, tensors, 0.8)], SAMPLED)
    with chat_with(model) as chat:
        prompt = chat.tokenizer.encode(chat.template.render(TALK, add_generation_prompt=True))
        assert complete(chat, prompt, SAMPLED) == base
        run(chat.set_adapter(lora, tensors))
        assert complete(chat, prompt, SAMPLED, 0.8) == tuned
    model.release()


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.usefixtures("ahead")
def test_a_stop_ends_both(tiny: Tiny, after: int) -> None:
    endless, tokenizer, template = parts_of(tiny.model)
    tensors = random_tensors(tiny.model, LORA, b_std=0.3)
    device = tiny.model.device
    before = device.num_buffers, device.memory_in_use_bytes
    comparison = Comparison(endless, tokenizer, [Side(template), Side(template, LORA, tensors)], 512)
    pieces, stats = 0, []

    async def some() -> None:
        nonlocal pieces
        async for _, said in comparison.reply(TALK, replace(SAMPLED, max_new_tokens=200)):
            if isinstance(said, ReplyStats):
                stats.append(said)
            else:
                pieces += 1
                if pieces == after:
                    comparison.stop()

    run(some())
    assert [one.finish_reason for one in stats] == ["stopped", "stopped"]
    assert sum(one.new_tokens for one in stats) == after
    comparison.close()
    assert (device.num_buffers, device.memory_in_use_bytes) == before


def test_a_side_takes_the_memory_that_the_reply_needs(tiny: Tiny) -> None:
    endless, tokenizer, template = parts_of(tiny.model)
    comparison = Comparison(endless, tokenizer, [Side(template), Side(template)], 2048)
    lengths = []

    async def look(max_new_tokens: int) -> None:
        replies = comparison.reply(TALK, replace(SAMPLED, max_new_tokens=max_new_tokens))
        await anext(replies)
        lengths.append([engine.context_length for engine in comparison._engines])
        await replies.aclose()

    for max_new_tokens in (8, 300, 10**6):
        run(look(max_new_tokens))
    assert lengths == [[256, 256], [512, 512], [2048, 2048]]
    comparison.close()
