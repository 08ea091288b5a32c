"""One token in five dispatches a layer gives the logits, keys and values of the ops one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LINEAR_LAYERS, LoraConfig
from lora_lab.gpu import Device, Pool, Tensor
from lora_lab.model import Adapter, Model
from lora_lab.model.decode import PackedAdapter, can_decode, decode_logits
from lora_lab.model.transformer import transformer
from lora_lab.ops.attention import attention_decode
from lora_lab.ops.elementwise import copy
from lora_lab.ops.linear import product
from lora_lab.ops.rows import append_rows
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape
from tests.close import assert_close
from tests.engine_runs import random_tensors, run
from tests.gpu.conftest import TinyModels

LENGTH = 400  # rows of the caches


@pytest.fixture(autouse=True)
def as_a_gpu(device: Device) -> Iterator[None]:
    before, device.use_workgroup_memory = device.use_workgroup_memory, True
    yield
    device.use_workgroup_memory = before


def run_token(
    model: Model, adapter: Adapter | None, past: int, token: int, fused: bool, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (V) after `token` at `past`, and the caches' content, from caches of the same random rows."""
    device, config = model.device, model.config
    rng = np.random.default_rng(past)
    shape = (LENGTH, config.kv_size)
    caches = [
        tuple(device.upload(rng.normal(0, 1, shape).astype(np.float32), f"{i}.{name}") for name in "kv")
        for i in range(config.num_layers)
    ]
    tokens = device.upload(np.array([token], np.uint32), "token")
    positions = device.upload(np.array([past], np.uint32), "positions")
    table = model.rope_table(LENGTH)
    result = device.upload(np.zeros(config.vocab_size, np.float32), "result")
    step, pool = StepBuffer(device, "decode"), Pool(device, "decode")
    step.write(StepValues(past=past, strength=strength))
    tape = Tape(device, step.tensor, grad_enabled=False)
    pairs = adapter.pairs() if adapter else {}

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        append_rows(tape, k, caches[layer][0])
        append_rows(tape, v, caches[layer][1])
        return attention_decode(tape, q, *caches[layer], config.num_heads, config.num_kv_heads)

    async def go() -> tuple[np.ndarray, np.ndarray]:
        packed = await PackedAdapter.pack(model, adapter) if fused and adapter else None
        if fused:
            logits = decode_logits(tape, model, tokens, table, lambda layer: caches[layer], packed)
        else:
            hidden = transformer(tape, model, tokens, positions, table, attend, pairs)
            logits = tape.tensor((1, config.vocab_size), "logits")
            product(tape, hidden, model.lm_head, logits)
        copy(tape, logits, result)
        plan = await device.build(tape, pool, "decode")
        device.submit(plan)
        found = await device.download(result), np.stack([await device.download(t) for pair in caches for t in pair])
        plan.close()
        if packed is not None:
            packed.release()
        return found

    try:
        return run(go())
    finally:
        for tensor in (tokens, positions, table, result, *(t for pair in caches for t in pair)):
            tensor.buffer.destroy()
        step.close()
        pool.close()


def both(model: Model, config: LoraConfig | None, past: int, **more) -> tuple[tuple, tuple]:
    adapter = None
    if config is not None:
        tensors = random_tensors(model, config, seed=past, b_std=0.2)
        adapter = Adapter.from_tensors(model.device, model.config, config, tensors)
    try:
        assert can_decode(model.device, model, adapter)
        return run_token(model, adapter, past, 7, True, **more), run_token(model, adapter, past, 7, False, **more)
    finally:
        if adapter is not None:
            adapter.release()


ADAPTERS = {
    "none": None,
    "all": LoraConfig(rank=5, alpha=10),
    "q and v": LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj")),
    "up and o": LoraConfig(rank=3, alpha=6, targets=("o_proj", "up_proj")),
    "more units than invocations": LoraConfig(rank=50, alpha=50),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("past", [0, 1, 9, 333])
def test_equals_the_ops_one_after_another(tiny_models: TinyModels, adapter: str, past: int) -> None:
    (logits, caches), (wanted, wanted_caches) = both(tiny_models["untied f32"].model, ADAPTERS[adapter], past)
    assert_close(logits, wanted, 2e-5)
    assert_close(caches, wanted_caches, 2e-5)


@pytest.mark.parametrize("name", ["tied f32", "tied bf16", "untied f16", "llama3 rope"])
def test_equals_them_for_each_model(tiny_models: TinyModels, name: str) -> None:
    (logits, caches), (wanted, wanted_caches) = both(tiny_models[name].model, ADAPTERS["all"], 20, strength=0.5)
    assert_close(logits, wanted, 2e-5)
    assert_close(caches, wanted_caches, 2e-5)


@pytest.mark.parametrize("layer", range(len(LINEAR_LAYERS)))
def test_every_layers_adapter_is_felt(tiny_models: TinyModels, layer: int) -> None:
    """The control: an adapter on one layer alone, and none at all, must differ by far more than the tolerance."""
    model = tiny_models["untied f32"].model
    only = LoraConfig(rank=4, alpha=8, targets=(LINEAR_LAYERS[layer],))
    (logits, _), (wanted, _) = both(model, only, 12)
    assert_close(logits, wanted, 2e-5)
    (without, _), _ = both(model, None, 12)
    assert np.abs(logits - without).max() > 1e-3 * np.abs(without).max()


def test_unfit_sizes_go_the_other_way(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head of 20 channels, a software device, a rank whose parts would cost more than they save."""
    model = tiny_models["untied f32"].model
    assert can_decode(model.device, model, None)
    assert not can_decode(model.device, tiny_models["odd"].model, None)
    adapter = Adapter(model.device, model.config, LoraConfig(rank=400))
    assert not can_decode(model.device, model, adapter)
    adapter.release()
    limits = replace(model.device.limits, max_storage_buffer_binding_size=1024)
    monkeypatch.setattr(model.device, "limits", limits)
    small = Adapter(model.device, model.config, LoraConfig(rank=4))
    assert not can_decode(model.device, model, small)
    small.release()
    monkeypatch.setattr(model.device, "use_workgroup_memory", False)
    assert not can_decode(model.device, model, None)
