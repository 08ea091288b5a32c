"""The learning rate of every step, which rows make it up, and how they are laid out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..config import TrainConfig
from ..data.tokens.batches import Example, batch_order
from ..data.tokens.examples import input_lengths
from ..data.tokens.packing import Layout, MicroBatches, plan_layout

WARMUP_SHARE = 0.05
PLANNED_ROWS = 200_000  # of a run; the sizes of later micro-batches have a bound instead, lest planning take seconds


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


def micro_batches(lengths: np.ndarray, config: TrainConfig) -> MicroBatches:
    """Return the sizes of the micro-batches that `step_rows` gives in a run, for rows of `lengths` (N) tokens."""
    steps, num_rows = total_steps(len(lengths), config), len(lengths)
    per_epoch = -(-num_rows // config.batch)
    epochs, rest = divmod(steps, steps_per_epoch(num_rows, config))
    count = epochs * per_epoch + min(rest * config.accumulate, per_epoch)
    starts = np.arange(0, num_rows, config.batch)
    totals, longest = [], []
    planned = min(count, max(per_epoch, PLANNED_ROWS // config.batch))
    for epoch in range(-(-planned // per_epoch)):
        ordered = lengths[batch_order(num_rows, config.seed, epoch, config.shuffle)]
        totals.append(np.add.reduceat(ordered, starts))
        longest.append(np.maximum.reduceat(ordered, starts))
    all_totals = np.concatenate(totals)[:planned]
    bound = int(np.sort(lengths)[-config.batch :].sum()) if planned < count else int(all_totals.max())
    return MicroBatches(all_totals, np.concatenate(longest)[:planned], bound)


def run_layout(examples: Sequence[Example], validation: Sequence[Example], config: TrainConfig) -> Layout:
    """Return how the micro-batches of a run are laid out. Raises LoraLabError for packing that cannot be done."""
    return plan_layout(micro_batches(input_lengths(examples), config), examples, validation, config)
