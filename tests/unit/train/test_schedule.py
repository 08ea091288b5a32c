"""Learning rates against transformers' own schedulers, and which rows each step takes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.config import TrainConfig
from lora_lab.train.schedule import learning_rate, step_rows, steps_per_epoch, total_steps, warmup_steps

TRANSFORMERS_NAMES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("warmup", [0, 1, 3, 20])
@pytest.mark.parametrize("total", [1, 2, 7, 20])
@pytest.mark.parametrize("schedule", TRANSFORMERS_NAMES)
def test_rates_are_transformers(schedule: Any, total: int, warmup: int) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = get_scheduler(TRANSFORMERS_NAMES[schedule], optimizer, warmup, total)
    config = TrainConfig(steps=total, learning_rate=3e-4, schedule=schedule, warmup_steps=warmup)
    for step in range(total):
        assert learning_rate(step, total, config) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12, abs=1e-18)
        optimizer.step()
        scheduler.step()


def test_five_percent_of_a_run_warms_up_unless_something_else_is_asked_for() -> None:
    assert warmup_steps(100, TrainConfig()) == 5
    assert warmup_steps(100, TrainConfig(warmup_steps=17)) == 17
    assert warmup_steps(100, TrainConfig(schedule="constant")) == 0
    assert learning_rate(0, 8, TrainConfig(learning_rate=1.0)) == 1.0  # too short to warm up: no step is wasted


@given(st.integers(1, 50), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(0, 3))
def test_every_epoch_takes_every_row_once(rows: int, batch: int, accumulate: int, shuffle: bool, seed: int) -> None:
    config = TrainConfig(batch=batch, accumulate=accumulate, shuffle=shuffle, seed=seed)
    steps = steps_per_epoch(rows, config)
    source = step_rows(rows, config)
    for _ in range(2):
        epoch = list(itertools.islice(source, steps))
        assert all(len(micro) <= batch for step in epoch for micro in step)
        assert all(1 <= len(step) <= accumulate for step in epoch)
        taken = [row for step in epoch for micro in step for row in micro]
        assert sorted(taken) == list(range(rows))
        assert shuffle or taken == list(range(rows))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({"epochs": 1.0}, 3), ({"epochs": 2.0}, 6), ({"epochs": 0.5}, 2), ({"epochs": 0.01}, 1),
     ({"steps": 11, "epochs": 2.0}, 11)],
)  # fmt: skip
def test_the_length_of_a_run(settings: dict[str, Any], wanted: int) -> None:
    assert total_steps(20, TrainConfig(batch=2, accumulate=4, **settings)) == wanted
