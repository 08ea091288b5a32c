"""Packing: nothing lost, nothing mixed, nothing moved; few lengths, all known before; on only where it pays."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.config import TrainConfig
from lora_lab.data.tokens import packing
from lora_lab.data.tokens.batches import Batch, Example, make_batch
from lora_lab.data.tokens.packing import (
    MAX_LENGTHS,
    PLAN_COST_TOKENS,
    MicroBatches,
    best_fit_decreasing,
    sequence_lengths,
)
from lora_lab.errors import LoraLabError
from lora_lab.train import schedule
from lora_lab.train.schedule import micro_batches, run_layout, step_rows, total_steps


def numbered(lengths: list[int], seed: int = 0) -> list[Example]:
    """Rows whose tokens are all different, so that each can be found again; `lengths` of them go into the model."""
    rng = np.random.default_rng(seed)
    numbers = itertools.count(1)
    examples = []
    for length in lengths:
        behind = int(rng.integers(0, 3))  # tokens behind the last trained one
        trained = rng.random(length + 1 + behind) < 0.5
        trained[0], trained[length], trained[length + 1 :] = False, True, False
        tokens = np.fromiter(itertools.islice(numbers, len(trained)), np.int32)
        examples.append(Example(tokens, trained))
    return examples


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=9)


def check_packed(batch: Batch, examples: list[Example]) -> None:
    """Every token, target, weight and position of every row is there once, in order, and sees its own row only."""
    assert batch.tokens.shape[0] == 1
    tokens, targets, weights, positions = (
        array[0] for array in (batch.tokens, batch.targets, batch.weights, batch.positions)
    )
    place = 0
    for example in examples:
        length = example.input_length
        part = slice(place, place + length)
        assert tokens[part].tolist() == example.tokens[:length].tolist()
        assert targets[part].tolist() == example.tokens[1 : length + 1].tolist()
        assert weights[part].tolist() == example.trained[1 : length + 1].tolist()
        for t in range(place, place + length):
            seen = tokens[t - positions[t] : t + 1]
            assert seen.tolist() == example.tokens[: t - place + 1].tolist()
        place += length
    assert not weights[place:].any() and not positions[place:].any() and not tokens[place:].any()
    assert batch.real_tokens == place
    assert batch.trained_tokens == weights.sum() == sum(example.trained_tokens for example in examples)


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(0, 20), st.integers(0, 5))
def test_every_row_stands_once_in_the_sequence(lengths: list[int], room: int, seed: int) -> None:
    examples = numbered(lengths, seed)
    check_packed(make_batch(examples, packed_length=sum(lengths) + room), examples)


def test_the_check_finds_positions_that_go_on_and_rows_that_are_swapped() -> None:
    examples = numbered([5, 9, 3])
    batch = make_batch(examples, packed_length=20)
    going_on = replace(batch, positions=np.arange(20)[None])
    with pytest.raises(AssertionError):
        check_packed(going_on, examples)
    with pytest.raises(AssertionError):
        check_packed(batch, [examples[1], examples[0], examples[2]])


def test_the_same_trained_tokens_in_the_same_order_as_unpacked() -> None:
    examples = numbered([40, 7, 33, 64])
    packed, padded = make_batch(examples, packed_length=192), make_batch(examples)
    for name in ("tokens", "targets", "positions"):
        a, b = getattr(packed, name), getattr(padded, name)
        assert a[packed.weights > 0].tolist() == b[padded.weights > 0].tolist()
    assert (packed.trained_tokens, packed.real_tokens) == (padded.trained_tokens, padded.real_tokens)


def test_what_does_not_fit_is_refused() -> None:
    examples = numbered([40, 30])
    with pytest.raises(ValueError, match="70 tokens do not fit a sequence of 64"):
        make_batch(examples, packed_length=64)
    with pytest.raises(ValueError, match="2 examples do not fit 1 sequences"):
        make_batch(examples, rows=1)


# --- the lengths of a run ---


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=60))
def test_every_total_has_a_length_and_there_are_few(totals: list[int]) -> None:
    lengths = sequence_lengths(np.array(totals))
    assert list(lengths) == sorted(set(lengths))
    assert len(lengths) <= MAX_LENGTHS
    assert all(length % 64 == 0 for length in lengths)
    assert max(totals) <= lengths[-1] <= max(max(totals) + 63, max(totals) * 17 / 16)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([10, 100, 150, 300, 500, 640, 700]), min_size=1, max_size=300))
def test_no_other_choice_of_lengths_costs_less(totals: list[int]) -> None:
    candidates = sorted({-(-total // 64) * 64 for total in totals})

    def cost(lengths: tuple[int, ...]) -> int:
        return sum(min(x for x in lengths if x >= total) for total in totals) + PLAN_COST_TOKENS * len(lengths)

    choices = [
        (*some, candidates[-1])
        for count in range(min(MAX_LENGTHS, len(candidates)))
        for some in itertools.combinations(candidates[:-1], count)
    ]
    assert cost(sequence_lengths(np.array(totals))) == min(map(cost, choices))


@settings(max_examples=100, deadline=None)
@given(LENGTHS.map(lambda lengths: [8 * length for length in lengths]), st.integers(480, 900))
def test_bins_hold_every_row_once(lengths: list[int], room: int) -> None:
    bins = best_fit_decreasing(lengths, room)
    assert sorted(i for bin_ in bins for i in bin_) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in bin_) <= room for bin_ in bins)
    half_full = [bin_ for bin_ in bins if sum(lengths[i] for i in bin_) <= room // 2]
    assert len(half_full) <= 1  # two of them would have been one


def test_a_row_that_fits_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 65 tokens does not fit a sequence of 64"):
        best_fit_decreasing([3, 65], 64)


# --- a run ---

RUNS = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 5), "accumulate": st.integers(1, 4), "seed": st.integers(0, 3),
        "shuffle": st.booleans(), "steps": st.one_of(st.none(), st.integers(1, 30)),
        "epochs": st.sampled_from([0.4, 1, 2.5]),
    }
)  # fmt: skip


def rows_of_a_run(count: int, config: TrainConfig) -> list[list[int]]:
    steps = itertools.islice(step_rows(count, config), total_steps(count, config))
    return [micro for step in steps for micro in step]


@settings(max_examples=150, deadline=None)
@given(LENGTHS, RUNS)
def test_the_planned_micro_batches_are_those_of_the_run(lengths: list[int], run: dict[str, Any]) -> None:
    config = TrainConfig(**run)
    planned = micro_batches(np.array(lengths), config)
    micros = rows_of_a_run(len(lengths), config)
    assert planned.totals.tolist() == [sum(lengths[i] for i in micro) for micro in micros]
    assert planned.longest.tolist() == [max(lengths[i] for i in micro) for micro in micros]
    assert planned.largest_total == max(planned.totals)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, RUNS, st.sampled_from(["auto", True, False]), st.lists(st.integers(1, 90), max_size=9))
def test_every_shape_of_a_run_is_known_before(
    lengths: list[int], run: dict[str, Any], packed: Any, held: list[int]
) -> None:
    config = TrainConfig(**run, packing=packed)
    examples, validation = numbered(lengths), numbered(held, seed=1)
    layout = run_layout(examples, validation, config)
    if packed != "auto":
        assert layout.packed is packed
    batches = []
    for micro in rows_of_a_run(len(lengths), config):
        rows = [examples[i] for i in micro]
        batches.append(layout.make_batch(rows))
        if layout.packed:
            check_packed(batches[-1], rows)
    groups = layout.groups(validation)
    assert sorted(id(row) for group in groups for row in group) == sorted(map(id, validation))
    batches += [layout.make_batch(group) for group in groups]
    shapes = {batch.tokens.shape for batch in batches}
    assert max(shape[0] * shape[1] for shape in shapes) <= layout.largest[0] * layout.largest[1]
    assert max(int(batch.positions.max()) for batch in batches) < layout.longest_row
    if layout.packed:
        assert shapes <= {(1, length) for length in layout.lengths}
        assert len(layout.lengths) <= MAX_LENGTHS + 1
        assert layout.largest == max(shapes) or held  # exact: the largest is really used
    else:
        assert {shape[0] for shape in shapes} == {config.batch}


def test_packing_is_chosen_where_it_saves_enough() -> None:
    config = TrainConfig(steps=4, batch=4, accumulate=1, shuffle=False)
    alike, unlike = numbered([60] * 8), numbered([60, 10, 10, 10] * 2)
    assert not run_layout(alike, [], config).packed
    layout = run_layout(unlike, [], config)
    assert layout.packed and layout.largest == (1, 128)
    assert layout.saved == 0.5  # 128 tokens a step, not four times 64
    assert not run_layout(unlike, [], replace(config, packing=False)).packed
    assert run_layout(alike, [], replace(config, packing=True)).packed
    assert not run_layout(unlike, [], TrainConfig(steps=4, batch=1)).packed  # one row at once: nothing to pack


def test_the_saving_must_reach_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, config = numbered([60, 10, 10, 10]), TrainConfig(steps=1, batch=4, accumulate=1)
    saved = run_layout(rows, [], config).saved
    for threshold, packed in ((saved - 1e-6, True), (saved + 1e-6, False)):
        monkeypatch.setattr(packing, "MIN_SAVING", threshold)
        assert run_layout(rows, [], config).packed is packed


def test_a_run_too_long_to_plan_has_a_bound_that_no_micro_batch_exceeds(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 30)
    config = TrainConfig(steps=3000, batch=3, accumulate=1)
    whole = micro_batches(lengths, config)
    monkeypatch.setattr(schedule, "PLANNED_ROWS", 100)
    planned = micro_batches(lengths, config)
    assert len(planned.totals) < 100 and len(whole.totals) == 3000
    assert whole.totals[: len(planned.totals)].tolist() == planned.totals.tolist()
    assert max(planned.totals) < max(whole.totals) <= planned.largest_total == sum(sorted(lengths)[-3:])
    layout = run_layout(numbered(lengths.tolist()), [], replace(config, packing=True))
    assert layout.largest[1] >= planned.largest_total


def test_a_sequence_longer_than_the_kernels_allow() -> None:
    micro = MicroBatches(np.array([packing.MAX_SEQUENCE + 1]), np.array([9]), packing.MAX_SEQUENCE + 1)
    rows, config = numbered([9]), TrainConfig(batch=40_000)
    assert not packing.plan_layout(micro, rows, [], config).packed
    with pytest.raises(LoraLabError, match="packing: 40000 rows at once come to 262,141 tokens; a sequence holds"):
        packing.plan_layout(micro, rows, [], replace(config, packing=True))


def test_rows_that_were_not_planned_are_refused() -> None:
    layout = run_layout(numbered([60, 10, 10, 10]), [], TrainConfig(steps=1, batch=4, accumulate=1))
    with pytest.raises(ValueError, match="rows of 180 tokens in one micro-batch; this run was planned for 128"):
        layout.make_batch(numbered([60, 60, 60]))
