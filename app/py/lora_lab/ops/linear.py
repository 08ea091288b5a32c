"""The linear layer over a frozen weight of any form, with LoRA (Hu et al. 2021) folded into the product.

    y = x WT + u BT,   u = scale * x AT          scale = strength * alpha / r
    dx = dy W + du A,  du = scale * dy B         dA += duT x        dB += dyT u

The adapter's share is the same product with its inner sum made longer by R, so it costs almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..gpu.kernel import Kernel, kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .matmul import matmul
from .tape import Tape
from .weight import Weight

NO_CHUNK = 0xFFFFFFFF
FULL_TILES = 256  # that keep a large GPU busy


@dataclass(frozen=True, eq=False)
class LoraPair:
    """A (R, in) and B (out, R) of one linear layer, their gradients (None when not training), and alpha / r."""

    a: Tensor
    b: Tensor
    scale: float
    da: Tensor | None = None
    db: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def linear(tape: Tape, x: Tensor, weight: Weight, lora: LoraPair | None = None, label: str = "linear") -> Tensor:
    """Return y (rows, out). x: (rows, in); weight: (out, in), frozen; `lora` the layer's adapter, if it has one."""
    trained = lora is not None and lora.da is not None
    y = tape.tensor((x.rows, weight.shape[0]), label, x.requires_grad or trained)
    u = None
    if lora is not None:
        u = matmul(tape, x, lora.a, transpose_b=True, alpha=lora.scale, use_strength=True, label=f"{label}.u")
    product(tape, x, weight, y, u, lora.b if lora else None)
    tape.on_backward(y, lambda dy: linear_backward(tape, dy, x, weight, lora, u))
    return y


def linear_backward(tape: Tape, dy: Tensor, x: Tensor, weight: Weight, lora: LoraPair | None, u: Tensor | None) -> None:
    """Give x its gradient (rows, in) and add to dA (R, in) and dB (out, R). The weight is frozen and gets none."""
    du = None
    if lora is not None and u is not None:
        du = matmul(tape, dy, lora.b, alpha=lora.scale, use_strength=True, label=f"d.{u.label}")
        if lora.da is not None and lora.db is not None:
            matmul(tape, du, x, transpose_a=True, out=lora.da, accumulate=True)
            matmul(tape, dy, u, transpose_a=True, out=lora.db, accumulate=True)
    target = tape.grad_target(x)
    if target is not None:
        dx, accumulate = target
        product_backward(tape, dy, weight, dx, du, lora.a if lora else None, accumulate)


def product(
    tape: Tape, x: Tensor, weight: Weight, y: Tensor, u: Tensor | None = None, b: Tensor | None = None,
    chunk_start: int = NO_CHUNK,
) -> None:  # fmt: skip
    """y (rows, out) = x WT + u BT. With `chunk_start`, only the rows that step.loss_rows leaves from there on."""
    rows, (columns, inner) = x.rows, weight.shape
    if x.shape[-1] != inner:
        raise ValueError(f"{x.label} is {x.shape}; {weight.tensor.label} takes (rows, {inner})")
    if rows == 1 and chunk_start == NO_CHUNK:
        step = kernel("linear_row", "forward", (("LANES", tape.device.lanes(64)),), (weight.loader,))
        _dispatch(tape, step, "x", x, weight, y, u, b, inner, False, chunk_start, grid_1d(ceil_div(columns, 4)))
        return
    step, grid = _kernel(tape, weight, "forward", rows, columns)
    _dispatch(tape, step, "x", x, weight, y, u, b, inner, False, chunk_start, grid)


def product_backward(
    tape: Tape, dy: Tensor, weight: Weight, dx: Tensor, du: Tensor | None = None, a: Tensor | None = None,
    accumulate: bool = False, chunk_start: int = NO_CHUNK,
) -> None:  # fmt: skip
    """dx (rows, in) (=|+=) dy W + du A."""
    step, grid = _kernel(tape, weight, "backward", dy.rows, dx.shape[-1])
    _dispatch(tape, step, "dy", dy, weight, dx, du, a, dy.shape[-1], accumulate, chunk_start, grid)


def _kernel(tape: Tape, weight: Weight, entry: str, rows: int, columns: int) -> tuple[Kernel, tuple[int, int]]:
    """Return the kernel for a result of (rows, columns) and its grid."""
    if not tape.device.use_workgroup_memory:
        return kernel("linear_plain", entry, includes=(weight.loader,)), (ceil_div(columns, 64), ceil_div(rows, 64))
    tile_rows, slices = _tiling(rows, columns)
    constants = (("TILE_ROWS", tile_rows), ("SLICES", slices))
    grid = (ceil_div(columns, 64), ceil_div(rows, tile_rows))
    return kernel("linear", entry, constants, (weight.loader,)), grid


def _tiling(rows: int, columns: int) -> tuple[int, int]:
    """Return (rows of a tile, slices of the sum). By the shape alone, so that equal seeds give equal bits.

    Large tiles read least, but a result of few tiles leaves most of a GPU idle: then tiles get smaller, and several
    groups of invocations share each one's sum.
    """
    for tile_rows in (64, 32):
        tiles = ceil_div(columns, 64) * ceil_div(rows, tile_rows)
        if tiles >= FULL_TILES:
            return tile_rows, 1 if tiles >= 2 * FULL_TILES else 2
    return 32, 4


def _dispatch(
    tape: Tape, step: Kernel, x_name: str, x: Tensor, weight: Weight, y: Tensor, lora_in: Tensor | None,
    lora_weight: Tensor | None, inner: int, accumulate: bool, chunk_start: int, grid: tuple[int, ...],
) -> None:  # fmt: skip
    rank = lora_in.shape[-1] if lora_in is not None else 0
    params = {
        "rows": x.rows,
        "columns": y.shape[-1],
        "inner": inner,
        "rank": rank,
        "accumulate": int(accumulate),
        "chunk_start": chunk_start,
    }
    assert tape.step is not None
    # Without an adapter something has to be bound in its place; a sum of length 0 never reads it.
    tensors = {"step": tape.step, "weight": weight.tensor, x_name: x, "y": y,
               "lora_in": lora_in or x, "lora_weight": lora_weight or x}  # fmt: skip
    tape.dispatch(step, tensors, params, grid, 2.0 * x.rows * y.shape[-1] * (inner + rank))
