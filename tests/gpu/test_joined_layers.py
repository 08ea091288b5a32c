"""Layers that share their input as one product: what each layer gives alone, whatever the widths and the forms."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.gpu import Device, Tensor
from lora_lab.ops.elementwise import copy, fill
from lora_lab.ops.linear import LoraPair, Outputs, linear, linear_joined
from lora_lab.ops.tape import Tape
from lora_lab.ops.tiling import Tiling
from lora_lab.ops.weight import JoinedWeight, Weight
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, check_op, run_op
from tests.gpu.test_op_linear import weight_on, weights_on


def side_by_side(tape: Tape, parts: list[Tensor], outputs: Outputs) -> Tensor:
    """Copy all parts into one flat tensor, and its gradient back to theirs: what a test can read at once."""
    whole = tape.tensor((outputs.bases[-1],), "whole", parts[0].requires_grad)
    fill(tape, whole, 0.0)
    for part, view in zip(parts, outputs.views(whole, "whole"), strict=True):
        copy(tape, part, view)

    def backward(dy: Tensor) -> None:
        for part, view in zip(parts, outputs.views(dy, "dy"), strict=True):
            grad = tape.new_grad(part)
            copy(tape, view, grad)
            tape.give_grad(part, grad)

    tape.on_backward(whole, backward)
    return whole


@pytest.mark.parametrize("rank", [0, 3, 16])
@pytest.mark.parametrize("widths", [(36, 12, 20), (64, 128), (100, 4, 60)], ids=str)
@pytest.mark.parametrize("rows", [1, 33, 70])
def test_joined_layers_are_the_layers(each_device: Device, rows: int, widths: tuple[int, ...], rank: int) -> None:
    """Forward, dx, dA and dB of stacked layers against float64 of each layer by itself."""
    inner, layers = 96, len(widths)
    outputs = Outputs(rows, widths)
    rng = np.random.default_rng(rows + sum(widths) + rank)
    inputs = {"x": rng.normal(size=(rows, inner))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank * layers, inner)), "b": rng.normal(size=(sum(widths), rank)),
                   "da": np.zeros((rank * layers, inner)), "db": np.zeros((sum(widths), rank))}  # fmt: skip
    dy = rng.normal(size=outputs.bases[-1])

    with weight_on(each_device, "q4_1", (sum(widths), inner)) as (weight, values):
        check_joined(each_device, weight, values, outputs, inputs, dy, rank)


FORMS = [("q4_k", "q4_k", "q6_k"), ("q5_0", "q8_0"), ("q6_k", "f16", "q4_k"), ("q4_0", "q5_1", "q5_1")]


@pytest.mark.parametrize("rank", [0, 3, 16])
@pytest.mark.parametrize(("rows", "forms"), [(33, forms) for forms in FORMS] + [(1, FORMS[0]), (1, FORMS[2])], ids=str)
def test_layers_of_different_forms(
    each_device: Device, monkeypatch: pytest.MonkeyPatch, rows: int, forms: tuple[str, ...], rank: int
) -> None:
    """Each run of one form is a product of its own, here with long sums in two parts, and nobody else sees that."""
    monkeypatch.setattr("lora_lab.ops.linear.tiling", lambda *_: Tiling(32, 1, 2))
    inner, widths = 256, (68, 20, 36)[: len(forms)]
    outputs = Outputs(rows, widths)
    rng = np.random.default_rng(rows + rank)
    inputs = {"x": rng.normal(size=(rows, inner))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank * len(forms), inner)), "b": rng.normal(size=(sum(widths), rank)),
                   "da": rng.normal(size=(rank * len(forms), inner)),
                   "db": rng.normal(size=(sum(widths), rank))}  # fmt: skip
    dy = rng.normal(size=outputs.bases[-1])
    with weights_on(each_device, forms, widths, inner) as (weight, values):
        assert isinstance(weight, JoinedWeight)
        check_joined(each_device, weight, values, outputs, inputs, dy, rank)


def test_one_layer_of_several_forms(each_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only some of them have an adapter."""
    monkeypatch.setattr("lora_lab.ops.linear.tiling", lambda *_: Tiling(32, 1, 2))
    widths, x = (36, 12, 20), np.random.default_rng(0).normal(size=(5, 256))
    with weights_on(each_device, ("q4_k", "q4_k", "q6_k"), widths, 256) as (weight, values):
        for first, width in ((0, 36), (36, 12), (48, 20)):

            def build(tape, t, first=first, width=width):
                return linear(tape, t["x"], weight, None, first_row=first, width=width)

            own = values[first : first + width]
            check_op(
                each_device, build, {"x": x}, lambda x, own=own: reference.linear(x, own),
                lambda dy, x, own=own: reference.linear_backward(dy, x, own),
            )  # fmt: skip
        with pytest.raises(ValueError, match="rows from row 40 on are not those of q4_k\\+q6_k"):
            run_op(each_device, lambda tape, t: linear(tape, t["x"], weight, None, first_row=40, width=12), {"x": x})


def check_joined(
    device: Device, weight: Weight | JoinedWeight, values: np.ndarray, outputs: Outputs,
    inputs: dict[str, np.ndarray], dy: np.ndarray, rank: int,
) -> None:  # fmt: skip
    """Assert that y, dx, dA and dB of all layers are what each gives alone; dA and dB are added to what was there."""
    rows, widths, scale = outputs.rows, outputs.widths, 0.75

    def build(tape, t):
        lora = LoraPair(t["a"], t["b"], scale, t["da"], t["db"]) if rank else None
        return side_by_side(tape, linear_joined(tape, t["x"], weight, widths, lora), outputs)

    found = run_op(device, build, inputs, dy=dy, grads=("x",), outputs=("da", "db") if rank else ())

    dx = np.zeros(inputs["x"].shape)
    for layer, (width, start, base) in enumerate(zip(widths, outputs.starts, outputs.bases, strict=False)):
        own = slice(start, start + width)
        flat = slice(base, base + rows * width)
        ranks = slice(layer * rank, (layer + 1) * rank)
        a, b = (inputs["a"][ranks], inputs["b"][own]) if rank else (None, None)
        wanted = reference.linear(inputs["x"], values[own], a, b, scale)
        assert_close(found["y"][flat].reshape(rows, width), wanted, OP_TOLERANCE, f"y of layer {layer}")
        gradients = reference.linear_backward(dy[flat].reshape(rows, width), inputs["x"], values[own], a, b, scale)
        dx += gradients["x"]
        if rank:
            wanted_a, wanted_b = inputs["da"][ranks] + gradients["a"], inputs["db"][own] + gradients["b"]
            assert_close(found["da"][ranks], wanted_a, OP_TOLERANCE, f"dA of layer {layer}")
            assert_close(found["db"][own], wanted_b, OP_TOLERANCE, f"dB of layer {layer}")
    assert_close(found["dx"], dx, OP_TOLERANCE, "dx")
