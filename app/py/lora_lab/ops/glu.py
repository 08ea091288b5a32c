"""Gated activations of the MLP (Shazeer 2020): SwiGLU, as in Llama, and GeGLU, as in Gemma."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape

ELEMENTS = 1024  # of a workgroup, as in glu.wgsl


def glu(tape: Tape, gate: Tensor, up: Tensor, gelu: bool = False) -> Tensor:
    """Return silu(gate) * up, or gelu(gate) * up by the tanh form; all (rows, I)."""
    constants = (("GELU", gelu),)
    y = tape.tensor(gate.shape, "glu", gate.requires_grad or up.requires_grad)
    tensors = {"gate": gate, "up": up, "y": y}
    grid = grid_1d(ceil_div(gate.size, ELEMENTS))
    tape.dispatch(kernel("glu", "forward", constants), tensors, {"n": gate.size}, grid, 8.0 * gate.size)
    tape.will_be_made_again(y)
    tape.on_backward(y, lambda dy: glu_backward(tape, dy, gate, up, y, gelu))
    return y


def glu_backward(tape: Tape, dy: Tensor, gate: Tensor, up: Tensor, y: Tensor, gelu: bool) -> None:
    """Turn gate and up (rows, I) into their gradients, in place; neither may have one yet, and nothing else may need
    them. Makes y again for those that wait for it.
    """
    constants = (("GELU", gelu),)
    dgate, dup = tape.grad_in_place(gate), tape.grad_in_place(up)
    tensors = {"gate_grad": dgate, "up_grad": dup, "dy": dy}
    grid = grid_1d(ceil_div(gate.size, ELEMENTS))
    again = tape.to_be_made_again(y)
    if again is None:
        tape.dispatch(kernel("glu", "backward", constants), tensors, {"n": gate.size}, grid, 14.0 * gate.size)
    else:
        tensors["y"] = again
        tape.dispatch(kernel("glu", "backward_and_again", constants), tensors, {"n": gate.size}, grid, 15.0 * gate.size)
        tape.made_again(y, again)
    tape.give_grad(gate, dgate)
    tape.give_grad(up, dup)
