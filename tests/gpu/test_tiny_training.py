"""Training a tiny Llama: loss curves and results against PEFT and PyTorch's AdamW, and what a run leaves behind."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.errors import DatasetError, LoraLabError, OutOfMemoryError
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from lora_lab.train import StepDone, Trainer, TrainEvent, ValidationDone
from lora_lab.train.schedule import step_rows
from tests import torch_reference
from tests.close import assert_all_close, assert_close
from tests.engine_runs import (
    adapter_with,
    events,
    gradients,
    losses,
    random_examples,
    random_tensors,
    run,
    trainer_for,
    validation_losses,
)
from tests.gpu.conftest import Tiny, TinyModels

LORA = LoraConfig(rank=4, alpha=8)
CURVE_TOLERANCE = 1e-4  # of each step's loss
RESULT_TOLERANCE = 1e-3  # of each final A and B


# --- against PEFT ---


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tied f32", {"batch": 4, "accumulate": 1}),
        ("untied f32", {"batch": 2, "accumulate": 2, "schedule": "linear", "weight_decay": 0.1}),
        ("tied bf16", {"batch": 1, "accumulate": 4, "schedule": "constant", "max_grad_norm": 0.0}),
    ],
)
def test_twenty_steps_are_pefts(each_device: Device, tiny_models: TinyModels, name: str, settings: dict) -> None:
    """Same start, same rows: the same loss at every step and the same adapter at the end."""
    tiny = tiny_models[name]
    examples = random_examples((20, 33, 17, 40, 9, 26, 12), tiny.model.config.vocab_size)
    config = TrainConfig(steps=20, learning_rate=1e-3, warmup_steps=3, seed=5, **settings)
    tensors = random_tensors(tiny.model, LORA)
    order = step_rows(len(examples), config)
    steps = [[examples[i] for micro in next(order) for i in micro] for _ in range(20)]
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, tensors)
    wanted = torch_reference.train(peft, steps, config)

    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        found = losses(events(t))
        result = run(adapter.to_tensors())
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= CURVE_TOLERANCE
    assert_all_close(result, torch_reference.values(peft), RESULT_TOLERANCE)


def test_twenty_steps_of_a_new_adapter_are_pefts(each_device: Device, tiny: Tiny) -> None:
    """From B = 0, as every real run starts: the first dA is zero, and AdamW divides by its root."""
    examples = random_examples((20, 33, 17, 40), tiny.model.config.vocab_size)
    config = TrainConfig(steps=20, batch=4, accumulate=1, learning_rate=1e-3, shuffle=False, warmup_steps=0)
    adapter = Adapter.create(each_device, tiny.model.config, LORA, seed=1)
    start = run(adapter.to_tensors())
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, start)
    wanted = torch_reference.train(peft, [examples] * 20, config)
    with trainer_for(tiny.model, adapter, examples, config) as trainer:
        found = losses(events(trainer))
    result = run(adapter.to_tensors())
    adapter.release()
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= CURVE_TOLERANCE
    assert found[-1] < found[0] - 0.1
    assert_all_close(result, torch_reference.values(peft), RESULT_TOLERANCE)


def test_what_each_step_tells(tiny: Tiny) -> None:
    examples = random_examples((20, 33, 17), tiny.model.config.vocab_size)
    config = TrainConfig(steps=2, batch=1, accumulate=3, learning_rate=1e-3, shuffle=False, warmup_steps=0)
    tensors = random_tensors(tiny.model, LORA)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, tensors)
    _, wanted = torch_reference.loss_and_gradients(peft, examples)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        first, second = events(t)
    assert isinstance(first, StepDone) and isinstance(second, StepDone)
    assert (first.step, second.step, first.total_steps) == (1, 2, 2)
    assert first.trained_tokens == sum(example.trained_tokens for example in examples)
    assert first.learning_rate == 1e-3 and second.learning_rate == pytest.approx(5e-4)
    norm = math.sqrt(sum(float(np.sum(gradient**2)) for gradient in wanted.values()))
    assert first.grad_norm == pytest.approx(norm, rel=1e-5)  # before clipping
    assert first.tokens_per_s == pytest.approx(first.tokens / first.elapsed_ms * 1e3)
    assert first.eta_ms > 0 and second.eta_ms == 0


def test_validation_loss_is_torchs(each_device: Device, tiny: Tiny) -> None:
    vocab = tiny.model.config.vocab_size
    examples, held_back = random_examples((20, 33), vocab), random_examples((9, 50, 31, 12, 44), vocab, seed=8)
    config = TrainConfig(steps=2, batch=2, accumulate=1, learning_rate=1e-3, shuffle=False, warmup_steps=0)
    tensors = random_tensors(tiny.model, LORA)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, tensors)
    torch_reference.train(peft, [examples, examples], config)
    wanted = torch_reference.loss(peft, held_back).item()
    with (
        adapter_with(tiny.model, LORA, tensors) as adapter,
        trainer_for(tiny.model, adapter, examples, config, held_back) as trainer,
    ):
        found = validation_losses(events(trainer))
        before = run(adapter.to_tensors())
        again = run(trainer.validate())
        after = run(adapter.to_tensors())
    assert len(found) == 2  # after each step of so short a run
    assert found[1] == pytest.approx(wanted, rel=1e-6)
    assert again is not None and again.loss == found[1]
    assert all(np.array_equal(before[name], after[name]) for name in before)


# --- one seed, one result ---


def test_the_same_seed_gives_the_same_bits_twice(each_device: Device, tiny: Tiny) -> None:
    examples = random_examples((20, 33, 17, 40, 70), tiny.model.config.vocab_size)
    config = TrainConfig(steps=5, batch=2, accumulate=2, learning_rate=1e-2, seed=7)

    def train(seed: int) -> tuple[list[float], dict[str, np.ndarray]]:
        adapter = Adapter.create(each_device, tiny.model.config, LORA, seed)
        with trainer_for(tiny.model, adapter, examples, replace(config, seed=seed)) as trainer:
            curve = losses(events(trainer))
        result = run(adapter.to_tensors())
        adapter.release()
        return curve, result

    first, second, other = train(7), train(7), train(8)
    assert first[0] == second[0]
    assert all(first[1][name].tobytes() == second[1][name].tobytes() for name in first[1])
    assert first[0] != other[0]


# --- stopping, failing ---


def test_a_stop_keeps_what_was_learned(tiny: Tiny) -> None:
    examples = random_examples((20, 33), tiny.model.config.vocab_size)
    config = TrainConfig(steps=50, batch=2, accumulate=1, learning_rate=1e-3, shuffle=False, warmup_steps=0)
    config = replace(config, schedule="constant")
    tensors = random_tensors(tiny.model, LORA)

    async def until(trainer: Trainer, last: int) -> list[TrainEvent]:
        seen = []
        async for event in trainer.run():
            seen.append(event)
            if len(seen) == last:
                trainer.stop()
        return seen

    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        seen = run(until(t, 3))
        stopped = run(adapter.to_tensors())
        assert len(seen) == t.steps_done
        assert t.steps_done in (3, 4)  # a fourth may have been on its way
    short = replace(config, steps=t.steps_done)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, short) as t:
        assert losses(events(t)) == losses(seen)
        whole = run(adapter.to_tensors())
    assert all(np.array_equal(stopped[name], whole[name]) for name in whole)
    assert any(not np.array_equal(stopped[name], tensors[name]) for name in whole)


def test_a_stop_before_the_last_step_still_validates(tiny: Tiny) -> None:
    examples = random_examples((20, 33), tiny.model.config.vocab_size)
    config = TrainConfig(steps=100, batch=2, accumulate=1)

    async def stop_at_once(trainer: Trainer) -> list[TrainEvent]:
        seen = []
        async for event in trainer.run():
            trainer.stop()
            seen.append(event)
        return seen

    with (
        adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter,
        trainer_for(tiny.model, adapter, examples, config, examples) as trainer,
    ):
        seen = run(stop_at_once(trainer))
    assert [type(event) for event in seen] == [StepDone, ValidationDone]


@pytest.mark.parametrize(("patience_s", "is_given_up"), [(1e9, False), (-1.0, True)])
def test_a_long_validation_is_given_up_after_a_stop(
    tiny: Tiny, patience_s: float, is_given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred micro-batches, in which others get a turn; the stop comes in the middle of them."""
    monkeypatch.setattr("lora_lab.train.evaluate.STOPPED_S", patience_s)
    held = random_examples((20,) * 100, tiny.model.config.vocab_size)
    config = TrainConfig(steps=2, batch=1, accumulate=1, packing=False)
    seen: list[TrainEvent] = []

    async def stop_in_the_validation(trainer: Trainer) -> None:
        async def stop() -> None:
            while len(seen) < 1:
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
            trainer.stop()

        stopping = asyncio.ensure_future(stop())
        async for event in trainer.run():
            seen.append(event)
        assert stopping.done()

    with (
        adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter,
        trainer_for(tiny.model, adapter, held[:2], config, held) as trainer,
    ):
        run(stop_in_the_validation(trainer))
    assert [type(event) for event in seen] == ([StepDone] if is_given_up else [StepDone, ValidationDone])


def test_a_device_that_binds_little_at_once_trains_what_fits(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter's buffers are larger than one binding; what a single binding must hold is refused when planned."""
    lora = LoraConfig(rank=64, alpha=64)
    examples = random_examples((20, 33), tiny.model.config.vocab_size)
    config = TrainConfig(steps=3, batch=2, accumulate=1, learning_rate=1e-3)
    tensors = random_tensors(tiny.model, lora)

    def train() -> list[float]:
        with (
            adapter_with(tiny.model, lora, tensors) as adapter,
            trainer_for(tiny.model, adapter, examples, config) as t,
        ):
            assert 4 * adapter.size > 1 << 18
            return losses(events(t))

    wanted = train()
    device = tiny.model.device
    monkeypatch.setattr(device, "limits", replace(device.limits, max_storage_buffer_binding_size=1 << 18))
    assert train() == wanted
    monkeypatch.setattr(device, "limits", replace(device.limits, max_storage_buffer_binding_size=1 << 15))
    with pytest.raises(OutOfMemoryError, match="binds 0 MiB at most"):
        train()


@pytest.mark.parametrize("ahead_below_ms", [0.0, 1e9], ids=["one by one", "ahead"])
def test_steps_given_ahead_change_no_bit(tiny: Tiny, ahead_below_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is submitted before this one's loss is known; losses and results are those of waiting."""
    monkeypatch.setattr("lora_lab.train.trainer.AHEAD_BELOW_MS", ahead_below_ms)
    examples = random_examples((20, 33, 17), tiny.model.config.vocab_size)
    config = TrainConfig(steps=12, batch=2, accumulate=1, learning_rate=1e-3)
    tensors = random_tensors(tiny.model, LORA)
    most = 0

    async def by_hand(trainer: Trainer) -> list[tuple[float, float, float]]:
        await trainer.prepare()
        order = step_rows(len(examples), config)
        return [await trainer.train_step([trainer.make_batch(m) for m in next(order)], step) for step in range(12)]

    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        wanted = run(by_hand(t))
        wanted_tensors = run(adapter.to_tensors())
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        submit, given = t.submit_step, 0

        async def counted(batches, step):
            nonlocal most, given
            given = step + 1
            most = max(most, given - t.steps_done)
            return await submit(batches, step)

        monkeypatch.setattr(t, "submit_step", counted)
        found = [e for e in events(t) if isinstance(e, StepDone)]
        found_tensors = run(adapter.to_tensors())
    assert [(e.loss, e.grad_norm, e.learning_rate) for e in found] == wanted
    assert all(np.array_equal(found_tensors[name], wanted_tensors[name]) for name in wanted_tensors)
    assert most == (2 if ahead_below_ms else 1)


def test_what_follows_a_bad_step_changes_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """An enormous rate spoils the second step; the third, given before that was known, must not touch the adapter."""
    monkeypatch.setattr("lora_lab.train.trainer.AHEAD_BELOW_MS", 1e9)
    examples = random_examples((20, 33, 17), tiny.model.config.vocab_size)
    config = TrainConfig(steps=6, batch=2, accumulate=1, learning_rate=1e25, schedule="constant", warmup_steps=0)
    tensors = random_tensors(tiny.model, LORA)
    results = []
    for steps in (6, 1):
        with (
            adapter_with(tiny.model, LORA, tensors) as adapter,
            trainer_for(tiny.model, adapter, examples, replace(config, steps=steps)) as trainer,
        ):
            if steps == 6:
                with pytest.raises(LoraLabError, match="step 2: the loss is"):
                    events(trainer)
            else:
                events(trainer)
            results.append(run(adapter.to_tensors()))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not np.array_equal(results[0][name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("matrix", ["self_attn.k_proj.lora_A", "mlp.down_proj.lora_B"])
def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_adapter(
    each_device: Device, tiny: Tiny, matrix: str, bad: float
) -> None:
    examples = random_examples((20, 33), tiny.model.config.vocab_size)
    tensors = random_tensors(tiny.model, LORA)
    tensors[f"base_model.model.model.layers.1.{matrix}.weight"][0, 0] = bad
    config = TrainConfig(steps=3, batch=2, accumulate=1, learning_rate=1e-2, warmup_steps=0)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        with pytest.raises(LoraLabError, match=r"step 1: the loss is .*The adapter keeps the last good step"):
            events(t)
        result = run(adapter.to_tensors())
    assert all(np.array_equal(result[name], tensors[name], equal_nan=True) for name in tensors)


def test_a_run_that_diverges_keeps_the_last_good_step(tiny: Tiny) -> None:
    examples = random_examples((20, 33), tiny.model.config.vocab_size)
    config = TrainConfig(steps=9, batch=2, accumulate=1, learning_rate=1e30, warmup_steps=0, shuffle=False)
    states = []

    async def diverge(trainer: Trainer) -> None:
        async for _ in trainer.run():
            states.append(await trainer.adapter.to_tensors())

    tensors = random_tensors(tiny.model, LORA)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        with pytest.raises(LoraLabError, match="try a tenth of it"):
            run(diverge(t))
        result = run(adapter.to_tensors())
    assert len(states) >= 1
    assert all(np.array_equal(result[name], states[-1][name]) for name in result)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch": 0}, "batch is 0"), ({"accumulate": 0}, "accumulate is 0"), ({"steps": 0}, "steps is 0"),
     ({"learning_rate": 0.0}, "learning_rate is 0"), ({"learning_rate": float("nan")}, "learning_rate is nan"),
     ({"epochs": 0.0}, "epochs is 0"), ({"recompute": "all"}, "recompute is 'all'; it must be 'auto', True or False")],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(tiny: Tiny, settings: dict, message: str) -> None:
    examples = random_examples((20,), tiny.model.config.vocab_size)
    with adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter:
        with pytest.raises(LoraLabError, match=message):
            Trainer(tiny.model, adapter, examples, TrainConfig(**settings))
        with pytest.raises(DatasetError, match="no row"):
            Trainer(tiny.model, adapter, [], TrainConfig())


# --- memory ---


@pytest.mark.parametrize(
    ("batch", "lengths", "packing"),
    [(1, (20, 150, 70, 33), False), (3, (20, 33, 70, 64, 96), False), (3, (20, 33, 170, 64, 96), True)],
)
def test_a_run_takes_exactly_the_memory_that_it_tells(
    each_device: Device, tiny: Tiny, batch: int, lengths: tuple[int, ...], packing: bool
) -> None:
    examples = random_examples(lengths, tiny.model.config.vocab_size)
    config = TrainConfig(steps=len(lengths), batch=batch, accumulate=1, packing=packing)
    with adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter:
        before = each_device.memory_in_use_bytes - adapter.buffer.size_bytes - tiny.model.weights_bytes
        trainer = Trainer(tiny.model, adapter, examples, config, validation=examples)
        told = trainer.memory
        assert told.total_bytes == sum(told.parts.values())
        assert told.parts["weights"] == tiny.model.weights_bytes
        run(trainer.prepare())
        assert each_device.memory_in_use_bytes - before == told.total_bytes
        pool = trainer.plans.pool.size_bytes
        assert pool == told.parts["activations"]
        each_device.peak_memory_bytes = each_device.memory_in_use_bytes
        events(trainer)  # every length, forward and backward, and forward alone
        assert trainer.plans.pool.size_bytes == pool
        # Other lengths' parameters come on top: a few hundred bytes a distinct kernel call, counted in no part.
        assert each_device.peak_memory_bytes - before <= told.total_bytes + 16 * 1024 * len(lengths)
        trainer.close()


def test_nothing_is_left_on_the_device(each_device: Device, tiny: Tiny) -> None:
    before = each_device.num_buffers, each_device.memory_in_use_bytes
    examples = random_examples((20, 33, 70), tiny.model.config.vocab_size)
    with adapter_with(tiny.model, LORA, random_tensors(tiny.model, LORA)) as adapter:
        with trainer_for(tiny.model, adapter, examples, TrainConfig(steps=4, batch=1, accumulate=2), examples) as t:
            events(t)
            assert each_device.num_buffers > before[0]
        with trainer_for(tiny.model, adapter, examples, TrainConfig(steps=1)) as t:  # closed before it ever ran
            pass
    assert (each_device.num_buffers, each_device.memory_in_use_bytes) == before


def test_plans_of_many_lengths_are_thrown_away_in_turn(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two plans, three lengths in turn: each is built again, and the gradients stay right."""
    monkeypatch.setattr("lora_lab.train.plans.MAX_PLANS", 2)
    examples = random_examples((20, 40, 70), tiny.model.config.vocab_size)
    tensors = random_tensors(tiny.model, LORA)
    peft = torch_reference.add_adapter(torch_reference.load_base(tiny.folder), LORA, tensors)
    config = TrainConfig(steps=1, batch=1, accumulate=3)
    with adapter_with(tiny.model, LORA, tensors) as adapter, trainer_for(tiny.model, adapter, examples, config) as t:
        for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
            loss, found = gradients(t, [[i] for i in order])
            assert len(t.plans._built) == 2
            wanted_loss, wanted = torch_reference.loss_and_gradients(peft, examples)
            assert_close(np.array(loss), np.array(wanted_loss), 1e-5)
            assert_all_close(found, wanted, 1e-5)
