"""The linear layer: every weight form, with and without LoRA, both kernels, against float64 and finite differences."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import StoredTensor
from lora_lab.gpu import Device
from lora_lab.model.weights import plan_weight, upload_weight
from lora_lab.ops.elementwise import add
from lora_lab.ops.embedding import embedding
from lora_lab.ops.linear import LoraPair, linear, product_backward
from lora_lab.ops.matmul import matmul
from lora_lab.ops.step import StepValues
from lora_lab.ops.tiling import Tiling
from lora_lab.ops.weight import BLOCKS, JoinedWeight, Weight
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, check_op, run_op

FORMS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1")
ROWS = (1, 5, 33, 123)
OUTS = (7, 65)
RANKS = (0, 1, 3, 16)


def width(form: str) -> int:
    """A row that no tile divides: 9 quads, or 3 blocks of 32; where blocks have 256 columns, one."""
    return {4: 36, 256: 256}.get(BLOCKS[form][1], 96)


@contextmanager
def weights_on(
    device: Device, forms: Sequence[str], widths: Sequence[int], columns: int, seed: int = 0
) -> Iterator[tuple[Weight | JoinedWeight, np.ndarray]]:
    """Bring stacked random weights to the GPU by way of a file's bytes; yield them and all their values in float64."""
    rng, stored, values = np.random.default_rng(seed), [], []
    for index, (form, width) in enumerate(zip(forms, widths, strict=True)):
        raw, exact = reference.random_weight(form, (width, columns), rng)
        source = BytesSource(raw.tobytes(), "weights")
        stored.append(StoredTensor(f"weight {index}", (width, columns), form, source, 0, raw.size))
        values.append(exact)
    weight = plan_weight(device, stored)
    asyncio.run(upload_weight(weight, stored))
    yield weight, np.concatenate(values)
    for piece in weight.pieces:
        piece.tensor.buffer.destroy()


@contextmanager
def weight_on(device: Device, form: str, shape: tuple[int, int], seed: int = 0) -> Iterator[tuple[Weight, np.ndarray]]:
    """Bring one random weight to the GPU; yield it and its values in float64."""
    with weights_on(device, [form], [shape[0]], shape[1], seed) as (weight, values):
        assert isinstance(weight, Weight)
        yield weight, values


@pytest.mark.parametrize(
    ("form", "rank"), [("f32", rank) for rank in RANKS] + [(form, rank) for form in FORMS[1:] for rank in (0, 3)]
)
@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("rows", ROWS)
def test_linear(each_device: Device, form: str, rows: int, out: int, rank: int) -> None:
    inner, scale = width(form), 0.75
    rng = np.random.default_rng(rows + out + rank)
    inputs = {"x": rng.normal(size=(rows, inner))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank, inner)), "b": rng.normal(size=(out, rank))}

    with weight_on(each_device, form, (out, inner)) as (weight, values):

        def build(tape, t):
            lora = LoraPair(t["a"], t["b"], scale) if rank else None
            return linear(tape, t["x"], weight, lora)

        def backward(dy, x, a=None, b=None):
            return {"x": reference.linear_backward(dy, x, values, a, b, scale)["x"]}

        check_op(
            each_device, build, inputs, lambda x, a=None, b=None: reference.linear(x, values, a, b, scale), backward
        )


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("rank", RANKS[1:])
@pytest.mark.parametrize(("rows", "out"), [(1, 7), (5, 65), (33, 7), (123, 65)])
def test_lora_gradients_are_added(each_device: Device, rows: int, out: int, rank: int, strength: float) -> None:
    """dA and dB are `+=`: what was there from another micro-batch stays."""
    inner, scale = 36, 0.75
    rng = np.random.default_rng(rows + rank)
    inputs = {"x": rng.normal(size=(rows, inner)), "a": rng.normal(size=(rank, inner)),
              "b": rng.normal(size=(out, rank)), "da": rng.normal(size=(rank, inner)),
              "db": rng.normal(size=(out, rank))}  # fmt: skip
    inputs = {name: values.astype(np.float32) for name, values in inputs.items()}
    dy = rng.normal(size=(rows, out)).astype(np.float32)
    with weight_on(each_device, "f32", (out, inner)) as (weight, values):
        found = run_op(
            each_device,
            lambda tape, t: linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], scale, t["da"], t["db"])),
            inputs, dy=dy, grads=("x",), outputs=("da", "db"), step=StepValues(strength=strength),
        )  # fmt: skip
        exact = {name: array.astype(np.float64) for name, array in inputs.items()}
        wanted = reference.linear_backward(
            dy.astype(np.float64), exact["x"], values, exact["a"], exact["b"], scale * strength
        )
        assert_close(found["dx"], wanted["x"], OP_TOLERANCE, "dx")
        for matrix in ("a", "b"):
            assert_close(found[f"d{matrix}"], exact[f"d{matrix}"] + wanted[matrix], OP_TOLERANCE, f"d{matrix}")


def test_lora_gradients_agree_with_finite_differences(each_device: Device) -> None:
    rng = np.random.default_rng(5)
    inputs = {"x": rng.normal(size=(6, 12)), "a": rng.normal(size=(3, 12)), "b": rng.normal(size=(7, 3))}
    inputs = {name: values.astype(np.float32) for name, values in inputs.items()}
    exact = {name: values.astype(np.float64) for name, values in inputs.items()}
    dy = rng.normal(size=(6, 7)).astype(np.float32)
    zeros = {f"d{name}": np.zeros(inputs[name].shape) for name in ("a", "b")}
    with weight_on(each_device, "f32", (7, 12)) as (weight, values):
        found = run_op(
            each_device,
            lambda tape, t: linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 2.0, t["da"], t["db"])),
            inputs | zeros, dy=dy, grads=("x",), outputs=("da", "db"),
        )  # fmt: skip
        for name in exact:

            def forward(value, name=name):
                return reference.linear(**(exact | {name: value}), weight=values, scale=2.0)

            numeric = reference.numerical_gradient(forward, exact[name], dy.astype(np.float64))
            assert_close(found[f"d{name}"], numeric, OP_TOLERANCE, f"d{name}")


@pytest.mark.parametrize("form", FORMS)
def test_a_second_use_adds_its_gradient(each_device: Device, form: str) -> None:
    """As q, k and v do with the norm before them: the first writes dx with `=`, the others with `+=`."""
    inner, rng = width(form), np.random.default_rng(1)
    with (
        weight_on(each_device, form, (65, inner), 1) as (first, first_values),
        weight_on(each_device, form, (65, inner), 2) as (second, second_values),
    ):
        check_op(
            each_device,
            lambda tape, t: add(tape, linear(tape, t["x"], first), linear(tape, t["x"], second)),
            {"x": rng.normal(size=(33, inner))},
            lambda x: reference.linear(x, first_values + second_values),
            lambda dy, x: {"x": reference.linear_backward(dy, x, first_values + second_values)["x"]},
        )


@pytest.mark.parametrize("tiles", [Tiling(64, 1, 2), Tiling(32, 4, 1), Tiling(64, 2, 3)], ids=str)
def test_a_second_use_adds_the_parts_of_a_long_sum(
    device: Device, monkeypatch: pytest.MonkeyPatch, tiles: Tiling
) -> None:
    monkeypatch.setattr(device, "use_workgroup_memory", True)
    monkeypatch.setattr("lora_lab.ops.linear.tiling", lambda *_: tiles)
    with weight_on(device, "q8_0", (133, 160)) as (weight, values):
        check_op(
            device,
            lambda tape, t: add(tape, linear(tape, t["x"], weight), linear(tape, t["x"], weight)),
            {"x": np.random.default_rng(1).normal(size=(33, 160))},
            lambda x: reference.linear(x, 2 * values),
            lambda dy, x: reference.linear_backward(dy, x, 2 * values),
        )


@pytest.mark.parametrize("out", [1024, 1025, 2500])
def test_long_sums_of_the_backward_pass(each_device: Device, out: int) -> None:
    """Added up in parts, the adapter's share once: with `=` and with `+=`."""
    rng = np.random.default_rng(out)
    inputs = {"x": rng.normal(size=(5, 36)), "a": rng.normal(size=(3, 36)), "b": rng.normal(size=(out, 3))}
    with weight_on(each_device, "f32", (out, 36)) as (weight, values):

        def build(tape, t):
            first = linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 0.75))
            return add(tape, first, linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 0.75)))

        check_op(
            each_device,
            build,
            inputs,
            lambda x, a, b: 2 * reference.linear(x, values, a, b, 0.75),
            lambda dy, x, a, b: {"x": 2 * reference.linear_backward(dy, x, values, a, b, 0.75)["x"]},
        )


def test_strength_0_is_the_layer_without_the_adapter_to_the_bit(each_device: Device) -> None:
    rng = np.random.default_rng(3)
    inputs = {"x": rng.normal(size=(33, 36)), "a": rng.normal(size=(4, 36)), "b": rng.normal(size=(65, 4))}
    off = StepValues(strength=0.0)
    with weight_on(each_device, "f32", (65, 36)) as (weight, _):
        plain = run_op(each_device, lambda tape, t: linear(tape, t["x"], weight), inputs)
        silent = run_op(
            each_device, lambda tape, t: linear(tape, t["x"], weight, LoraPair(t["a"], t["b"], 2.0)), inputs, step=off
        )
        assert np.array_equal(plain["y"], silent["y"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [[0], [4, 0, 6, 6, 1], list(range(7)) * 18])
def test_embedding(device: Device, form: str, tokens: list[int]) -> None:
    with weight_on(device, form, (7, width(form))) as (table, values):
        check_op(
            device,
            lambda tape, t: embedding(tape, t["tokens"], table),
            {"tokens": np.array(tokens)},
            lambda tokens: reference.embedding(tokens, values),
            tolerance=1e-7,  # nothing is summed
        )


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (5, 33, 7), (33, 5, 123), (16, 65, 36), (20, 36, 123), (36, 20, 72)]
)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul(each_device: Device, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "a": rng.normal(size=(k, m) if transpose_a else (m, k)),
        "b": rng.normal(size=(n, k) if transpose_b else (k, n)),
        "c": rng.normal(size=(m, n)),
    }

    def wanted(a, b, c):
        return 0.7 * (a.T if transpose_a else a) @ (b.T if transpose_b else b)

    def build(tape, t, **options):
        return matmul(
            tape, t["a"], t["b"], transpose_a=transpose_a, transpose_b=transpose_b, alpha=0.7, **options
        )  # fmt: skip

    check_op(each_device, build, inputs, wanted)
    check_op(
        each_device,
        lambda tape, t: build(tape, t, out=t["c"], accumulate=True),
        inputs,
        lambda a, b, c: c + wanted(a, b, c),
    )


def test_shapes_that_do_not_multiply_are_refused(device: Device) -> None:
    inputs = {"a": np.ones((2, 3)), "b": np.ones((4, 5))}
    with pytest.raises(ValueError, match="do not multiply: 3 against 4"):
        run_op(device, lambda tape, t: matmul(tape, t["a"], t["b"]), inputs)


def test_a_sum_of_more_terms_than_llvmpipe_loops(each_device: Device) -> None:
    """It leaves a kernel's loops after 65,535 rounds, without a word; the head of a large vocabulary has more."""
    outs, rng = 70_000, np.random.default_rng(0)
    dy = rng.normal(size=(3, outs))
    with weight_on(each_device, "f32", (outs, 8)) as (weight, values):

        def backward(tape, t):
            dx = tape.tensor((3, 8), "dx")
            product_backward(tape, t["dy"], weight, dx)
            return dx

        assert_close(run_op(each_device, backward, {"dy": dy})["y"], dy @ values, OP_TOLERANCE)
