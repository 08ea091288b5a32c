"""What is measured, the same on every host. Times are wall clock around whole steps, readback included."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np

from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data.batches import Example
from lora_lab.data.template import ChatTemplate
from lora_lab.generate import ChatEngine
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model
from lora_lab.ops.step import StepValues
from lora_lab.train import Trainer


@dataclass
class Row:
    """One line of the table. `baseline` and `ratio` (ours / PyTorch) are filled in when PyTorch ran beside us."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    floor_share: float | None = None


class SilentTokenizer:
    """Stands in for a tokenizer where only tokens are measured."""

    special_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return b""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return ""


def trained_examples(model: Model, batch: int, length: int) -> list[Example]:
    """Return `batch` examples of random tokens that fill (batch, length) exactly, every target trained."""
    random = np.random.default_rng(1)
    trained = np.ones(length + 1, np.bool_)
    trained[0] = False
    tokens = random.integers(0, model.config.vocab_size, (batch, length + 1)).astype(np.int32)
    return [Example(row, trained) for row in tokens]


async def measure_step(
    model: Model, batch: int, length: int, seconds: float = 3.0, rank: int = 16, profile: bool = False
) -> tuple[Row, dict[str, float], Trainer]:
    """Time optimizer steps of (batch, length); return the row, the time by kernel in ms, and the open trainer."""
    adapter = Adapter.create(model.device, model.config, LoraConfig(rank=rank, alpha=2 * rank), 0)
    config = TrainConfig(steps=100_000, batch=batch, accumulate=1, shuffle=False, schedule="constant")
    trainer = Trainer(model, adapter, trained_examples(model, batch, length), config)
    start = time.perf_counter()
    await trainer.prepare()
    batches = [trainer._batch(list(range(batch)))]
    await trainer.train_step(batches, 0)
    first_ms = (time.perf_counter() - start) * 1e3
    for step in range(1, 4):
        await trainer.train_step(batches, step)
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 5:
        start = time.perf_counter()
        await trainer.train_step(batches, 4 + len(times))
        times.append((time.perf_counter() - start) * 1e3)
    by_kernel: dict[str, float] = defaultdict(float)
    by_kernel["first step"] = first_ms
    if profile:
        plan = await trainer.plans.batch_plan((batch, length))
        trainer.plans.set_step(StepValues(inv_tokens=1 / (batch * length), loss_rows=batch * length))
        for plan_ in (plan, trainer.plans.update_plan):
            found = await model.device.profile(plan_)
            for name, ms in zip(plan_.names, found or [], strict=False):
                by_kernel[name] += ms
    return Row(f"step {batch}x{length}", statistics.median(times), "ms"), dict(by_kernel), trainer


async def measure_chat(model: Model, adapter_on: bool, new_tokens: int = 128, prompt: int = 64) -> list[Row]:
    """Time a greedy reply of `new_tokens` after `prompt` tokens, and a prefill of 1,024."""
    chat = ChatEngine(model, SilentTokenizer(), ChatTemplate("", {}), context_length=2048)  # type: ignore[arg-type]
    await chat.prepare()
    if adapter_on:
        config = LoraConfig()
        made = Adapter.create(model.device, model.config, config, 0)
        await chat.set_adapter(config, await made.to_tensors())
        made.release()
    random = np.random.default_rng(2)

    async def reply(tokens: int, new: int) -> None:
        chat.plans.cache.clear()
        ids = random.integers(3, model.config.vocab_size, tokens).tolist()
        sampling = SamplingConfig(max_new_tokens=new, temperature=0)
        async for _ in chat.complete(ids, sampling):
            pass

    suffix = " adapter" if adapter_on else ""
    for _ in range(2):
        await reply(prompt, 16)
    speeds = []
    for _ in range(5):
        await reply(prompt, new_tokens)
        assert chat.last_stats is not None
        if chat.last_stats.new_tokens == new_tokens:
            speeds.append(chat.last_stats.tokens_per_s)
    await reply(1024, 1)
    firsts = []
    for _ in range(5):
        await reply(1024, 1)
        assert chat.last_stats is not None
        firsts.append(chat.last_stats.time_to_first_token_ms)
    chat.close()
    return [
        Row(f"decode{suffix}", statistics.median(speeds) if speeds else float("nan"), "tokens/s"),
        Row(f"prefill 1024{suffix}", statistics.median(firsts), "ms"),
    ]


def table(device: Device, rows: list[Row]) -> dict:
    """Return what is written as JSON."""
    return {"adapter": device.info.name, "rows": [asdict(row) for row in rows]}
