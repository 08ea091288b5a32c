"""Addition, factors, biases, copies, filling memory with a value, and looking at memory in another shape."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d
from .tape import Tape


def add(tape: Tape, a: Tensor, b: Tensor, label: str = "residual") -> Tensor:
    """Return a + b, same shapes: the residual connection."""
    y = tape.tensor(a.shape, label, a.requires_grad or b.requires_grad)
    grid = grid_1d(ceil_div(a.size, 64))
    params = {"n": a.size, "value": 0.0}
    tape.dispatch(kernel("elementwise", "add"), {"a": a, "b": b, "y": y}, params, grid, a.size)
    tape.on_backward(y, lambda dy: add_backward(tape, dy, a, b))
    return y


def add_backward(tape: Tape, dy: Tensor, a: Tensor, b: Tensor) -> None:
    """dy is the gradient of both sides. It is shared, not copied: b's backward runs before a gets its next share."""
    tape.give_grad(a, dy)
    tape.give_grad(b, dy)


def scale(tape: Tape, x: Tensor, factor: float, label: str = "scaled") -> Tensor:
    """Return factor * x."""
    y = tape.tensor(x.shape, label, x.requires_grad)
    _scale(tape, x, y, factor)

    def backward(dy: Tensor) -> None:
        dx = tape.new_grad(x)
        _scale(tape, dy, dx, factor)
        tape.give_grad(x, dx)

    tape.on_backward(y, backward)
    return y


def _scale(trace: Trace, x: Tensor, y: Tensor, factor: float) -> None:
    grid = grid_1d(ceil_div(x.size, 64))
    trace.dispatch(kernel("elementwise", "scale"), {"a": x, "y": y}, {"n": x.size, "value": factor}, grid, x.size)


def add_bias(tape: Tape, x: Tensor, bias: Tensor) -> Tensor:
    """Return x (rows, C) with bias (C), which is frozen, added in place. Nothing else may need x as it was."""
    grid = grid_1d(ceil_div(x.size, 64))
    tape.dispatch(kernel("bias", "add"), {"x": x, "bias": bias}, {"n": x.size, "columns": bias.size}, grid, x.size)
    return reshaped(tape, x, x.shape, f"{x.label}.biased")


def reshaped(tape: Tape, x: Tensor, shape: tuple[int, ...], label: str = "") -> Tensor:
    """Return x's memory in another shape of as many elements; so is its gradient."""
    y = Tensor(shape, x.storage, x.offset, label or x.label, x.requires_grad)
    if y.size != x.size:
        raise ValueError(f"{x.label} is {x.shape}, which is not {shape}")
    tape.same_place(y, x)
    tape.on_backward(y, lambda dy: tape.give_grad(x, Tensor(x.shape, dy.storage, dy.offset, f"d.{x.label}")))
    return y


def fill(trace: Trace, y: Tensor, value: float) -> None:
    """Set every element of y."""
    grid = grid_1d(ceil_div(y.size, 64))
    trace.dispatch(kernel("elementwise", "fill"), {"y": y}, {"n": y.size, "value": value}, grid, y.size)


def copy(trace: Trace, a: Tensor, y: Tensor) -> None:
    """y = a, same sizes."""
    grid = grid_1d(ceil_div(a.size, 64))
    trace.dispatch(kernel("elementwise", "copy"), {"a": a, "y": y}, {"n": a.size, "value": 0.0}, grid, a.size)
