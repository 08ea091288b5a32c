"""What is measured of the engine, the same on every host: steps, memory, chat. All through its public ways in.

Times are wall clock from one finished step to the next, readback included.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Generator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import Recorder, python_clock
from bench.rows import Row, Work
from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.generate import ChatEngine
from lora_lab.model import Adapter, Model
from lora_lab.train import Trainer
from lora_lab.train.events import StepDone

HAS_RECOMPUTE = any(one.name == "recompute" for one in fields(TrainConfig))
WARM_STEPS = 4


class Inside:
    """Awaits something and adds up the time spent in it, leaving out what it waits for."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable, self.seconds = awaitable, 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.awaitable.__await__()
        answer: Any = None
        while True:
            start = python_clock()
            try:
                waits_for = inner.send(answer)
            except StopIteration as done:
                return done.value
            finally:
                self.seconds += python_clock() - start
            answer = yield waits_for


class SilentTokenizer:
    """Stands in for a tokenizer where only tokens are measured."""

    special_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return b""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return ""


@dataclass
class StepFigures:
    """What came of one training run: each step's time after the warm ones, and what a step is made of."""

    first_ms: float  # from a model that is loaded to the first step finished: tracing, compiling, everything
    memory_mib: float  # most that the device held
    planned_mib: float  # what the trainer said before it began
    times_ms: list[float] = field(default_factory=list)
    python_ms: float = 0.0  # of a step, in Python itself: mean, encoding and submitting left out
    submit_ms: float = 0.0  # of a step, for encoding and submitting in the host's own language: mean
    work: Work = field(default_factory=Work)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    heap_before: dict[str, float] = field(default_factory=dict)
    heap_after: dict[str, float] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)

    @property
    def drift_percent(self) -> float:
        """How much slower the last 100 steps were than the first 100, in percent of the medians."""
        part = min(100, len(self.times_ms) // 2)
        return drift_percent(self.times_ms, part)


def drift_percent(times_ms: list[float], part: int) -> float:
    """Return by how many percent the median of the last `part` is above that of the first `part`."""
    return 100 * (statistics.median(times_ms[-part:]) / statistics.median(times_ms[:part]) - 1)


def trained_examples(model: Model, batch: int, length: int) -> list[Example]:
    """Return `batch` examples of random tokens that fill (batch, length) exactly, every target trained."""
    random = np.random.default_rng(1)
    trained = np.ones(length + 1, np.bool_)
    trained[0] = False
    tokens = random.integers(0, model.config.vocab_size, (batch, length + 1)).astype(np.int32)
    return [Example(row, trained) for row in tokens]


def heaps() -> dict[str, float]:
    """Return what this host tells of its heaps, in MiB: Python's, and JavaScript's after a collection if it can.

    `Python objects` is a number, those that Python's collector watches: WebAssembly memory only ever grows, so its size
    alone would hide a leak.
    """
    gc.collect()
    found = {"Python objects": float(len(gc.get_objects()))}
    if sys.platform != "emscripten":
        pages = Path("/proc/self/statm")
        return {**found, "process": int(pages.read_text().split()[1]) * 4096 / 2**20} if pages.exists() else found
    import js
    import pyodide_js

    found["WebAssembly"] = pyodide_js._module.HEAPU8.length / 2**20
    if hasattr(js, "gc"):
        js.gc()
    if hasattr(js, "process"):
        found["JavaScript"] = js.process.memoryUsage().heapUsed / 2**20
    elif hasattr(js.performance, "memory"):
        found["JavaScript"] = js.performance.memory.usedJSHeapSize / 2**20
    return found


async def measure_step(
    recorder: Recorder, model: Model, batch: int, length: int, *, seconds: float = 3.0, steps: int = 5, rank: int = 16,
    recompute: bool = False, profile: bool = False, planned: bool = False,
) -> StepFigures:  # fmt: skip
    """Train on (batch, length) for at least `seconds` and at least `steps` steps after the warm ones.

    `planned`: the first step is timed from where the page presses Train a while after a plan, the run traced and its
    kernels compiled by then; and by nothing else, as those of earlier runs are forgotten.
    """
    device = model.device
    device.peak_memory_bytes = device.memory_in_use_bytes
    start = time.perf_counter()
    adapter = Adapter(device, model.config, LoraConfig(rank=rank, alpha=2 * rank), planned=True)
    more: dict[str, Any] = {"recompute": recompute} if HAS_RECOMPUTE else {}
    config = TrainConfig(steps=100_000, batch=batch, accumulate=1, shuffle=False, schedule="constant", **more)
    trainer = Trainer(model, adapter, trained_examples(model, batch, length), config)
    try:
        if planned:
            device.forget_pipelines()
            await trainer.compile_ahead()
            start = time.perf_counter()
        adapter.initialize(0)
        await trainer.prepare()
        events = trainer.run()
        await _next_step(events)
        figures = StepFigures((time.perf_counter() - start) * 1e3, 0.0, trainer.memory.total_bytes / 2**20)
        for _ in range(WARM_STEPS - 1):
            await _next_step(events)
        figures.heap_before = heaps()
        window = recorder.start()
        begun, python_s = time.perf_counter(), 0.0
        while time.perf_counter() - begun < seconds or len(figures.times_ms) < steps:
            start = time.perf_counter()
            inside = Inside(_next_step(events))
            await inside
            figures.times_ms.append((time.perf_counter() - start) * 1e3)
            python_s += inside.seconds
        figures.heap_after = heaps()
        count = len(figures.times_ms)
        figures.submit_ms = window.submit_s * 1e3 / count
        figures.python_ms = max(0.0, python_s * 1e3 / count - figures.submit_ms)
        recorder.start()
        trainer.stop()
        async for _ in events:
            pass
        figures.memory_mib = device.peak_memory_bytes / 2**20
        figures.work = recorder.work(window.plans).times(1 / count)
        if profile:
            figures.kernels = await recorder.profile({key: times / count for key, times in window.plans.items()})
    finally:
        trainer.close()
        adapter.release()
    return figures


async def _next_step(events: AsyncIterator[Any]) -> None:
    async for event in events:
        if isinstance(event, StepDone):
            return
    raise RuntimeError("the run ended before the measurement")


async def measure_chat(
    recorder: Recorder, model: Model, adapter_on: bool, *, new_tokens: int, prompt: int, long_prompt: int,
    repeats: int = 5, profile: bool = False,
) -> tuple[Row, Row, dict[str, list[dict[str, Any]]]]:  # fmt: skip
    """Time greedy replies of `new_tokens` after `prompt` tokens, and the first token after `long_prompt`.

    Return both rows and, profiled, the time by kernel of a token and of the long prompt. With an adapter, replies with
    and without it take turns, as a host's pace changes from second to second: `share` in the first row's `more` is the
    median of the pairs' ratios.
    """
    context = max(2048, long_prompt + 16)
    chat = ChatEngine(model, SilentTokenizer(), ChatTemplate("", {}), context_length=context)  # type: ignore[arg-type]
    random = np.random.default_rng(2)
    suffix = " adapter" if adapter_on else ""

    async def reply(tokens: int, new: int, strength: float = 1.0) -> float:
        ids = random.integers(3, model.config.vocab_size, tokens).tolist()  # a new one each time: no prefix is kept
        async for _ in chat.complete(ids, SamplingConfig(max_new_tokens=new, temperature=0), strength):
            pass
        assert chat.last_stats is not None and chat.last_stats.new_tokens == new
        return chat.last_stats.tokens_per_s

    async def work_of(tokens: int, new: int, rows_in_use: float) -> tuple[Work, dict[int, int]]:
        for buffer in chat.plans.cache._buffers:
            recorder.share_of[id(buffer)] = min(1.0, rows_in_use / chat.plans.cache.length)
        window = recorder.start()
        await reply(tokens, new)
        recorder.start()
        return recorder.work(window.plans), window.plans

    try:
        await chat.prepare()
        if adapter_on:
            config = LoraConfig()
            made = Adapter.create(model.device, model.config, config, 0)
            await chat.set_adapter(config, await made.to_tensors())
            made.release()
        for _ in range(2):
            await reply(prompt, 16)
            await reply(prompt, 16, 0.0)
        speeds, shares, firsts = [], [], []
        for _ in range(repeats):
            speeds.append(await reply(prompt, new_tokens))
            if adapter_on:
                shares.append(speeds[-1] / await reply(prompt, new_tokens, 0.0))
        await reply(long_prompt, 1)
        for _ in range(repeats):
            await reply(long_prompt, 1)
            assert chat.last_stats is not None
            firsts.append(chat.last_stats.time_to_first_token_ms)

        kernels: dict[str, list[dict[str, Any]]] = {}
        one, first_plans = await work_of(prompt, 1, prompt + new_tokens / 2)
        whole, plans = await work_of(prompt, new_tokens, prompt + new_tokens / 2)
        per_token = (whole - one).times(1 / (new_tokens - 1))
        if profile:
            more = {key: (count - first_plans.get(key, 0)) / (new_tokens - 1) for key, count in plans.items()}
            kernels[f"decode{suffix}, a token"] = await recorder.profile({k: n for k, n in more.items() if n > 0})
        prefill, plans = await work_of(long_prompt, 1, long_prompt / 2)
        if profile:
            kernels[f"prefill {long_prompt}{suffix}"] = await recorder.profile(plans)
    finally:
        chat.close()
    return (
        Row(
            f"decode{suffix}",
            statistics.median(speeds),
            "tokens/s",
            work=per_token,
            more={"share": statistics.median(shares)} if shares else {},
        ),
        Row(f"prefill {long_prompt}{suffix}", statistics.median(firsts), "ms", work=prefill),
        kernels,
    )
