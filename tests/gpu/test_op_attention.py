"""Attention and RoPE: odd lengths and head sizes, shared KV heads, packed segments, and the forms over a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_lab.errors import ModelError
from lora_lab.gpu import Device
from lora_lab.ops.attention import attention, attention_decode
from lora_lab.ops.rope import rope, rope_table
from lora_lab.ops.rows import append_rows
from lora_lab.ops.step import StepValues
from tests import reference
from tests.close import assert_close, check_op, run_op

# (head_dim, heads, kv_heads): smallest, odd quads, SmolLM2's, larger; one, two, three and four heads a KV head
HEADS = [(4, 2, 2), (20, 4, 2), (64, 9, 3), (80, 4, 1)]
LENGTHS = [1, 5, 33, 64, 65, 123, 130]


def check_attention(
    device: Device, positions: np.ndarray, length: int, head_dim: int, heads: int, kv_heads: int
) -> None:
    rows = len(positions)
    rng = np.random.default_rng(length + head_dim)
    inputs = {
        "q": rng.normal(size=(rows, heads * head_dim)),
        "k": rng.normal(size=(rows, kv_heads * head_dim)),
        "v": rng.normal(size=(rows, kv_heads * head_dim)),
        "positions": positions,
    }
    shape = {"length": length, "heads": heads, "kv_heads": kv_heads}
    check_op(
        device,
        lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], **shape),
        inputs,
        lambda **arrays: reference.attention(**arrays, **shape),
        lambda dout, **arrays: reference.attention_backward(dout, **arrays, **shape),
    )


@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("length", LENGTHS)
def test_one_sequence(each_device: Device, length: int, head_dim: int, heads: int, kv_heads: int) -> None:
    check_attention(each_device, np.arange(length), length, head_dim, heads, kv_heads)


@pytest.mark.parametrize("batch", [2, 5])
def test_several_sequences(each_device: Device, batch: int) -> None:
    check_attention(each_device, np.tile(np.arange(67), batch), 67, 20, 4, 2)


@pytest.mark.parametrize(
    "segments",
    [
        ([1, 1, 1],),
        ([40, 27, 63],),  # borders inside a workgroup's 64 queries and inside a tile of keys
        ([64, 64, 2],),  # borders on them
        ([130], [3, 100, 27]),  # one sequence packed, one not
    ],
)
def test_packed_segments_do_not_see_each_other(each_device: Device, segments: tuple[list[int], ...]) -> None:
    positions = np.concatenate([np.arange(length) for row in segments for length in row])
    check_attention(each_device, positions, sum(segments[0]), 20, 4, 2)


def test_packed_rows_cost_what_separate_ones_cost(each_device: Device) -> None:
    """Tiles of other segments are not even computed with: NaN in them reaches nothing. 32 divides every border.

    The tiled kernels multiply what is masked by zero, so a NaN would show there; the plain ones pass it over anyway.
    """
    lengths, shape = [64, 32, 96], {"heads": 4, "kv_heads": 2}
    rows, rng = sum(lengths), np.random.default_rng(0)
    sizes = {"q": 80, "k": 40, "v": 40}
    inputs = {name: rng.normal(size=(rows, size)) for name, size in sizes.items()}
    dy = rng.normal(size=(rows, 80))
    place = 64
    mine = slice(place, place + 32)
    poisoned = {name: np.where((np.arange(rows) // 32 == 2)[:, None], x, np.nan) for name, x in inputs.items()}

    def found(arrays: dict[str, np.ndarray], positions: np.ndarray) -> dict[str, np.ndarray]:
        length = len(positions)
        results = run_op(
            each_device,
            lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], length=length, **shape),
            arrays | {"positions": positions},
            dy=np.where(np.isnan(arrays["q"]), np.nan, dy[mine] if length == 32 else dy),
            grads=("q", "k", "v"),
        )
        return {name: values if length == 32 else values[mine] for name, values in results.items()}

    alone = found({name: x[mine] for name, x in inputs.items()}, np.arange(32))
    packed = found(poisoned, np.concatenate([np.arange(length) for length in lengths]))
    for name, wanted in alone.items():
        assert_close(packed[name], wanted, 1e-6, name)
    with pytest.raises(AssertionError, match="NaN"):
        assert_close(found(poisoned, np.arange(rows))["y"], alone["y"], 1e-6)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_sixteen_kibibytes_of_workgroup_memory_will_do(
    each_device: Device, head_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every WebGPU device grants: the tiles shrink with the head size."""
    monkeypatch.setattr(each_device, "limits", replace(each_device.limits, max_workgroup_storage_size=16_384))
    check_attention(each_device, np.arange(70), 70, head_dim, 2, 1)


def test_large_scores_do_not_overflow(each_device: Device) -> None:
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(33, 8)) for name in "kv"} | {"q": 300 * rng.normal(size=(33, 8))}
    shape = {"length": 33, "heads": 2, "kv_heads": 2}
    check_op(
        each_device,
        lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], **shape),
        inputs | {"positions": np.arange(33)},
        lambda **arrays: reference.attention(**arrays, **shape),
    )


CACHE_ROWS = 600


def cache_inputs(rows: int, past: int, head_dim: int, heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    """Queries of `rows` new tokens after `past` old ones, and caches that hold NaN after the last of them."""
    rng = np.random.default_rng(past + rows)
    caches = {name: rng.normal(size=(CACHE_ROWS, kv_heads * head_dim)) for name in "kv"}
    for cache in caches.values():
        cache[past + rows :] = np.nan
    return caches | {"q": rng.normal(size=(rows, heads * head_dim)), "positions": past + np.arange(rows)}


@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), HEADS)
@pytest.mark.parametrize(("rows", "past"), [(16, 0), (16, 3), (64, 64), (64, 101), (5, 500)])
def test_prefill_over_a_cache(
    each_device: Device, rows: int, past: int, head_dim: int, heads: int, kv_heads: int
) -> None:
    shape = {"length": rows, "heads": heads, "kv_heads": kv_heads}

    def wanted(q, k, v, positions):
        return reference.attention(q, k[: past + rows], v[: past + rows], positions, **shape, past=past)

    check_op(
        each_device,
        lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], **shape, cached=True),
        cache_inputs(rows, past, head_dim, heads, kv_heads),
        wanted,
        step=StepValues(past=past),
    )


@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("past", [0, 1, 63, 255, 256, 300, 599])
def test_decode_over_a_cache(each_device: Device, past: int, head_dim: int, heads: int, kv_heads: int) -> None:
    def wanted(q, k, v, positions):
        keys, values = k[: past + 1], v[: past + 1]
        return reference.attention(q, keys, values, positions, 1, heads, kv_heads, past=past)

    check_op(
        each_device,
        lambda tape, t: attention_decode(tape, t["q"], t["k"], t["v"], heads, kv_heads),
        cache_inputs(1, past, head_dim, heads, kv_heads),
        wanted,
        step=StepValues(past=past),
    )


def test_rows_are_appended_behind_the_past(device: Device) -> None:
    cache, x = np.full((9, 6), 7.0), np.arange(18.0).reshape(3, 6)

    def build(tape, t):
        append_rows(tape, t["x"], t["cache"])
        return t["cache"]

    found = run_op(device, build, {"x": x, "cache": cache}, step=StepValues(past=4))
    cache[4:7] = x
    assert np.array_equal(found["y"], cache)


# --- RoPE ---

SCALINGS = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 256},
}  # fmt: skip


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("head_dim", "heads"), [(4, 1), (20, 3), (64, 9), (80, 2)])
def test_rope(device: Device, head_dim: int, heads: int, scaling: str) -> None:
    rng = np.random.default_rng(head_dim)
    positions = np.array([0, 1, 2, 0, 1, 511, 37])
    frequencies = reference.rope_frequencies(head_dim, 10_000.0, SCALINGS[scaling])
    table = rope_table(head_dim, 10_000.0, SCALINGS[scaling], 512)
    check_op(
        device,
        lambda tape, t: rope(tape, [(t["x"], heads)], t["positions"], t["table"])[0],
        {"x": rng.normal(size=(7, heads * head_dim)), "positions": positions, "table": table},
        lambda x, positions, table: reference.rope(x, positions, heads, frequencies),
        lambda dy, x, positions, table: {"x": reference.rope_backward(dy, positions, heads, frequencies)},
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_rope_angles_are_transformers(scaling: str) -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    parameters = {"rope_theta": 50_000.0, **(SCALINGS[scaling] or {"rope_type": "default"})}
    config = LlamaConfig(head_dim=64, max_position_embeddings=2048, rope_parameters=parameters)
    embedding = LlamaRotaryEmbedding(config)
    cos, sin = embedding(torch.zeros(1, 1, 1), torch.arange(300)[None])
    table = rope_table(64, 50_000.0, SCALINGS[scaling], 300)
    # transformers computes angles up to 300 in float32, whose rounding is 1.5e-5 there; ours come from float64.
    assert_close(table[..., 0], cos[0, :, :32].numpy(), 2e-5, "cos")
    assert_close(table[..., 1], sin[0, :, :32].numpy(), 2e-5, "sin")


def test_an_unknown_scaling_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="yarn"):
        rope_table(64, 10_000.0, {"rope_type": "yarn", "factor": 4.0}, 8)


def test_the_devices_attention_is_the_same_to_the_bit_twice(each_device: Device) -> None:
    inputs = {name: np.random.default_rng(0).normal(size=(130, 16)) for name in "qkv"} | {"positions": np.arange(130)}
    dy = np.ones((130, 16), np.float32)
    first, second = (
        run_op(each_device, lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], 130, 4, 4), inputs,
               dy=dy, grads=("q", "k", "v"))
        for _ in range(2)
    )  # fmt: skip
    assert all(np.array_equal(first[name], second[name]) for name in first)
