"""Layers that share their input as one product: the same numbers as each layer alone, whatever their widths."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.gpu import Device, Tensor
from lora_lab.ops.elementwise import copy, fill
from lora_lab.ops.linear import LoraPair, Outputs, linear_joined
from lora_lab.ops.tape import Tape
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, run_op
from tests.gpu.test_op_linear import weight_on


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
    inner, scale, layers = 96, 0.75, len(widths)
    outputs = Outputs(rows, widths)
    rng = np.random.default_rng(rows + sum(widths) + rank)
    inputs = {"x": rng.normal(size=(rows, inner))}
    if rank:
        inputs |= {"a": rng.normal(size=(rank * layers, inner)), "b": rng.normal(size=(sum(widths), rank)),
                   "da": np.zeros((rank * layers, inner)), "db": np.zeros((sum(widths), rank))}  # fmt: skip
    dy = rng.normal(size=outputs.bases[-1])

    with weight_on(each_device, "q4_1", (sum(widths), inner)) as (weight, values):

        def build(tape, t):
            lora = LoraPair(t["a"], t["b"], scale, t["da"], t["db"]) if rank else None
            return side_by_side(tape, linear_joined(tape, t["x"], weight, widths, lora), outputs)

        found = run_op(each_device, build, inputs, dy=dy, grads=("x",), outputs=("da", "db") if rank else ())

    dx = np.zeros((rows, inner))
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
            assert_close(found["da"][ranks], gradients["a"], OP_TOLERANCE, f"dA of layer {layer}")
            assert_close(found["db"][own], gradients["b"], OP_TOLERANCE, f"dB of layer {layer}")
    assert_close(found["dx"], dx, OP_TOLERANCE, "dx")
