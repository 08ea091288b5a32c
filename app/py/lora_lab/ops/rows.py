"""Moving whole rows: into a cache, out of a padded batch, and the trained rows of the loss."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d


def gather_rows(trace: Trace, x: Tensor, rows: Tensor, y: Tensor, offset: int) -> None:
    """y (count, C) = x's rows that `rows` (u32) names from `offset` on, as far as step.loss_rows."""
    _move(trace, "gather", {"x": x, "rows": rows, "y": y}, y.rows, y.shape[-1], offset)


def scatter_rows(trace: Trace, x: Tensor, rows: Tensor, y: Tensor, offset: int) -> None:
    """The same rows back from x (count, C) into y. Rows of y that are not named keep what they hold."""
    _move(trace, "scatter", {"x": x, "rows": rows, "y": y}, x.rows, x.shape[-1], offset)


def append_rows(trace: Trace, x: Tensor, cache: Tensor) -> None:
    """cache[step.past + i] = x[i], for every row of x (count, C)."""
    _move(trace, "append", {"x": x, "y": cache}, x.rows, x.shape[-1], 0)


def last_row(trace: Trace, x: Tensor, y: Tensor) -> None:
    """y (1, C) = x[step.last_row]."""
    _move(trace, "last", {"x": x, "y": y}, 1, x.shape[-1], 0)


def _move(trace: Trace, entry: str, tensors: dict[str, Tensor], count: int, columns: int, offset: int) -> None:
    assert trace.step is not None
    params = {"count": count, "columns": columns, "offset": offset}
    grid = grid_1d(ceil_div(count * columns, 64))
    trace.dispatch(kernel("rows", entry), {"step": trace.step, **tensors}, params, grid, count * columns)
