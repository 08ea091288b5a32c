"""SwiGLU (Shazeer 2020): the gated activation of Llama's MLP."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape


def swiglu(tape: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up; all (rows, I)."""
    y = tape.tensor(gate.shape, "swiglu", gate.requires_grad or up.requires_grad)
    tensors = {"gate": gate, "up": up, "y": y}
    grid = grid_1d(ceil_div(gate.size, 64))
    tape.dispatch(kernel("swiglu", "forward"), tensors, {"n": gate.size}, grid, 8.0 * gate.size)
    tape.on_backward(y, lambda dy: swiglu_backward(tape, dy, gate, up))
    return y


def swiglu_backward(tape: Tape, dy: Tensor, gate: Tensor, up: Tensor) -> None:
    """Give gate and up their gradients (rows, I). Neither may have one yet."""
    dgate = tape.new_grad(gate)
    dup = tape.new_grad(up)
    tensors = {"gate": gate, "up": up, "dy": dy, "dgate": dgate, "dup": dup}
    grid = grid_1d(ceil_div(gate.size, 64))
    tape.dispatch(kernel("swiglu", "backward"), tensors, {"n": gate.size}, grid, 14.0 * gate.size)
    tape.give_grad(gate, dgate)
    tape.give_grad(up, dup)
