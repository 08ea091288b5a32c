"""A model's weights brought to the GPU and a few steps trained, as of a model that is too large for the whole suite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from bench.measure import heaps, trained_examples
from bench.rows import Row
from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.errors import LoraLabError
from lora_lab.gpu import Device
from lora_lab.model import Adapter, fill_model, plan_model
from lora_lab.model.files import ModelFiles
from lora_lab.train import StepDone, Trainer


async def measure_few_steps(
    device: Device, files: ModelFiles, steps: int, shape: tuple[int, int], say: Callable[[Row], None]
) -> list[Row]:
    """Train `steps` steps of (batch, length); return what was planned, what was taken, how the heap grew, the losses.

    Raises LoraLabError where a loss is no number, or the run took other memory than it was planned with.
    """
    found: list[Row] = []

    def tell(row: Row) -> None:
        found.append(row)
        say(row)

    batch, length = shape
    model = plan_model(device, files)
    adapter = Adapter(device, model.config, LoraConfig(rank=16, alpha=32), planned=True)
    config = TrainConfig(steps=steps, batch=batch, accumulate=1, shuffle=False, schedule="constant")
    trainer = Trainer(model, adapter, trained_examples(model, batch, length), config)
    parts = {name: size / 2**20 for name, size in trainer.memory.parts.items()}
    more = {"shape": [batch, length], "recomputed_layers": trainer.memory.recomputed_layers, "parts_mib": parts}
    tell(Row("memory planned", trainer.memory.total_bytes / 2**20, "MiB", more=more))
    before, start = heaps(), time.perf_counter()
    try:
        await fill_model(model)
        await device.finished()
        after = heaps()
        size_mib = sum(tensor.size_bytes for tensor in files.tensors.values()) / 2**20
        tell(Row("load", time.perf_counter() - start, "s", more={"file_mib": size_mib}))
        for name in after:
            if name != "Python objects":
                tell(Row(f"heap growth {name}", after[name] - before[name], "MiB", more={"after_mib": after[name]}))
        adapter.initialize(0)
        await trainer.prepare()
        async for event in trainer.run():
            if isinstance(event, StepDone):
                tell(Row(f"step {event.step} of {steps}", event.elapsed_ms, "ms", more={"loss": event.loss}))
                if not math.isfinite(event.loss):
                    raise LoraLabError(f"step {event.step}: the loss is {event.loss}")
        tell(Row("memory taken", device.peak_memory_bytes / 2**20, "MiB"))
    finally:
        trainer.close()
        adapter.release()
        model.release()
    return found
