"""The learning rate of every step, and which rows make it up."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..config import TrainConfig
from ..data.batches import batch_order

WARMUP_SHARE = 0.05


def steps_per_epoch(num_examples: int, config: TrainConfig) -> int:
    """Return how many optimizer steps see every example once; the last may be smaller than the others."""
    return -(-num_examples // (config.batch * config.accumulate))


def total_steps(num_examples: int, config: TrainConfig) -> int:
    """Return the number of optimizer steps of a run: `steps`, or as many as `epochs` takes, at least one."""
    if config.steps is not None:
        return config.steps
    return max(1, math.ceil(config.epochs * steps_per_epoch(num_examples, config) - 1e-9))


def warmup_steps(total: int, config: TrainConfig) -> int:
    """Return the steps of linear warm-up: those asked for, or 5 % of the run."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    return 0 if config.schedule == "constant" else round(WARMUP_SHARE * total)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the rate of `step` (0 is the first), as transformers' schedulers of the same names give it."""
    warmup = warmup_steps(total, config)
    if step < warmup:
        return config.learning_rate * step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    if config.schedule == "cosine":
        return config.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
    if config.schedule == "linear":
        return config.learning_rate * max(0.0, 1 - progress)
    return config.learning_rate


def step_rows(num_examples: int, config: TrainConfig) -> Iterator[list[list[int]]]:
    """Yield, without end, the micro-batches of each step as lists of example indices. Epochs do not share a step."""
    epoch = 0
    while True:
        order = batch_order(num_examples, config.seed, epoch, config.shuffle)
        micro = [order[i : i + config.batch] for i in range(0, num_examples, config.batch)]
        for i in range(0, len(micro), config.accumulate):
            yield micro[i : i + config.accumulate]
        epoch += 1
