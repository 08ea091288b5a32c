"""Short ways to run the engine, for tests: open a model, make examples and adapters, take gradients."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model, load_model
from lora_lab.model.files import open_model
from lora_lab.train import StepDone, Trainer, TrainEvent, ValidationDone

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def load(device: Device, path: Path) -> Model:
    """Bring a Hugging Face folder or a .gguf file to the device."""

    async def open_and_load() -> Model:
        return await load_model(device, await open_model(sources_from_path(path)))

    return run(open_and_load())


def random_examples(lengths: Sequence[int], vocab_size: int, seed: int = 0, share: float = 0.6) -> list[Example]:
    """Return examples of random tokens of which a random `share` is trained, the last always."""
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        trained = rng.random(length) < share
        trained[0], trained[-1] = False, True
        examples.append(Example(rng.integers(0, vocab_size, length).astype(np.int32), trained))
    return examples


def random_tensors(model: Model, config: LoraConfig, seed: int = 0, b_std: float = 0.05) -> dict[str, np.ndarray]:
    """Return an adapter's matrices: A as a new adapter has it, B normal and not zero, so that dA is not zero."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(model.config.num_layers):
        own = model.config.names_in(layer)
        for name in (target for target in config.targets if target in own):
            out_size, in_size = model.config.linear_shape(layer, name)
            key = f"base_model.model.{model.config.module_path(layer, name)}"
            bound = in_size**-0.5
            tensors[f"{key}.lora_A.weight"] = rng.uniform(-bound, bound, (config.rank, in_size)).astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = rng.normal(0, b_std, (out_size, config.rank)).astype(np.float32)
    return tensors


@contextmanager
def adapter_with(model: Model, config: LoraConfig, tensors: dict[str, np.ndarray]) -> Iterator[Adapter]:
    adapter = Adapter.from_tensors(model.device, model.config, config, tensors)
    yield adapter
    adapter.release()


@contextmanager
def trainer_for(
    model: Model, adapter: Adapter, examples: Sequence[Example], config: TrainConfig, validation: Sequence[Example] = ()
) -> Iterator[Trainer]:
    trainer = Trainer(model, adapter, examples, config, validation)
    run(trainer.prepare())
    yield trainer
    trainer.close()


def events(trainer: Trainer) -> list[TrainEvent]:
    """Run to the end."""

    async def collect() -> list[TrainEvent]:
        return [event async for event in trainer.run()]

    return run(collect())


def losses(all_events: Sequence[TrainEvent]) -> list[float]:
    return [event.loss for event in all_events if isinstance(event, StepDone)]


def validation_losses(all_events: Sequence[TrainEvent]) -> list[float]:
    return [event.loss for event in all_events if isinstance(event, ValidationDone)]


def gradients(trainer: Trainer, groups: Sequence[Sequence[int]]) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and, by PEFT's key, the gradients of one optimizer step over micro-batches of example numbers."""

    async def accumulate() -> tuple[float, np.ndarray]:
        await trainer.accumulate([trainer.make_batch(group) for group in groups])
        loss, _ = await trainer._read_stats()
        raw = await trainer.plans.device.read(trainer.plans.grads, 0, 4 * trainer.adapter.size)
        return loss, np.frombuffer(raw, np.float32)

    loss, flat = run(accumulate())
    return loss, trainer.adapter.split(flat)
