"""The gated short convolution of LFM2, over the sequence itself or over a cache."""

from __future__ import annotations

from ..gpu.kernel import Constants, kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape


def short_conv(tape: Tape, bcx: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    """Return C * conv(B * x), (rows, C), for B, C and x side by side in bcx (rows, 3 C).

    weight: a filter for each channel, C * taps numbers, the last of which is the token's own. No filter reaches beyond
    the text that its token is in: positions (rows) begin anew with each.
    """
    rows, channels = bcx.rows, bcx.shape[-1] // 3
    y = tape.tensor((rows, channels), "short_conv", bcx.requires_grad)
    tensors = {"bcx": bcx, "w": weight, "positions": positions, "y": y}
    _dispatch(tape, "forward", tensors, weight, rows, channels)
    tape.on_backward(y, lambda dy: short_conv_backward(tape, dy, bcx, weight, positions))
    return y


def short_conv_backward(tape: Tape, dy: Tensor, bcx: Tensor, weight: Tensor, positions: Tensor) -> None:
    """Give bcx (rows, 3 C) its gradient; it may not have one yet. The filters are frozen."""
    dbcx = tape.new_grad(bcx)
    tensors = {"bcx": bcx, "w": weight, "positions": positions, "dy": dy, "dbcx": dbcx}
    _dispatch(tape, "backward", tensors, weight, *dy.shape)
    tape.give_grad(bcx, dbcx)


def short_conv_cached(tape: Tape, bcx: Tensor, weight: Tensor, positions: Tensor, kept: Tensor) -> Tensor:
    """The same, for rows that follow those whose B * x is in kept (count, C), each in row position % count.

    Afterwards the rows up to step.last_row are there too.
    """
    rows, channels = bcx.rows, bcx.shape[-1] // 3
    y = tape.tensor((rows, channels), "short_conv")
    tensors = {"bcx": bcx, "w": weight, "positions": positions}
    _dispatch(tape, "forward_cached", {**tensors, "y": y, "kept": kept}, weight, rows, channels, kept.rows)
    assert tape.step is not None
    tensors = {"step": tape.step, "bcx": bcx, "positions": positions, "kept_new": kept}
    _dispatch(tape, "keep", tensors, weight, min(rows, kept.rows), channels, kept.rows)
    return y


def _dispatch(
    tape: Tape, entry: str, tensors: dict[str, Tensor], weight: Tensor, rows: int, channels: int, kept_rows: int = 0
) -> None:
    taps = weight.size // channels
    constants: Constants = (("TAPS", taps),)
    params = {"rows": rows, "channels": channels, "kept_rows": kept_rows}
    grid = grid_1d(ceil_div(rows * channels, 64))
    tape.dispatch(kernel("short_conv", entry, constants), tensors, params, grid, 4.0 * taps * rows * channels)
