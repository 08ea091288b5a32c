"""What a run tells of its time, where steps overlap: it adds up, and no step seems to have taken none."""

from __future__ import annotations

import asyncio
import time

import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.train import StepDone, TrainEvent, ValidationDone
from tests.engine_runs import adapter_with, random_examples, random_tensors, run, trainer_for
from tests.gpu.conftest import Tiny

LORA = LoraConfig(rank=4, alpha=8)
STEPS, GIVING_S = 20, 0.05


def test_times_of_steps_and_validations_add_up_to_the_runs(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes 50 ms to be given to the GPU, much longer than the GPU needs for it."""
    monkeypatch.setattr("lora_lab.train.trainer.AHEAD_BELOW_MS", 1e9)
    vocab = tiny.model.config.vocab_size
    examples, held_back = random_examples((20, 33, 17), vocab), random_examples((9, 12), vocab, seed=8)
    config = TrainConfig(steps=STEPS, batch=1, accumulate=1, learning_rate=1e-3)
    between_ms: list[float] = []  # two results: what was told once, the control

    async def trained() -> tuple[list[TrainEvent], float]:
        submit, heard = t.submit_step, []

        async def slowly(batches, step):
            await asyncio.sleep(GIVING_S)
            return await submit(batches, step)

        monkeypatch.setattr(t, "submit_step", slowly)
        begun = last = time.perf_counter()
        async for event in t.run():
            now = time.perf_counter()
            if isinstance(event, StepDone):
                between_ms.append((now - last) * 1e3)
            last = now
            heard.append(event)
        return heard, (time.perf_counter() - begun) * 1e3

    tensors = random_tensors(tiny.model, LORA)
    with (
        adapter_with(tiny.model, LORA, tensors) as adapter,
        trainer_for(tiny.model, adapter, examples, config, held_back) as t,
    ):
        heard, whole_ms = run(trained())
    steps = [event for event in heard if isinstance(event, StepDone)]
    validations = [event for event in heard if isinstance(event, ValidationDone)]
    assert (len(steps), len(validations)) == (STEPS, 10)
    assert min(step.elapsed_ms for step in steps) >= GIVING_S * 1e3 - 1  # clocks of asyncio and ours
    assert min(between_ms) < GIVING_S * 1e3 / 2
    told_ms = sum(event.elapsed_ms for event in (*steps, *validations))
    assert 0.9 * whole_ms < told_ms < whole_ms
    rate = sum(step.tokens for step in steps) / sum(step.elapsed_ms for step in steps) * 1e3
    assert steps[-1].tokens_per_s == pytest.approx(rate)
