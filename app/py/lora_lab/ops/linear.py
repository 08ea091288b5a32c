"""The linear layer over a frozen weight of any form, with LoRA (Hu et al. 2021) folded into the product.

    y = x WT + u BT,   u = scale * x AT          scale = strength * alpha / r
    dx = dy W + du A,  du = scale * dy B         dA += duT x        dB += dyT u

The adapter's share is the same product with its inner sum made longer by R, so it costs almost nothing. Layers that
share their input (q, k and v; gate and up) are one product over their stacked weights: fewer and wider ones fill a GPU
better. Where a file stores them in different forms, each run of layers of one form is a product of its own, which makes
its part of the joined result; u, du, dA and dB are still made for all of them at once. So does each piece of a matrix
that is larger than one buffer or one binding of the GPU may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate as running_sum

from ..gpu.kernel import Kernel, kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .matmul import Matrix, Product, matmul, products
from .tape import Tape
from .tiling import tiling
from .weight import JoinedWeight, Run, Weight, runs

NO_CHUNK = 0xFFFFFFFF
REPLACE, ADD, ADD_RESIDUAL = 0, 1, 2  # what a result does to what is there
# Terms of a sum in one dispatch on a software device: llvmpipe leaves loops without a word after 65,535 rounds.
LOOP_TERMS = 1 << 15
ALIGN = 64  # floats: where a binding may begin on every device


@dataclass(frozen=True, eq=False)
class LoraPair:
    """A (R, in) and B (out, R) of one linear layer, their gradients (None when not training), and alpha / r.

    For joined layers the matrices of all are stacked: A (layers * R, in), B (all outs, R).
    """

    a: Tensor
    b: Tensor
    scale: float
    da: Tensor | None = None
    db: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.b.shape[-1]


@dataclass(frozen=True)
class Outputs:
    """Where the results of one or several layers lie for `rows` rows: one layer behind another, each (rows, width)."""

    rows: int
    widths: tuple[int, ...]

    @property
    def starts(self) -> list[int]:
        """The first output of each layer among all outputs, and their number."""
        return [0, *running_sum(self.widths)]

    @property
    def bases(self) -> list[int]:
        """Where each layer's results begin, in floats, and where the last ends. All but that are aligned."""
        sizes = [self.rows * width for width in self.widths]
        aligned = [ceil_div(size, ALIGN) * ALIGN for size in sizes[:-1]]
        return [0, *running_sum([*aligned, sizes[-1]])]

    def views(self, y: Tensor, label: str) -> list[Tensor]:
        """Return each layer's results (rows, width) inside y."""
        return [
            Tensor((self.rows, width), y.storage, y.offset + 4 * base, f"{label}.{index}", y.requires_grad)
            for index, (width, base) in enumerate(zip(self.widths, self.bases, strict=False))
        ]

    def some(self, y: Tensor, first: int, last: int) -> tuple[Outputs, Tensor]:
        """Return layers `first` to `last - 1` alone, and the part of y that holds their results."""
        if last - first == len(self.widths):
            return self, y
        part, base = Outputs(self.rows, self.widths[first:last]), self.bases[first]
        return part, Tensor((part.bases[-1],), y.storage, y.offset + 4 * base, f"{y.label}.{first}", y.requires_grad)

    def of_run(self, run: Run) -> Outputs:
        """Return these, the layers of a run, as a product over its piece of the weight makes them."""
        return Outputs(self.rows, (run.count,)) if run.is_cut else self


def linear(
    tape: Tape, x: Tensor, weight: Weight | JoinedWeight, lora: LoraPair | None = None, label: str = "linear",
    first_row: int = 0, width: int | None = None, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return y (rows, out). x: (rows, in); weight: (out, in), frozen; `lora` the layer's adapter, if it has one.

    `first_row` and `width` pick one layer out of a joined weight; `residual` (rows, out) is added to the result.
    """
    widths = (width or weight.shape[0],)
    requires_grad = x.requires_grad or _is_trained(lora) or (residual is not None and residual.requires_grad)
    y = tape.tensor((x.rows, *widths), label, requires_grad)
    _linear(tape, x, weight, lora, y, Outputs(x.rows, widths), first_row, residual)
    return y


def linear_joined(
    tape: Tape, x: Tensor, weight: Weight | JoinedWeight, widths: Sequence[int], lora: LoraPair | None = None,
    label: str = "joined",
) -> list[Tensor]:  # fmt: skip
    """Return the results (rows, width) of up to three layers that share x, as one product for each piece of the weight.

    weight: (sum of widths, in), the layers' weights stacked; `lora` stacks their adapters of equal rank likewise. All
    widths are multiples of 4. The results, and later their gradients, are parts of one tensor.
    """
    outputs = Outputs(x.rows, tuple(widths))
    y = tape.tensor((outputs.bases[-1],), label, x.requires_grad or _is_trained(lora))
    _linear(tape, x, weight, lora, y, outputs, 0)
    views = outputs.views(y, label)
    tape.split(y, views)
    return views


def _is_trained(lora: LoraPair | None) -> bool:
    return lora is not None and lora.da is not None


def _linear(
    tape: Tape, x: Tensor, weight: Weight | JoinedWeight, lora: LoraPair | None, y: Tensor, outputs: Outputs,
    first_row: int, residual: Tensor | None = None,
) -> None:  # fmt: skip
    u = None
    if lora is not None:
        u = matmul(tape, x, lora.a, transpose_b=True, alpha=lora.scale, use_strength=True, label=f"{y.label}.u")
    _forward(tape, x, weight, y, outputs, u, lora.b if lora else None, NO_CHUNK, first_row, residual)

    def backward(dy: Tensor) -> None:
        linear_backward(tape, dy, x, weight, lora, u, outputs, first_row)
        if residual is not None:
            tape.give_grad(residual, dy)  # shared, not copied: nothing after this needs it as dy

    tape.on_backward(y, backward)


def linear_backward(
    tape: Tape, dy: Tensor, x: Tensor, weight: Weight | JoinedWeight, lora: LoraPair | None, u: Tensor | None,
    outputs: Outputs, first_row: int = 0,
) -> None:  # fmt: skip
    """Give x its gradient (rows, in) and add to dA (R, in) and dB (out, R). The weight is frozen and gets none."""
    du = None
    if lora is not None and u is not None:
        rank, rank_total, rows = lora.rank, u.shape[-1], x.rows
        layers = list(enumerate(zip(outputs.widths, outputs.bases, outputs.starts, strict=False)))
        du = tape.tensor(u.shape, f"d.{u.label}")
        down = [
            Product(rows, rank, w, Matrix(base, w, 1), Matrix(start * rank, rank, 1), Matrix(i * rank, rank_total, 1))
            for i, (w, base, start) in layers
        ]
        products(tape, [(dy, lora.b)], du, down, lora.scale, True, False)
        if lora.da is not None and lora.db is not None:
            # x may have to be made again first; dy and du stay as they are until then.
            grads = partial(_lora_grads, tape, dy, u, du, lora.da, lora.db, outputs, rank)
            tape.read_in_backward(x, grads)
    target = tape.grad_target(x)
    if target is not None:
        dx, accumulate = target
        _backward(tape, dy, weight, dx, outputs, du, lora.a if lora else None, accumulate, NO_CHUNK, first_row)


def _lora_grads(
    tape: Tape, dy: Tensor, u: Tensor, du: Tensor, da: Tensor, db: Tensor, outputs: Outputs, rank: int, x: Tensor
) -> None:
    """dA += duT x and dB += dyT u, in one dispatch where dA and dB lie in one buffer."""
    rank_total, rows, inner = u.shape[-1], x.rows, x.shape[-1]
    together = da.storage is db.storage
    whole = da if not together else _spanning(da, db)
    base_a, base_b = ((t.offset - whole.offset) // 4 if together else 0 for t in (da, db))
    grad_a = Product(rank_total, inner, rows, Matrix(0, 1, rank_total), Matrix(0, inner, 1), Matrix(base_a, inner, 1))
    # Written as its transpose, uT dy: then all products of the dispatch are low and wide, and few workgroups idle.
    grads_b = [
        Product(
            rank, w, rows, Matrix(i * rank, 1, rank_total), Matrix(base, w, 1),
            Matrix(base_b + start * rank, 1, rank), pair=1,
        )
        for i, (w, base, start) in enumerate(zip(outputs.widths, outputs.bases, outputs.starts, strict=False))
    ]  # fmt: skip
    pairs = [(du, x), (u, dy)]
    if together:
        products(tape, pairs, whole, [grad_a, *grads_b], 1.0, False, True)
    else:
        products(tape, pairs, da, [grad_a], 1.0, False, True)
        products(tape, pairs, db, grads_b, 1.0, False, True)


def _spanning(a: Tensor, b: Tensor) -> Tensor:
    """Return a tensor over everything from the one's beginning to the other's end, in the same buffer."""
    begin, end = min(a.offset, b.offset), max(a.offset + a.size_bytes, b.offset + b.size_bytes)
    return Tensor(((end - begin) // 4,), a.storage, begin, f"{a.label} and {b.label}")


def product(tape: Tape, x: Tensor, weight: Weight | JoinedWeight, y: Tensor, chunk_start: int = NO_CHUNK) -> None:
    """y (rows, out) = x WT. With `chunk_start`, only the rows that step.loss_rows leaves from there on."""
    _forward(tape, x, weight, y, Outputs(x.rows, (weight.shape[0],)), None, None, chunk_start, 0)


def product_backward(
    tape: Tape, dy: Tensor, weight: Weight | JoinedWeight, dx: Tensor, accumulate: bool = False,
    chunk_start: int = NO_CHUNK,
) -> None:  # fmt: skip
    """dx (rows, in) (=|+=) dy W."""
    _backward(tape, dy, weight, dx, Outputs(dy.rows, (weight.shape[0],)), None, None, accumulate, chunk_start, 0)


def _forward(
    tape: Tape, x: Tensor, weight: Weight | JoinedWeight, y: Tensor, outputs: Outputs, u: Tensor | None,
    b: Tensor | None, chunk_start: int, first_row: int, residual: Tensor | None = None,
) -> None:  # fmt: skip
    """Each piece of the weight makes its layers' results, or its columns of a layer that is cut."""
    inner = weight.shape[1]
    if x.shape[-1] != inner:
        raise ValueError(f"{x.label} is {x.shape}; {weight.pieces[0].tensor.label} takes (rows, {inner})")
    mode = REPLACE if residual is None else ADD_RESIDUAL
    for run in runs(weight, outputs.widths, first_row):
        part, own_y = outputs.some(y, run.first, run.last)
        share, size = None, part.bases[-1]
        if u is not None and b is not None:
            share = _Share(u, b, b.shape[-1], run.first * b.shape[-1], outputs.starts[run.first] + run.begin)
        call = _Call(
            tape, "forward", "x", x, run.weight, part.of_run(run), share, run.count, inner, size, chunk_start, run.row,
            residual, *_columns(part, run),
        )  # fmt: skip
        call.forward(own_y, mode)


def _backward(
    tape: Tape, dy: Tensor, weight: Weight | JoinedWeight, dx: Tensor, outputs: Outputs, du: Tensor | None,
    a: Tensor | None, accumulate: bool, chunk_start: int, first_row: int,
) -> None:  # fmt: skip
    """Each piece of the weight adds its share to dx."""
    share = None
    if du is not None and a is not None:
        share = _Share(du, a, du.shape[-1] // len(outputs.widths))
    most_rows = None if tape.device.use_workgroup_memory else LOOP_TERMS
    for run in runs(weight, outputs.widths, first_row, most_rows):
        part, own_dy = outputs.some(dy, run.first, run.last)
        call = _Call(
            tape, "backward", "dy", own_dy, run.weight, part.of_run(run), share, weight.shape[1], run.count, dx.size,
            chunk_start, run.row, None, *_columns(part, run),
        )  # fmt: skip
        call.tiled(dx, ADD if accumulate else REPLACE)
        accumulate, share = True, None  # the first one has brought the whole adapter's share


def _columns(outputs: Outputs, run: Run) -> tuple[int, int]:
    """Return where a cut layer's outputs begin in a row and how long that is; zeros for whole layers."""
    return (run.begin, outputs.widths[0]) if run.is_cut else (0, 0)


@dataclass(frozen=True)
class _Share:
    """What the adapter adds to a product: `rank` columns of `lora_in` for each layer, and the other factor.

    Those of the product's first layer are the columns from `rank0` and, in forward, the rows of B from `row0` on.
    """

    lora_in: Tensor  # u, or du
    lora_weight: Tensor  # B, or A
    rank: int
    rank0: int = 0
    row0: int = 0


@dataclass(frozen=True)
class _Call:
    """One product, forward or backward: everything but which kernel does it and where the result goes."""

    tape: Tape
    entry: str
    left_name: str
    left: Tensor  # x, or dy
    weight: Weight
    outputs: Outputs
    share: _Share | None
    columns: int  # of the result
    inner: int  # terms of its sums
    y_size: int  # floats of the result
    chunk_start: int
    first_row: int
    residual: Tensor | None = None
    base0: int = 0  # where its outputs begin in a row of `stride`, where they are some of a row's (stride 0: all)
    stride: int = 0

    def forward(self, y: Tensor, accumulate: int) -> None:
        """Make the result, a single row by a kernel of its own."""
        if self.left.rows == 1 and self.chunk_start == NO_CHUNK:
            lanes = (("LANES", self.tape.device.lanes(64)),)
            step = kernel("linear/row", "forward", lanes, (self.weight.loader,))
            self.dispatch(step, y, grid_1d(ceil_div(self.columns, 4)), self.inner, accumulate)
        else:
            self.tiled(y, accumulate)

    def tiled(self, y: Tensor, accumulate: int) -> None:
        """Make the result by the device's tiled kernel; a very long sum in parts that are added afterwards."""
        tape, loader, rows, columns = self.tape, (self.weight.loader,), self.outputs.rows, self.columns
        if not tape.device.use_workgroup_memory:
            grid: tuple[int, ...] = (ceil_div(columns, 64), ceil_div(rows, 64))
            self.dispatch(kernel("linear/plain", self.entry, includes=loader), y, grid, self.inner, accumulate)
            return
        room = tape.device.limits.max_workgroup_storage_size
        form = tiling(rows, columns, self.inner, room, self.entry == "forward")
        if self.stride and self.entry == "forward":  # parts would be added up over all of y
            form = replace(form, parts=1)
        lanes = min(128, max(64, form.tile_rows))
        constants = (("TILE_ROWS", form.tile_rows), ("LANES", lanes), ("SLICES", form.slices))
        access = "linear/scalars" if self._is_odd() else "linear/vectors"
        step = kernel("linear/tiled", self.entry, constants, (access, *loader))
        grid = (ceil_div(columns, 64), ceil_div(rows, form.tile_rows), form.parts)
        if form.parts == 1:
            self.dispatch(step, y, grid, self.inner, accumulate)
            return
        partial = tape.tensor((form.parts, self.y_size), f"{y.label}.parts")
        self.dispatch(step, partial, grid, form.part(self.inner), REPLACE)
        params = {"n": self.y_size, "parts": form.parts, "columns": columns, "accumulate": accumulate,
                  "chunk_start": self.chunk_start}  # fmt: skip
        assert tape.step is not None
        tensors = {"step": tape.step, "a": partial, "y": y, "residual": self.residual or partial}
        grid = grid_1d(ceil_div(self.y_size, 256))
        tape.dispatch(kernel("linear/sum_parts", "add"), tensors, params, grid, partial.size)

    def _is_odd(self) -> bool:
        """Say whether some row of outputs or of ranks begins where no vector of four does."""
        rank = self.share.rank if self.share else 0
        return any(width % 4 for width in (*self.outputs.widths, rank, self.base0, self.stride))

    def dispatch(self, step: Kernel, y: Tensor, grid: tuple[int, ...], part: int, accumulate: int) -> None:
        """Record one kernel call that writes y."""
        outputs, share = self.outputs, self.share
        outs = sum(outputs.widths)
        starts = [*outputs.starts[1:-1], outs, outs]
        bases = [*outputs.bases[1:-1], 0, 0]
        rank = share.rank if share else 0
        params = {
            "rows": outputs.rows, "columns": self.columns, "inner": self.inner, "outs": outs, "rank": rank,
            "rank_total": share.lora_in.shape[-1] if share else 0, "accumulate": accumulate,
            "chunk_start": self.chunk_start, "part": part, "y_size": self.y_size, "weight_row0": self.first_row,
            "rank0": share.rank0 if share else 0, "lora_row0": share.row0 if share else 0,
            "base0": self.base0, "stride": self.stride,
            "start1": starts[0], "start2": starts[1], "base1": bases[0], "base2": bases[1],
        }  # fmt: skip
        tape = self.tape
        assert tape.step is not None
        # Without an adapter or a residual something has to be bound in its place, and is never read.
        tensors = {"step": tape.step, "weight": self.weight.tensor, self.left_name: self.left, "y": y,
                   "lora_in": share.lora_in if share else self.left,
                   "lora_weight": share.lora_weight if share else self.left,
                   "residual": self.residual or self.left}  # fmt: skip
        tape.dispatch(step, tensors, params, grid, 2.0 * outputs.rows * self.columns * (self.inner + rank))
