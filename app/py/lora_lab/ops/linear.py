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
LONG_SUM = 1_536  # terms that a part of a cut sum has at least
PART_MULTIPLE = 64  # terms that all slices of a tile take in one trip, at most


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
        grid = grid_1d(ceil_div(columns, 4))
        _dispatch(tape, step, y, grid, inner, False, "x", x, weight, u, b, inner, chunk_start)
        return
    _tiled(tape, weight, "forward", x, y, u, b, False, chunk_start)


def product_backward(
    tape: Tape, dy: Tensor, weight: Weight, dx: Tensor, du: Tensor | None = None, a: Tensor | None = None,
    accumulate: bool = False, chunk_start: int = NO_CHUNK,
) -> None:  # fmt: skip
    """dx (rows, in) (=|+=) dy W + du A."""
    _tiled(tape, weight, "backward", dy, dx, du, a, accumulate, chunk_start)


@dataclass(frozen=True)
class Tiling:
    """How a result is shared out: rows of a tile, groups of invocations that split its sum, parts of the sum that
    workgroups of their own take. By the shape alone, so that equal seeds give equal bits."""

    tile_rows: int
    slices: int
    parts: int


def tiling(rows: int, columns: int, inner: int) -> Tiling:
    """Return how to make a (rows, columns) result whose sums have `inner` terms.

    Large tiles read least, but a result of few tiles leaves most of a GPU idle: then tiles get smaller, several groups
    of invocations share each one's sum, and very long sums are cut into parts that are added afterwards.
    """
    column_tiles = ceil_div(columns, 64)
    tiles = column_tiles * ceil_div(rows, 64)
    parts = max(1, min(inner // LONG_SUM, ceil_div(2 * FULL_TILES, tiles)))
    if tiles * parts >= FULL_TILES:
        return Tiling(64, 1 if tiles * parts >= 2 * FULL_TILES else 2, parts)
    tiles = column_tiles * ceil_div(rows, 32)
    return Tiling(32, 2 if tiles >= FULL_TILES // 2 else 4, 1)


def _workgroup_bytes(tile_rows: int, slices: int) -> int:
    """Return the workgroup memory of linear.wgsl: both tiles of 16 depths for every slice, and the slices' sums."""
    return 16 * slices * (16 * (tile_rows // 4 + 1 + 17) + 64)


def _tiled(
    tape: Tape, weight: Weight, entry: str, x: Tensor, y: Tensor, lora_in: Tensor | None, lora_weight: Tensor | None,
    accumulate: bool, chunk_start: int,
) -> None:  # fmt: skip
    rows, columns, inner, loader = x.rows, y.shape[-1], x.shape[-1], (weight.loader,)
    name = "x" if entry == "forward" else "dy"
    common = (name, x, weight, lora_in, lora_weight, inner, chunk_start)
    if not tape.device.use_workgroup_memory:
        grid: tuple[int, ...] = (ceil_div(columns, 64), ceil_div(rows, 64))
        _dispatch(tape, kernel("linear_plain", entry, includes=loader), y, grid, inner, accumulate, *common)
        return
    form = tiling(rows, columns, inner)
    slices = form.slices
    while slices > 1 and _workgroup_bytes(form.tile_rows, slices) > tape.device.limits.max_workgroup_storage_size:
        slices //= 2
    sums = slices * 64 if slices > 1 else 1
    step = kernel("linear", entry, (("TILE_ROWS", form.tile_rows), ("SLICES", slices), ("SUMS", sums)), loader)
    grid = (ceil_div(columns, 64), ceil_div(rows, form.tile_rows), form.parts)
    if form.parts == 1:
        _dispatch(tape, step, y, grid, inner, accumulate, *common)
        return
    partial = tape.tensor((form.parts, rows, columns), f"{y.label}.parts")
    part = ceil_div(ceil_div(inner, form.parts), PART_MULTIPLE) * PART_MULTIPLE
    _dispatch(tape, step, partial, grid, part, False, *common)
    params = {"n": y.size, "parts": form.parts, "columns": columns, "accumulate": int(accumulate),
              "chunk_start": chunk_start}  # fmt: skip
    assert tape.step is not None
    tensors = {"step": tape.step, "a": partial, "y": y}
    tape.dispatch(kernel("sum_parts", "add"), tensors, params, grid_1d(ceil_div(y.size, 64)), partial.size)


def _dispatch(
    tape: Tape, step: Kernel, y: Tensor, grid: tuple[int, ...], part: int, accumulate: bool, x_name: str, x: Tensor,
    weight: Weight, lora_in: Tensor | None, lora_weight: Tensor | None, inner: int, chunk_start: int,
) -> None:  # fmt: skip
    rank = lora_in.shape[-1] if lora_in is not None else 0
    columns = y.shape[-1]
    params = {"rows": x.rows, "columns": columns, "inner": inner, "rank": rank, "accumulate": int(accumulate),
              "chunk_start": chunk_start, "part": part}  # fmt: skip
    assert tape.step is not None
    # Without an adapter something has to be bound in its place; a sum of length 0 never reads it.
    tensors = {"step": tape.step, "weight": weight.tensor, x_name: x, "y": y,
               "lora_in": lora_in or x, "lora_weight": lora_weight or x}  # fmt: skip
    tape.dispatch(step, tensors, params, grid, 2.0 * x.rows * columns * (inner + rank))
