"""Before a run: its kernels compiled ahead, its time measured; and that the run does not notice either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.gpu import Device
from lora_lab.gpu.device import pipeline_keys
from lora_lab.model import Adapter, fill_model, plan_model
from lora_lab.model.files import ModelFiles
from lora_lab.train import RunTime, StepDone, Trainer, measure_run, trial
from tests.engine_runs import random_examples, run
from tests.gpu.conftest import Tiny, TinyModels

LORA = LoraConfig(rank=4, alpha=8)
CONFIG = TrainConfig(steps=6, batch=2, accumulate=2, learning_rate=1e-2, packing=False)
LENGTHS = [9, 40, 20, 33, 12, 60, 31, 8]


def planned(
    device: Device, files: ModelFiles, config: TrainConfig = CONFIG, lengths: Sequence[int] = LENGTHS,
    held_lengths: Sequence[int] = (30, 50),
) -> Trainer:  # fmt: skip
    """Return a run's trainer, without any memory on the GPU."""
    model = plan_model(device, files)
    rows = random_examples(lengths, model.config.vocab_size)
    held = random_examples(held_lengths, model.config.vocab_size, seed=1)
    return Trainer(model, Adapter(device, model.config, LORA, planned=True), rows, config, held)


@contextmanager
def on_gpu(trainer: Trainer) -> Iterator[None]:
    """Give a planned run its memory, as the worker does: the weights are read while the plans are built."""

    async def get_ready() -> None:
        trainer.adapter.initialize(0)
        await asyncio.gather(fill_model(trainer.model), trainer.prepare())

    run(get_ready())
    try:
        yield
    finally:
        trainer.close()
        trainer.adapter.release()
        trainer.model.release()


def losses(trainer: Trainer) -> tuple[list[float], bytes]:
    """Run to the end; return the losses, validation's among them, and the adapter's bytes."""

    async def collect() -> tuple[list[float], bytes]:
        found = [event.loss async for event in trainer.run()]
        tensors = await trainer.adapter.to_tensors()
        return found, b"".join(value.tobytes() for value in tensors.values())

    return run(collect())


def test_a_run_after_a_trial_has_the_bits_of_one_without(each_device: Device, tiny: Tiny) -> None:
    files = tiny.model.files
    before = each_device.num_buffers, each_device.memory_in_use_bytes
    alone = planned(each_device, files)
    with on_gpu(alone):
        wanted = losses(alone)
    tried = planned(each_device, files)
    with on_gpu(tried):
        timed = run(measure_run(tried))
        changed = run(tried.adapter.to_tensors())
    assert (each_device.num_buffers, each_device.memory_in_use_bytes) == before
    assert timed.measured_steps >= 1
    assert timed.step_ms > 0
    assert any(np.any(value) for key, value in changed.items() if "lora_B" in key), "the trial did not train"
    after = Trainer(tried.model, tried.adapter, tried.examples, CONFIG, tried.validation, tried.layout, tried.plans)
    with on_gpu(after):
        assert losses(after) == wanted
    assert (each_device.num_buffers, each_device.memory_in_use_bytes) == before
    # The control: without a new adapter the trial's steps do show.
    with on_gpu(after):
        run(measure_run(after))
        other = Trainer(after.model, after.adapter, after.examples, CONFIG, after.validation, after.layout, after.plans)
        assert losses(other) != wanted


def test_the_trial_takes_the_memory_that_was_planned(each_device: Device, tiny: Tiny) -> None:
    """Rows of one length, so that there is one shape: every further one has a few kB of parameters of its own."""
    config = replace(CONFIG, steps=3)
    trainer = planned(each_device, tiny.model.files, config, [33] * 8, ())
    before = each_device.memory_in_use_bytes
    each_device.peak_memory_bytes = before
    with on_gpu(trainer):
        run(measure_run(trainer))
        assert each_device.memory_in_use_bytes - before == trainer.memory.total_bytes
        assert each_device.peak_memory_bytes - before == trainer.memory.total_bytes
        # The control: one buffer more, and it would show.
        extra = each_device.create_buffer(4, "extra")
        assert each_device.memory_in_use_bytes - before != trainer.memory.total_bytes
        extra.destroy()


@pytest.mark.parametrize("name", ["tied f32", "untied f16", "odd"])
@pytest.mark.parametrize("recompute", [False, True])
def test_everything_that_a_run_needs_is_compiled_ahead(
    each_device: Device, tiny_models: TinyModels, name: str, recompute: bool
) -> None:
    files = tiny_models[name].model.files
    compiled = dict(each_device._pipelines)
    each_device._pipelines.clear()
    try:
        trainer = planned(each_device, files, replace(CONFIG, recompute=recompute))
        before = each_device.num_buffers
        run(trainer.compile_ahead())
        assert each_device.num_buffers == before, "compiling ahead takes no memory"
        ahead = set(each_device._pipelines)
        assert ahead
        with on_gpu(trainer):
            losses(trainer)
        assert set(each_device._pipelines) == ahead
        # The control: the largest shape alone would not do for all of them where tiles depend on the shape, and a
        # backward pass not for a validation.
        largest = trainer.plans._largest_trace
        assert largest is not None
        assert not ahead <= set(pipeline_keys(largest))
    finally:
        each_device._pipelines.update(compiled)


@pytest.mark.parametrize("grad_enabled", [True, False])
def test_few_layers_need_what_all_layers_need(each_device: Device, tiny_models: TinyModels, grad_enabled: bool) -> None:
    trainer = planned(each_device, tiny_models["odd"].model.files)
    for shape in [(2, 32), (1, 64)]:
        few = trainer.plans.shape_keys(shape, grad_enabled)
        assert set(few) == set(pipeline_keys(trainer.plans.trace_batch(shape, grad_enabled)))


def test_train_pressed_in_the_middle_of_compiling_ahead(device: Device, tiny: Tiny) -> None:
    """What was asked for goes on; nothing is compiled twice; the losses are those of any other run."""
    compiled = dict(device._pipelines)
    device._pipelines.clear()
    asked: list[object] = []
    compile_ = device._compile

    async def counted(kernels, on_progress):  # type: ignore[no-untyped-def]
        asked.extend(kernels)
        return await compile_(kernels, on_progress)

    async def press() -> list[float]:
        trainer = planned(device, tiny.model.files)
        ahead = asyncio.ensure_future(trainer.compile_ahead())
        for _ in range(6):
            await asyncio.sleep(0)
        in_the_middle = bool(device._compiling) and not ahead.done()
        ahead.cancel()
        assert in_the_middle
        trainer.adapter.initialize(0)
        try:
            await asyncio.gather(fill_model(trainer.model), trainer.prepare())
            return [event.loss async for event in trainer.run() if isinstance(event, StepDone)]
        finally:
            trainer.close()
            trainer.adapter.release()
            trainer.model.release()

    device._compile = counted  # type: ignore[method-assign]
    try:
        found = run(press())
    finally:
        del device._compile
        device._pipelines.update(compiled)
    assert len(asked) == len(set(asked))
    trainer = planned(device, tiny.model.files)
    with on_gpu(trainer):
        everything = losses(trainer)[0]
    assert found == [loss for loss in everything if loss in found]
    assert len(found) == CONFIG.steps


def test_the_whole_runs_time_counts_its_validations() -> None:
    timed = RunTime(step_ms=10.0, tokens_per_step=500, validation_ms=100.0, measured_steps=4)
    assert timed.tokens_per_s == 50_000
    assert timed.total_ms(100) == 100 * 10 + 10 * 100  # every tenth of a run
    assert timed.total_ms(5) == 5 * 10 + 5 * 100  # a short one after every step
    assert timed.total_ms(25) == 25 * 10 + 13 * 100  # after every second, and at the end
    assert RunTime(10.0, 500, 0.0, 4).total_ms(100) == 1000


def test_planned_shapes_are_those_of_the_batches(device: Device, tiny: Tiny) -> None:
    for packing in (False, True):
        trainer = planned(device, tiny.model.files, replace(CONFIG, packing=packing))
        steps = trainer.first_steps(100)
        assert len(steps) == CONFIG.steps
        for step in steps:
            batches = [trainer.make_batch(rows) for rows in step.rows]
            assert step.shapes == [batch.tokens.shape for batch in batches]
            assert step.tokens == sum(batch.real_tokens for batch in batches)


def test_on_a_slow_device_one_micro_batch_stands_for_all(
    device: Device, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = planned(device, tiny.model.files)
    used: list[int] = []
    submit = trainer.submit_step

    async def counted(batches, step):  # type: ignore[no-untyped-def]
        used.append(len(batches))
        return await submit(batches, step)

    monkeypatch.setattr(trainer, "submit_step", counted)
    with on_gpu(trainer):
        run(measure_run(trainer))
        quick, used[:] = list(used), []
        monkeypatch.setattr(trial, "BUDGET_S", 1e-6)
        timed = run(measure_run(trainer))
    assert timed.measured_steps == 1
    assert timed.step_ms > 0
    assert used == [1]
    assert len(quick) > 4
    assert max(quick) == CONFIG.accumulate
