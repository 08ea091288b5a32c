"""RMSNorm (Zhang & Sennrich 2019)."""

from __future__ import annotations

from ..gpu.kernel import Kernel, kernel
from ..gpu.plan import Tensor, grid_1d
from .tape import Tape


def rmsnorm(tape: Tape, x: Tensor, gain: Tensor, eps: float, label: str = "norm") -> Tensor:
    """Return y (rows, C) = x * rstd * gain. x: (rows, C); gain: (C), frozen."""
    y = tape.tensor(x.shape, label, x.requires_grad)
    rstd = tape.tensor((x.rows,), f"{label}.rstd")
    params = {"rows": x.rows, "columns": x.shape[-1], "eps": eps, "accumulate": 0}
    tensors = {"x": x, "gain": gain, "y": y, "rstd": rstd}
    tape.dispatch(_kernel(tape, "forward"), tensors, params, grid_1d(x.rows), 6.0 * x.size)
    tape.will_be_made_again(y)
    tape.on_backward(y, lambda dy: rmsnorm_backward(tape, dy, x, gain, y, rstd, eps))
    return y


def rmsnorm_backward(tape: Tape, dy: Tensor, x: Tensor, gain: Tensor, y: Tensor, rstd: Tensor, eps: float) -> None:
    """Give x its gradient (rows, C). The gain is frozen and gets none. Makes y again for those that wait for it."""
    target = tape.grad_target(x)
    if target is None:
        return
    dx, accumulate = target
    params = {"rows": x.rows, "columns": x.shape[-1], "eps": eps, "accumulate": int(accumulate)}
    tensors = {"x": x, "gain": gain, "dy": dy, "rstd_saved": rstd, "dx": dx}
    again = tape.to_be_made_again(y)
    if again is None:
        tape.dispatch(_kernel(tape, "backward"), tensors, params, grid_1d(x.rows), 10.0 * x.size)
    else:
        tensors["y"] = again
        tape.dispatch(_kernel(tape, "backward_and_again"), tensors, params, grid_1d(x.rows), 12.0 * x.size)
        tape.made_again(y, again)


def _kernel(tape: Tape, entry: str) -> Kernel:
    return kernel("rmsnorm", entry, (("LANES", tape.device.lanes(64)),))
