"""From Train pressed to the first step finished, part by part: nothing compiled, and with the plan known for a while.

    node bench/node_host.mjs bench/first_step.py [rows [tokens]]      (see node_host.mjs for what has to be there)

Each part begins with a device of its own. The NVIDIA driver keeps compiled kernels on disk: set
__GL_SHADER_DISK_CACHE=0 for times that a first visit has. The weights are seeded random ones of SmolLM2-135M's shape.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable
from typing import Any

from bench.measure import trained_examples
from bench.synthetic import SMOLLM2_135M, random_model
from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.gpu import open_device
from lora_lab.model import Adapter, fill_model, plan_model
from lora_lab.train import StepDone, Trainer, measure_run


class Clock:
    """Says when each part of something began and ended, in ms since it began itself."""

    def __init__(self, what: str) -> None:
        print(f"\n{what}", flush=True)
        self.begun = time.perf_counter()

    def now(self) -> float:
        return 1e3 * (time.perf_counter() - self.begun)

    async def part(self, name: str, work: Awaitable[Any]) -> Any:
        begun = self.now()
        result = await work
        print(f"  {name:<34} {begun:8.0f} .. {self.now():6.0f} ms", flush=True)
        return result


class Ticks:
    """How long nothing else could run: the longest gap between two turns of a task that only waits its turn."""

    def __init__(self) -> None:
        self.longest_ms, self._goes_on = 0.0, True
        self._task = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while self._goes_on:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            self.longest_ms = max(self.longest_ms, 1e3 * (time.perf_counter() - begun))

    def stop(self) -> float:
        self._goes_on = False
        return self.longest_ms


async def one_run(files: Any, rows: int, tokens: int, planned: bool, weights_too: bool) -> None:
    """Time one first step. `weights_too`: they go to the GPU while the kernels compile, as on the page."""
    device = await open_device()
    what = "kernels compiled ahead" if planned else "nothing compiled"
    clock = Clock(f"{rows} x {tokens}, {what}, weights {'on their way meanwhile' if weights_too else 'there'}")
    model = plan_model(device, files)
    if not weights_too:
        await clock.part("(before) weights", fill_model(model))
    adapter = Adapter(device, model.config, LoraConfig(), planned=True)
    config = TrainConfig(steps=50, batch=rows, accumulate=1, shuffle=False, schedule="constant")
    examples = trained_examples(model, rows, tokens)

    async def traced() -> Trainer:
        return Trainer(model, adapter, examples, config)

    if planned:
        trainer = await clock.part("(before) trace", traced())
        ticks = Ticks()
        await clock.part("(before) kernels ahead", trainer.compile_ahead())
        print(f"  longest time without a turn for others {ticks.stop():6.0f} ms; {len(device._pipelines)} pipelines")
    begun = clock.now()
    if not planned:
        trainer = await clock.part("trace", traced())

    async def initialize() -> None:
        adapter.initialize(0)

    async def step(events: Any) -> None:
        async for event in events:
            if isinstance(event, StepDone):
                return

    await clock.part("adapter", initialize())
    work = [clock.part("weights", fill_model(model))] if weights_too else []
    await asyncio.gather(*work, clock.part("kernels and plans", trainer.prepare()))
    events = trainer.run()
    await clock.part("first step", step(events))
    print(f"  = first step after {clock.now() - begun:.0f} ms", flush=True)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        await step(events)
        times.append(1e3 * (time.perf_counter() - start))
    trainer.stop()
    async for _ in events:
        pass
    print(f"  a step of the run: {sorted(times)[10]:.1f} ms (median of 20)")
    trainer.close()
    adapter.release()
    again = Trainer(model, adapter, examples, config, layout=trainer.layout, plans=trainer.plans)
    adapter.initialize(0)
    await clock.part("(after) memory and plans of a trial", again.prepare())
    timed = await clock.part("(after) trial", measure_run(again))
    print(
        f"  trial: {timed.step_ms:.1f} ms a step, {timed.tokens_per_s:,.0f} tokens/s, {timed.measured_steps} measured"
    )
    again.close()
    adapter.release()
    model.release()
    print(f"  left on the device: {device.num_buffers} buffers, {device.memory_in_use_bytes} bytes", flush=True)
    await device.close()


async def main(rows: int, tokens: int) -> None:
    files = random_model(SMOLLM2_135M)
    for planned in (False, True):
        for weights_too in (False, True):
            await one_run(files, rows, tokens, planned, weights_too)


def _arguments() -> tuple[int, int]:
    given = [int(text) for text in globals().get("ARGUMENTS", sys.argv[1:])]
    rows, tokens = [*given, *(1, 512)[len(given) :]][:2]
    return rows, tokens


if "ARGUMENTS" in globals():  # Pyodide, whose loop is running already
    RUNNING = asyncio.ensure_future(main(*_arguments()))  # noqa: RUF006 (node_host.mjs waits for it)
elif __name__ == "__main__":
    asyncio.run(main(*_arguments()))
