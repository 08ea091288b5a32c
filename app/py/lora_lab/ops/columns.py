"""The result of one layer in parts: q, k and v, or gate and up, where a model has them in one matrix."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape


def split_columns(tape: Tape, x: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    """Return the parts (rows, width) of x (rows, sum of widths), copied so that each part's rows lie together."""
    starts = [0, *accumulate(widths)]
    if starts[-1] != x.shape[-1]:
        raise ValueError(f"{x.label} is {x.shape}; wanted {starts[-1]} columns")
    parts = [tape.tensor((x.rows, width), f"{x.label}.{i}", x.requires_grad) for i, width in enumerate(widths)]
    for part, start in zip(parts, starts, strict=False):
        _move(tape, "take", {"x": x, "y": part}, part, x.shape[-1], start)
    # Each part's gradient goes into its own columns of one tensor, which is x's as soon as all have.
    waiting = list(parts)
    dx: list[Tensor] = []

    def backward(dy: Tensor, part: Tensor, start: int) -> None:
        if not dx:
            dx.append(tape.new_grad(x))
        _move(tape, "put", {"x_grad": dx[0], "dy": dy}, part, x.shape[-1], start)
        waiting.remove(part)
        if not waiting:
            tape.give_grad(x, dx[0])

    for part, start in zip(parts, starts, strict=False):
        tape.on_backward(part, partial(backward, part=part, start=start))
    return parts


def _move(
    tape: Tape, entry: str, tensors: dict[str, Tensor], part: Tensor, columns: int, start: int
) -> None:  # fmt: skip
    params = {"n": part.size, "width": part.shape[-1], "columns": columns, "start": start}
    tape.dispatch(kernel("columns", entry), tensors, params, grid_1d(ceil_div(part.size, 64)), part.size)
