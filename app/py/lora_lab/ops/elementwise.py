"""Addition, copies, and filling memory with a value."""

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


def fill(trace: Trace, y: Tensor, value: float) -> None:
    """Set every element of y."""
    grid = grid_1d(ceil_div(y.size, 64))
    trace.dispatch(kernel("elementwise", "fill"), {"y": y}, {"n": y.size, "value": value}, grid, y.size)


def copy(trace: Trace, a: Tensor, y: Tensor) -> None:
    """y = a, same sizes."""
    grid = grid_1d(ceil_div(a.size, 64))
    trace.dispatch(kernel("elementwise", "copy"), {"a": a, "y": y}, {"n": a.size, "value": 0.0}, grid, a.size)
