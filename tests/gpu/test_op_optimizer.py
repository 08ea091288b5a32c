"""Gradient norm, clipping and AdamW against float64 and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.config import TrainConfig
from lora_lab.gpu import Device
from lora_lab.ops.adamw import PER_GROUP, Moments, adamw, grad_norm
from lora_lab.ops.step import StepValues
from tests import reference
from tests.close import OP_TOLERANCE, assert_close, run_op

WHOLE = 2**27
TWO_GROUPS = 4 * 2 * PER_GROUP  # bytes of a binding that holds two groups' values


@pytest.mark.parametrize("limit", [WHOLE, TWO_GROUPS], ids=["one binding", "several bindings"])
@pytest.mark.parametrize("size", [1, 255, PER_GROUP, PER_GROUP + 1, 5 * PER_GROUP + 77])
def test_grad_norm(device: Device, size: int, limit: int) -> None:
    grads = np.random.default_rng(size).normal(size=size).astype(np.float32)

    def build(tape, t):
        grad_norm(tape, t["grads"], t["norm"], limit)
        return t["norm"]

    found = run_op(device, build, {"grads": grads, "norm": np.zeros(1)})
    assert_close(found["y"], np.array([reference.grad_norm(grads)]), OP_TOLERANCE, "norm")


def run_adamw(
    device: Device, config: TrainConfig, start: np.ndarray, grads: list[np.ndarray], limit: int = WHOLE, norm: float = 0
) -> dict[str, np.ndarray]:
    """Return p, m, v after a step for each of `grads`. `norm` takes the place of the computed one, if given."""
    state = {"y": start, "m": np.zeros(start.shape), "v": np.zeros(start.shape)}
    for t, grad in enumerate(grads, start=1):

        def build(tape, tensors):
            if not norm:
                grad_norm(tape, tensors["grad"], tensors["norm"], limit)
            moments = Moments(tensors["m"], tensors["v"])
            adamw(tape, tensors["p"], tensors["grad"], moments, tensors["norm"], config, limit)
            return tensors["p"]

        inputs = {"p": state["y"], "m": state["m"], "v": state["v"], "grad": grad, "norm": np.array([norm])}
        values = StepValues(
            learning_rate=config.learning_rate,
            bias_correction1=1 - config.beta1**t,
            bias_correction2=1 - config.beta2**t,
        )
        state = run_op(device, build, inputs, outputs=("m", "v"), step=values)
    return state


@pytest.mark.parametrize("limit", [WHOLE, TWO_GROUPS], ids=["one binding", "several bindings"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0, 1e6], ids=["no clip", "clipped", "below the clip"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw(device: Device, max_grad_norm: float, weight_decay: float, limit: int) -> None:
    config = TrainConfig(learning_rate=0.01, max_grad_norm=max_grad_norm, weight_decay=weight_decay)
    size = 3 * PER_GROUP + 5 if limit == TWO_GROUPS else 333
    rng = np.random.default_rng(1)
    start = rng.normal(size=size).astype(np.float32)
    grads = [rng.normal(size=size).astype(np.float32) for _ in range(3)]
    found = run_adamw(device, config, start, grads, limit)

    p, m, v = start.astype(np.float64), np.zeros(size), np.zeros(size)
    for t, grad in enumerate(grads, start=1):
        p, m, v = reference.adamw(
            p, grad.astype(np.float64), m, v, t, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay,
            max_norm=max_grad_norm,
        )  # fmt: skip
    # Hold the update itself, not only the sum in which it is small.
    assert_close(found["y"] - start.astype(np.float64), p - start, 3e-5, "update")
    assert_close(found["y"], p, OP_TOLERANCE, "p")
    assert_close(found["m"], m, OP_TOLERANCE, "m")
    assert_close(found["v"], v, OP_TOLERANCE, "v")


@pytest.mark.parametrize("norm", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_no_number_changes_nothing(device: Device, norm: float) -> None:
    start = np.random.default_rng(0).normal(size=100).astype(np.float32)
    found = run_adamw(device, TrainConfig(learning_rate=0.1), start, [np.full(100, np.nan, np.float32)], norm=norm)
    assert np.array_equal(found["y"], start)
    assert not found["m"].any() and not found["v"].any()
