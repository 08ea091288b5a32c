"""One token in five dispatches a layer gives the logits, keys and values of the ops one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.gpu import Device, Pool, Tensor
from lora_lab.gpu.kernel import Binding, Kernel
from lora_lab.gpu.plan import Trace
from lora_lab.model import Adapter, Model
from lora_lab.model.decode import PackedAdapter, can_decode, decode_logits
from lora_lab.model.transformer import transformer
from lora_lab.ops.attention import attention_decode
from lora_lab.ops.elementwise import copy, fill
from lora_lab.ops.linear import product
from lora_lab.ops.rows import append_rows
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape
from lora_lab.settings import TARGET_LAYERS
from tests.close import assert_close
from tests.dirty import dirtied, dirty_workgroup_memory, fill_with_nan
from tests.engine_runs import random_tensors, run
from tests.gpu.conftest import TinyModels

LENGTH = 400  # rows of the caches


@pytest.fixture(autouse=True)
def as_a_gpu(device: Device) -> Iterator[None]:
    before, device.use_workgroup_memory = device.use_workgroup_memory, True
    yield
    device.use_workgroup_memory = before


def run_token(
    model: Model, adapter: Adapter | None, past: int, token: int, fused: bool, strength: float = 1.0,
    is_dirty: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the logits (V) after `token` at `past`, and the caches' content, from caches of the same random rows.

    `is_dirty`: the fused way, with NaN in all memory that nobody has written by then.
    """
    device, config = model.device, model.config
    rng = np.random.default_rng(past)
    rows = rng.normal(0, 1, (config.num_layers, 2, LENGTH, config.kv_size)).astype(np.float32)
    if is_dirty:
        rows[:, :, past:] = np.nan
    caches = [(device.upload(k, f"{i}.k"), device.upload(v, f"{i}.v")) for i, (k, v) in enumerate(rows)]
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
        packed = None
        if fused and adapter:
            packed = await (pack_over_nan if is_dirty else PackedAdapter.pack)(model, adapter)
        if fused:
            logits = decode_logits(tape, model, tokens, table, lambda layer: caches[layer], packed)
        else:
            hidden = transformer(tape, model, tokens, positions, table, attend, pairs)
            logits = tape.tensor((1, config.vocab_size), "logits")
            product(tape, hidden, model.lm_head, logits)
        copy(tape, logits, result)
        if is_dirty:
            dirty_workgroup_memory(tape)
        plan = await device.build(tape, pool, "decode")
        if is_dirty:
            fill_with_nan(pool)
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


async def pack_over_nan(model: Model, adapter: Adapter) -> PackedAdapter:
    """Do what PackedAdapter.pack does, in memory full of NaN."""
    packed, pool = PackedAdapter(model, adapter), Pool(model.device, "packing")
    packed.buffer.allocate()
    fill_with_nan(packed.tensor)
    plan = await model.device.build(packed.trace(), pool, "pack the adapter")
    model.device.submit(plan)
    await model.device.finished()
    plan.close()
    pool.close()
    return packed


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


@pytest.mark.parametrize("layer", range(len(TARGET_LAYERS)))
def test_every_layers_adapter_is_felt(tiny_models: TinyModels, layer: int) -> None:
    """The control: an adapter on one layer alone, and none at all, must differ by far more than the tolerance."""
    model = tiny_models["untied f32"].model
    only = LoraConfig(rank=4, alpha=8, targets=(TARGET_LAYERS[layer],))
    (logits, _), (wanted, _) = both(model, only, 12)
    assert_close(logits, wanted, 2e-5)
    (without, _), _ = both(model, None, 12)
    assert np.abs(logits - without).max() > 1e-3 * np.abs(without).max()


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("past", [0, 9, 333])
def test_nothing_is_read_that_was_not_written(tiny_models: TinyModels, adapter: str, past: int) -> None:
    """Workgroup memory, the pool (the parts of every u are there), the packed adapter, the caches' rows to come."""
    model, config = tiny_models["untied f32"].model, ADAPTERS[adapter]
    tensors = random_tensors(model, config, seed=past, b_std=0.2) if config else {}
    given = Adapter.from_tensors(model.device, model.config, config, tensors) if config else None
    try:
        wanted, caches = run_token(model, given, past, 7, True)
        found, dirty_caches = run_token(model, given, past, 7, True, is_dirty=True)
    finally:
        if given is not None:
            given.release()
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(dirty_caches[:, : past + 1], caches[:, : past + 1])


LEFT_OVER = """
struct Params { is_written: u32, }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<workgroup> left: array<f32, 4096>;  // 16 KiB
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    if (params.is_written == 1u) { left[lane * 65u] = 2.0; }
    workgroupBarrier();
    y[lane] = left[lane * 65u];
}
"""


@pytest.mark.parametrize("is_written", [True, False])
def test_what_is_read_all_the_same_would_show(device: Device, is_written: bool) -> None:
    """The control: the same kernels read memory that they have written, and that nobody has."""
    bindings = {"params": Binding("params", 0, "uniform"), "y": Binding("y", 2, "read_write")}
    kernel = Kernel("left over", "main", LEFT_OVER, bindings, (("is_written", "u32"),))
    y, z = (device.upload(np.zeros(64, np.float32), name) for name in "yz")
    trace, pool = Trace(), Pool(device, "left over")
    trace.dispatch(dirtied(kernel), {"y": y}, {"is_written": int(is_written)}, (1,))
    inside = trace.tensor((64,), "inside the plan")
    if is_written:
        fill(trace, inside, 2.0)
    copy(trace, inside, z)

    async def go() -> tuple[np.ndarray, np.ndarray]:
        plan = await device.build(trace, pool, "left over")
        fill_with_nan(pool)
        device.submit(plan)
        found = await device.download(y), await device.download(z)
        plan.close()
        return found

    try:
        for values in run(go()):
            assert (values == 2).all() if is_written else np.isnan(values).all()
    finally:
        for tensor in (y, z):
            tensor.buffer.destroy()
        pool.close()


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
