"""Weights larger than one buffer or one binding may be: cut by rows, and computed with as if they were whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.errors import OutOfMemoryError
from lora_lab.generate import logits
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from lora_lab.model.decode import can_decode
from lora_lab.ops.embedding import embedding
from lora_lab.ops.linear import Outputs, linear, product, product_backward
from lora_lab.ops.weight import JoinedWeight, Run, Weight, row_words, runs
from lora_lab.train import Trainer
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, check_op, run_op
from tests.engine_runs import adapter_with, load, random_examples, random_tensors, run
from tests.gpu.conftest import Tiny, TinyModels
from tests.gpu.test_decode import run_token
from tests.gpu.test_joined_layers import check_joined
from tests.gpu.test_op_linear import weight_on, weights_on
from tests.gpu.test_tiny_chat import GREEDY, chat_with, complete
from tests.gpu.test_tiny_llama import compare_gradients

LORA = LoraConfig(rank=4, alpha=8)

BINDING, BUFFER = "max_storage_buffer_binding_size", "max_buffer_size"


@contextmanager
def small_limit(device: Device, most_bytes: int, name: str = BINDING) -> Iterator[None]:
    """Have weights planned as for a device that takes so little at once."""
    own = device.limits
    device.limits = replace(own, **{name: most_bytes})
    try:
        yield
    finally:
        device.limits = own


@contextmanager
def pieces_on(
    device: Device, form: str, heights: Sequence[int], columns: int, most_rows: int, limit: str = BINDING
) -> Iterator[tuple[Weight | JoinedWeight, np.ndarray]]:
    """As `weights_on`, but planned for a device that takes `most_rows` rows of them at most."""
    weights = weights_on(device, [form] * len(heights), heights, columns)
    with small_limit(device, 4 * row_words(form, columns) * most_rows, limit):
        made = weights.__enter__()
    yield made
    weights.__exit__(None, None, None)


@pytest.mark.parametrize("limit", [BINDING, BUFFER])
@pytest.mark.parametrize("form", ["f32", "q8_0", "q4_k"])
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_a_product(each_device: Device, form: str, rows: int, limit: str) -> None:
    """The columns of each piece lie where they belong, to the bit of the whole's; dx is the sum over the pieces."""
    inner, outs = 256, 203  # not a whole number of pieces, nor of quads
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(rows, inner)), "dy": rng.normal(size=(rows, outs))}

    def made(weight: Weight | JoinedWeight) -> tuple[np.ndarray, np.ndarray]:
        def forward(tape, t):
            y = tape.tensor((rows, outs), "y")
            product(tape, t["x"], weight, y)
            return y

        def backward(tape, t):
            dx = tape.tensor((rows, inner), "dx")
            product_backward(tape, t["dy"], weight, dx)
            return dx

        return run_op(each_device, forward, inputs)["y"], run_op(each_device, backward, inputs)["y"]

    with pieces_on(each_device, form, [outs], inner, 70, limit) as (weight, values):
        assert [piece.shape[0] for piece in weight.pieces] == [64, 64, 64, 11]
        y, dx = made(weight)
    assert_close(y, inputs["x"] @ values.T, OP_TOLERANCE)
    assert_close(dx, inputs["dy"] @ values, OP_TOLERANCE)
    with weight_on(each_device, form, (outs, inner)) as (whole, _):
        assert np.array_equal(y, made(whole)[0])


@pytest.mark.parametrize(
    ("widths", "most_rows", "heights"),
    [
        ((40, 24, 24), 50, [40, 48]),  # cut between layers only
        ((152, 24, 36), 80, [64, 64, 48, 36]),  # the rest of a layer and the whole of the next one in a piece
        ((24, 152), 66, [24, 64, 64, 24]),
        ((24, 12), 5, [4] * 9),  # in the end with the adapter's rows where no tile begins
        ((8, 12), 3, [3, 3, 2, 3, 3, 3, 3]),  # no vectors of four
    ],
)
@pytest.mark.parametrize("rank", [0, 3, 4])
@pytest.mark.parametrize("rows", [1, 33])
def test_layers_that_share_their_input(
    each_device: Device, rows: int, rank: int, widths: tuple[int, ...], most_rows: int, heights: list[int]
) -> None:
    """Wherever a piece is full: y, dx, dA and dB are what each layer gives alone."""
    outputs, rng = Outputs(rows, widths), np.random.default_rng(rows + rank)
    inputs = {"x": rng.normal(size=(rows, 36))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank * len(widths), 36)), "b": rng.normal(size=(sum(widths), rank)),
                   "da": rng.normal(size=(rank * len(widths), 36)),
                   "db": rng.normal(size=(sum(widths), rank))}  # fmt: skip
    dy = rng.normal(size=outputs.bases[-1])
    with pieces_on(each_device, "f32", widths, 36, most_rows) as (weight, values):
        assert [piece.shape[0] for piece in weight.pieces] == heights
        check_joined(each_device, weight, values, outputs, inputs, dy, rank)


@pytest.mark.parametrize("rows", [1, 33])
def test_a_residual(each_device: Device, rows: int) -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(rows, 36)), "r": rng.normal(size=(rows, 100))}
    with pieces_on(each_device, "f32", [100], 36, 30) as (weight, values):
        check_op(
            each_device,
            lambda tape, t: linear(tape, t["x"], weight, residual=t["r"]),
            inputs,
            lambda x, r: reference.linear(x, values) + r,
            lambda dy, x, r: {"x": reference.linear_backward(dy, x, values)["x"], "r": dy},
        )


@pytest.mark.parametrize(("form", "most_rows", "count"), [("q8_0", 70, 4), ("f32", 5, 50), ("f32", 1, 200)])
def test_an_embedding(each_device: Device, form: str, most_rows: int, count: int) -> None:
    tokens = np.array([0, 63, 64, 127, 128, 199, 5])
    with pieces_on(each_device, form, [200], 64, most_rows) as (table, values):
        assert len(table.pieces) == count
        found = run_op(each_device, lambda tape, t: embedding(tape, t["tokens"], table, 3.0), {"tokens": tokens})
    assert_close(found["y"], 3.0 * values[tokens], 1e-7)


def test_a_row_that_no_binding_takes_is_refused(device: Device) -> None:
    refused = pytest.raises(OutOfMemoryError, match=r"A row of weight 0 is 144 bytes; .* takes fewer in one")
    with refused, small_limit(device, 4 * 36 - 1), weights_on(device, ["f32"], [7], 36):
        pass


# --- whole models ---


def in_pieces(device: Device, tiny: Tiny, most_bytes: int) -> Tiny:
    """The same model, loaded with no piece of a weight larger than that."""
    with small_limit(device, most_bytes):
        model = load(device, tiny.folder)
    weights = [model.embedding, *(weight for block in model.blocks for weight in block.linears.values())]
    sizes = [piece.tensor.size_bytes for weight in weights for piece in weight.pieces]
    assert max(sizes) <= most_bytes
    assert isinstance(model.embedding, JoinedWeight)
    assert model.weights_bytes == tiny.model.weights_bytes
    return Tiny(model, tiny.folder)


@pytest.mark.parametrize("name", ["tied f32", "untied f16", "odd"])
@pytest.mark.parametrize("most_bytes", [8 << 10, 20 << 10, 40 << 10])
def test_every_gradient_is_pefts(each_device: Device, tiny_models: TinyModels, name: str, most_bytes: int) -> None:
    cut = in_pieces(each_device, tiny_models[name], most_bytes)
    compare_gradients(cut, LORA, batch=4, accumulate=1)
    cut.model.release()


def test_a_run_where_nothing_larger_is_bound_at_all(each_device: Device, tiny: Tiny) -> None:
    """The loss in chunks, the adapter in slices: with 64 KiB a binding, gradients are PEFT's and memory is as told."""
    cut = in_pieces(each_device, tiny, 64 << 10)
    with small_limit(each_device, 64 << 10):
        compare_gradients(cut, LORA, batch=1, accumulate=3, lengths=(20, 33, 7))
        before = each_device.memory_in_use_bytes - cut.model.weights_bytes
        examples = random_examples((20, 33), cut.model.config.vocab_size)
        adapter = Adapter(each_device, cut.model.config, LORA, planned=True)
        trainer = Trainer(cut.model, adapter, examples, TrainConfig(steps=1, batch=1, accumulate=2))
        adapter.initialize(0)
        run(trainer.prepare())
        assert each_device.memory_in_use_bytes - before == trainer.memory.total_bytes
        trainer.close()
        adapter.release()
    cut.model.release()


def test_more_than_a_binding_is_refused_when_it_is_planned(each_device: Device, tiny: Tiny) -> None:
    """Activations are not cut: fewer rows do it."""
    cut = in_pieces(each_device, tiny, 64 << 10)
    examples = random_examples((300,), cut.model.config.vocab_size)
    adapter = Adapter(each_device, cut.model.config, LORA, planned=True)
    with small_limit(each_device, 64 << 10), pytest.raises(OutOfMemoryError, match=r"binds 0 MiB at most"):
        Trainer(cut.model, adapter, examples, TrainConfig(steps=1, batch=1, accumulate=1))
    cut.model.release()


@pytest.mark.parametrize("adapter_on", [False, True])
def test_logits_and_replies_are_those_of_the_whole(each_device: Device, tiny: Tiny, adapter_on: bool) -> None:
    """Logits to the bit, as the device draws them; a token by the few dispatches of a GPU or by the ops."""
    cut, tokens = in_pieces(each_device, tiny, 20 << 10), list(range(3, 20))
    tensors = random_tensors(tiny.model, LORA)
    replies = []
    for model in (tiny.model, cut.model):
        with adapter_with(model, LORA, tensors) as adapter, chat_with(model) as chat:
            exact = run(logits(model, adapter if adapter_on else None, tokens))
            if adapter_on:
                run(chat.set_adapter(LORA, tensors))
            replies.append((exact, complete(chat, tokens, GREEDY)))
    assert np.array_equal(replies[0][0], replies[1][0])
    assert replies[0][1] == replies[1][1]
    cut.model.release()


def test_pieces_that_fit_the_few_dispatches_of_a_token(
    device: Device, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head in pieces beside an embedding that is whole: decoded as ever; an embedding in pieces: by the ops."""
    monkeypatch.setattr(device, "use_workgroup_memory", True)
    whole = tiny_models["untied f32"]
    cut = in_pieces(device, whole, 20 << 10)
    assert can_decode(device, whole.model, None)
    assert not can_decode(device, cut.model, None)
    mixed = replace(whole.model, lm_head=cut.model.lm_head)
    assert len(mixed.lm_head.pieces) > 1
    assert can_decode(device, mixed, None)
    for past in (0, 37):
        fused, plain = (run_token(mixed, None, past, 5, fused) for fused in (True, False))
        for found, wanted in zip(fused, plain, strict=True):
            assert_close(found, wanted, OP_TOLERANCE)
    cut.model.release()


@pytest.mark.parametrize(("field", "by"), [("begin", -4), ("row", 4)])
def test_a_piece_in_the_wrong_place_is_caught(
    device: Device, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, field: str, by: int
) -> None:
    """The control: results of a cut layer four to the left, or made of other rows."""

    def moved(run: Run) -> Run:
        return replace(run, **{field: max(0, getattr(run, field) + by)}) if run.is_cut else run

    cut = in_pieces(device, tiny, 20 << 10)
    monkeypatch.setattr("lora_lab.ops.linear.runs", lambda *a, **o: [moved(run) for run in runs(*a, **o)])
    with pytest.raises(AssertionError, match="loss: the relative error is"):
        compare_gradients(cut, LORA, batch=4, accumulate=1)
    cut.model.release()
