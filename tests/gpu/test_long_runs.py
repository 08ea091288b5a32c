"""Long runs and long conversations, natively: what the process and the GPU hold stays as it is."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.generate import ChatEngine
from lora_lab.gpu import Device
from lora_lab.train import StepDone
from tests.engine_runs import adapter_with, random_examples, random_tensors, run, trainer_for
from tests.gpu.conftest import Tiny

MOST = 0.02  # of growth
LORA = LoraConfig(rank=2, alpha=4)


def held(device: Device) -> dict[str, int]:
    """Return what this process holds: memory of its own, Python's blocks, and the GPU's buffers."""
    gc.collect()
    found = {"Python blocks": sys.getallocatedblocks(), "GPU bytes": device.memory_in_use_bytes}
    if (status := Path("/proc/self/status")).exists():
        rss = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        found["resident bytes"] = 1024 * int(rss.split()[1])
    return found | {"GPU buffers": device.num_buffers}


def assert_held(what: str, before: dict[str, int], after: dict[str, int]) -> None:
    print(f"{what}: " + ", ".join(f"{name} {before[name]:,} to {after[name]:,}" for name in before))
    grown = {name: after[name] / before[name] - 1 for name in before}
    assert max(grown.values()) <= MOST, grown


@pytest.mark.parametrize(
    ("steps", "first"), [(600, 200), pytest.param(10_000, 1000, marks=pytest.mark.long)], ids=["short", "10,000 steps"]
)
def test_a_long_run_takes_no_more_memory_than_its_beginning(tiny: Tiny, steps: int, first: int) -> None:
    examples = random_examples((20, 33, 17, 40, 9), tiny.model.config.vocab_size)
    held_back = random_examples((9, 30), tiny.model.config.vocab_size, seed=8)
    config = TrainConfig(steps=steps, batch=1, accumulate=1, learning_rate=1e-5)
    found: list[dict[str, int]] = []

    async def trained() -> None:
        async for event in trainer.run():
            if isinstance(event, StepDone) and event.step in (first, steps):
                found.append(held(tiny.model.device))

    with (
        adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter,
        trainer_for(tiny.model, adapter, examples, config, held_back) as trainer,
    ):
        run(trained())
    assert_held(f"steps {first} and {steps}", *found)


@pytest.mark.parametrize(
    ("turns", "words"), [(30, 60), pytest.param(500, 12, marks=pytest.mark.long)], ids=["short", "500 turns"]
)
def test_a_long_conversation_takes_no_more_memory_than_its_beginning(tiny: Tiny, turns: int, words: int) -> None:
    files = tiny.model.files.tokenizer
    template = ChatTemplate(files.chat_template, files.special_tokens)
    chat = ChatEngine(tiny.model, load_tokenizer(files), template, 1024)
    sampling = SamplingConfig(max_new_tokens=8, temperature=0.0)
    talk: list[dict[str, str]] = []
    dropped = 0

    async def turn(number: int) -> None:
        nonlocal dropped
        talk.append({"role": "user", "content": f"{number}: " + " ".join(["and"] * words)})
        text = "".join([piece.text async for piece in chat.reply(talk, sampling)])
        assert chat.last_stats is not None
        del talk[: chat.last_stats.dropped_messages]
        dropped += chat.last_stats.dropped_messages
        talk.append({"role": "assistant", "content": text})

    async def talked(count: int) -> None:
        for number in range(count):
            await turn(number)

    run(chat.prepare())
    run(talked(turns))
    assert dropped, "the conversation never outgrew its context"
    before = held(tiny.model.device)
    run(talked(turns))
    after = held(tiny.model.device)
    chat.close()
    assert_held(f"{turns} turns", before, after)
