"""Attention and RoPE: odd lengths and head sizes, shared KV heads, packed segments, and the forms over a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_lab.errors import ModelError
from lora_lab.gpu import Device
from lora_lab.ops.attention import PLAIN_SCORES, Scores, attention, attention_decode
from lora_lab.ops.rope import rope, rope_table
from lora_lab.ops.rows import append_rows
from lora_lab.ops.step import StepValues
from tests import reference
from tests.close import assert_close, check_op, run_op

# (head_dim, heads, kv_heads): smallest, odd quads, SmolLM2's, larger; one, two, three and four heads a KV head
HEADS = [(4, 2, 2), (20, 4, 2), (64, 9, 3), (80, 4, 1)]
LENGTHS = [1, 5, 33, 64, 65, 123, 130]


def check_attention(
    device: Device, positions: np.ndarray, length: int, head_dim: int, heads: int, kv_heads: int,
    scores: Scores = PLAIN_SCORES, size: float = 1.0, wanted: Scores | None = None,
) -> None:  # fmt: skip
    """`size` is how large queries are; `wanted` the scores that the reference makes, where they shall differ."""
    rows = len(positions)
    rng = np.random.default_rng(length + head_dim)
    inputs = {
        "q": size * rng.normal(size=(rows, heads * head_dim)),
        "k": rng.normal(size=(rows, kv_heads * head_dim)),
        "v": rng.normal(size=(rows, kv_heads * head_dim)),
        "positions": positions,
    }
    shape = {"length": length, "heads": heads, "kv_heads": kv_heads}
    rules = vars(wanted or scores)
    check_op(
        device,
        lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], **shape, scores=scores),
        inputs,
        lambda **arrays: reference.attention(**arrays, **shape, **rules),
        lambda dout, **arrays: reference.attention_backward(dout, **arrays, **shape, **rules),
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


# --- windows, soft caps and other scales ---


@pytest.mark.parametrize("window", [1, 2, 31, 32, 33, 64, 129, 130, 500])
@pytest.mark.parametrize("head_dim", [20, 64])
def test_a_window_ends_where_it_says(each_device: Device, window: int, head_dim: int) -> None:
    check_attention(each_device, np.arange(130), 130, head_dim, 4, 2, Scores(window=window))


def test_a_window_off_by_one_would_show(each_device: Device) -> None:
    """The control."""
    with pytest.raises(AssertionError, match="relative error"):
        check_attention(each_device, np.arange(130), 130, 20, 4, 2, Scores(window=32), wanted=Scores(window=33))


def test_windows_inside_packed_segments(each_device: Device) -> None:
    positions = np.concatenate([np.arange(length) for length in (40, 27, 63)])
    check_attention(each_device, positions, 130, 20, 4, 2, Scores(window=16))


def test_a_head_of_256_channels(each_device: Device) -> None:
    check_attention(each_device, np.arange(37), 37, 256, 2, 1, Scores(window=9))


@pytest.mark.parametrize(("softcap", "size"), [(50.0, 1.0), (50.0, 10.0), (2.0, 3.0)], ids=["far", "near", "beyond"])
def test_scores_are_capped(each_device: Device, softcap: float, size: float) -> None:
    """Where it hardly shows, where it bends, and where nearly all scores lie at the cap."""
    scores = Scores(scale=0.3, softcap=softcap)
    check_attention(each_device, np.tile(np.arange(67), 2), 67, 20, 4, 2, scores, size)


def test_a_missing_cap_would_show(each_device: Device) -> None:
    """The control."""
    with pytest.raises(AssertionError, match="relative error"):
        check_attention(each_device, np.arange(67), 67, 20, 4, 2, Scores(softcap=50.0), 5.0, wanted=Scores())


def test_nothing_is_computed_outside_the_window(each_device: Device) -> None:
    """Tiles that lie outside it are not even loaded: NaN in them reaches nothing."""
    rows, window, shape = 192, 32, {"length": 192, "heads": 4, "kv_heads": 2}
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(rows, size)) for name, size in {"q": 80, "k": 40, "v": 40}.items()}
    inputs |= {"positions": np.arange(rows)}
    far = {name: inputs[name].copy() for name in "kv"}
    for array in far.values():
        array[:64] = np.nan  # what rows from 128 on are far beyond the window of

    def build(tape, t):
        return attention(tape, t["q"], t["k"], t["v"], t["positions"], **shape, scores=Scores(window=window))

    wanted = run_op(each_device, build, inputs)["y"]
    found = run_op(each_device, build, inputs | far)["y"]
    assert np.array_equal(found[128:], wanted[128:])
    assert np.isnan(found[:64]).all()


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


@pytest.mark.parametrize("past", [0, 5, 255, 300, 599])
@pytest.mark.parametrize("scores", [Scores(window=6), Scores(window=300, softcap=1.0), Scores(scale=0.5)], ids=str)
def test_decode_by_other_rules(each_device: Device, past: int, scores: Scores) -> None:
    def wanted(q, k, v, positions):
        keys, values = k[: past + 1], v[: past + 1]
        return reference.attention(q, keys, values, positions, 1, 4, 2, past=past, **vars(scores))

    check_op(
        each_device,
        lambda tape, t: attention_decode(tape, t["q"], t["k"], t["v"], 4, 2, scores),
        cache_inputs(1, past, 20, 4, 2),
        wanted,
        step=StepValues(past=past),
    )


@pytest.mark.parametrize(("rows", "past"), [(16, 3), (64, 101), (5, 500)])
def test_prefill_over_a_cache_by_other_rules(each_device: Device, rows: int, past: int) -> None:
    scores, shape = Scores(window=20, softcap=2.0), {"length": rows, "heads": 4, "kv_heads": 2}

    def wanted(q, k, v, positions):
        return reference.attention(q, k[: past + rows], v[: past + rows], positions, **shape, past=past, **vars(scores))

    check_op(
        each_device,
        lambda tape, t: attention(
            tape, t["q"], t["k"], t["v"], t["positions"], **shape, cached=True, scores=scores
        ),
        cache_inputs(rows, past, 20, 4, 2),
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
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32.0,
             "beta_slow": 1.0, "attention_factor": 1.0},
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


def test_rope_of_a_part_of_each_head(device: Device) -> None:
    """Phi turns the first channels only; a table of fewer angles says so."""
    rng, positions = np.random.default_rng(0), np.array([0, 3, 7, 100])
    frequencies = reference.rope_frequencies(12, 10_000.0)

    def turned(x, sign):
        heads = x.reshape(4, 3, 20)
        part = reference.rope(heads[:, :, :12].reshape(4, -1), positions, 3, sign * frequencies)
        return np.concatenate([part.reshape(4, 3, 12), heads[:, :, 12:]], axis=-1).reshape(4, -1)

    check_op(
        device,
        lambda tape, t: rope(tape, [(t["x"], 3)], t["positions"], t["table"])[0],
        {"x": rng.normal(size=(4, 60)), "positions": positions, "table": rope_table(12, 10_000.0, None, 128)},
        lambda x, positions, table: turned(x, 1),
        lambda dy, x, positions, table: {"x": turned(dy, -1)},
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
    with pytest.raises(ModelError, match="dynamic"):
        rope_table(64, 10_000.0, {"rope_type": "dynamic", "factor": 4.0}, 8)


def test_the_devices_attention_is_the_same_to_the_bit_twice(each_device: Device) -> None:
    inputs = {name: np.random.default_rng(0).normal(size=(130, 16)) for name in "qkv"} | {"positions": np.arange(130)}
    dy = np.ones((130, 16), np.float32)
    first, second = (
        run_op(each_device, lambda tape, t: attention(tape, t["q"], t["k"], t["v"], t["positions"], 130, 4, 4), inputs,
               dy=dy, grads=("q", "k", "v"))
        for _ in range(2)
    )  # fmt: skip
    assert all(np.array_equal(first[name], second[name]) for name in first)
