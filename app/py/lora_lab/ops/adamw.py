"""Gradient norm, clipping and AdamW over one flat buffer of every trained value."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import TrainConfig
from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d

PER_GROUP = 8_192  # values that one workgroup of grad_norm sums, as in grad_norm.wgsl


def grad_norm(trace: Trace, grads: Tensor, norm: Tensor, max_binding_bytes: int) -> None:
    """norm (1) = the square root of the sum of squares of grads (n)."""
    groups = ceil_div(grads.size, PER_GROUP)
    partials = trace.tensor((groups,), "grad_norm.partials")
    offset = 0
    for part in slices(grads, max_binding_bytes):
        count = ceil_div(part.size, PER_GROUP)
        tensors = {"grads": part, "partials": partials}
        params = {"n": part.size, "offset": offset}
        trace.dispatch(kernel("grad_norm", "squares"), tensors, params, (count,), 2.0 * part.size)
        offset += count
    tensors = {"partials_in": partials, "norm": norm}
    trace.dispatch(kernel("grad_norm", "total"), tensors, {"n": groups, "offset": 0}, (1,), groups)


@dataclass(frozen=True)
class Report:
    """What a step leaves for the host and for its successors; see wgsl/report.wgsl.

    ring (2 * slots): loss and norm of the step whose slot is step.slot. used_norm (1): what adamw must be given.
    halted (1), u32: zero before the first step.
    """

    ring: Tensor
    used_norm: Tensor
    halted: Tensor


def report(trace: Trace, loss: Tensor, norm: Tensor, to: Report) -> None:
    """Leave loss (1) and norm (1) in the ring, and see to it that no step after a bad one changes anything."""
    assert trace.step is not None
    tensors = {"step": trace.step, "loss": loss, "norm": norm, **vars(to)}
    trace.dispatch(kernel("report", "leave"), tensors, {"unused": 0}, (1,))


@dataclass(frozen=True)
class Moments:
    """AdamW's running mean and mean of squares, both (n) like the parameters."""

    m: Tensor
    v: Tensor


def adamw(
    trace: Trace, params: Tensor, grads: Tensor, moments: Moments, norm: Tensor, config: TrainConfig,
    max_binding_bytes: int,
) -> None:  # fmt: skip
    """Update params (n) in place. The learning rate and the bias corrections come from the step buffer."""
    values = {
        "beta1": config.beta1,
        "beta2": config.beta2,
        "one_minus_beta1": 1 - config.beta1,
        "one_minus_beta2": 1 - config.beta2,
        "eps": config.adam_eps,
        "weight_decay": config.weight_decay,
        "max_norm": config.max_grad_norm,
    }
    assert trace.step is not None
    whole = (params, grads, moments.m, moments.v)
    for p, grad, m, v in zip(*(slices(tensor, max_binding_bytes) for tensor in whole), strict=True):
        tensors = {"step": trace.step, "p": p, "grad": grad, "m": m, "v": v, "norm": norm}
        grid = grid_1d(ceil_div(p.size, 64))
        trace.dispatch(kernel("adamw", "update"), tensors, {"n": p.size, **values}, grid, 16.0 * p.size)


def slices(tensor: Tensor, max_binding_bytes: int) -> list[Tensor]:
    """Cut a flat tensor into parts that one binding may hold; each but the last a multiple of PER_GROUP values."""
    step = max_binding_bytes // 4 // PER_GROUP * PER_GROUP
    return [
        Tensor((min(step, tensor.size - start),), tensor.storage, tensor.offset + 4 * start, tensor.label)
        for start in range(0, tensor.size, step)
    ]
