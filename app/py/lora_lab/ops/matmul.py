"""Plain matrix products between activations and adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..gpu.kernel import Constants, kernel
from ..gpu.plan import Tensor, ceil_div
from .tape import Tape

MAX_PRODUCTS = 4  # of one dispatch, as in matmul/bindings.wgsl
LOW = 64  # rows or columns of a result; above, small tiles would read the factors too often
FEW_WORKGROUPS = 256  # up to so many, a GPU has room for twice the invocations in each


@dataclass(frozen=True)
class Matrix:
    """Where a matrix lies in a tensor, in floats: its first element, and the steps from row to row and along a row."""

    offset: int
    row: int
    column: int


@dataclass(frozen=True)
class Product:
    """One product of a batch: c (m, n) of a (m, k) and b (k, n). `pair` says which of the given factors it takes."""

    m: int
    n: int
    k: int
    a: Matrix
    b: Matrix
    c: Matrix
    pair: int = 0

    def params(self) -> dict[str, int]:
        places = {f"{name}_{key}": value for name in "abc" for key, value in asdict(getattr(self, name)).items()}
        return {"m": self.m, "n": self.n, "k": self.k, **places, "second": self.pair}


_NOTHING = Product(0, 0, 0, Matrix(0, 0, 0), Matrix(0, 0, 0), Matrix(0, 0, 0))


def matmul(
    tape: Tape, a: Tensor, b: Tensor, *, transpose_a: bool = False, transpose_b: bool = False, alpha: float = 1.0,
    use_strength: bool = False, out: Tensor | None = None, accumulate: bool = False, label: str = "matmul",
) -> Tensor:  # fmt: skip
    """Return c (m, n) (=|+=) alpha * op(a) op(b), with op a transposition where asked.

    `use_strength` multiplies alpha by step.strength. Not differentiated: linear's backward is written out.
    """
    m, k = (a.shape[-1], a.rows) if transpose_a else (a.rows, a.shape[-1])
    k_b, n = (b.shape[-1], b.rows) if transpose_b else (b.rows, b.shape[-1])
    if k != k_b:
        raise ValueError(f"{a.label} {a.shape} and {b.label} {b.shape} do not multiply: {k} against {k_b}")
    c = out or tape.tensor((m, n), label)

    def matrix(tensor: Tensor, transpose: bool) -> Matrix:
        width = tensor.shape[-1]
        return Matrix(0, 1, width) if transpose else Matrix(0, width, 1)

    product = Product(m, n, k, matrix(a, transpose_a), matrix(b, transpose_b), Matrix(0, n, 1))
    products(tape, [(a, b)], c, [product], alpha, use_strength, accumulate)
    return c


def products(
    tape: Tape, factors: Sequence[tuple[Tensor, Tensor]], c: Tensor, batch: Sequence[Product], alpha: float,
    use_strength: bool, accumulate: bool,
) -> None:  # fmt: skip
    """c (=|+=) alpha * a b for every product of a batch (at most four), in one dispatch over one or two pairs."""
    params: dict[str, int | float] = {
        "alpha": alpha, "accumulate": int(accumulate), "use_strength": int(use_strength),
    }  # fmt: skip
    for place in range(MAX_PRODUCTS):
        values = (batch[place] if place < len(batch) else _NOTHING).params()
        params |= {f"{name}{place}": value for name, value in values.items()}
    assert tape.step is not None
    (a, b), (a2, b2) = factors[0], factors[-1]
    form = _split(batch) if tape.device.use_workgroup_memory else _Form("matmul/whole", 32, 32)
    grid = (
        ceil_div(max(p.n for p in batch), form.tile_columns), ceil_div(max(p.m for p in batch), form.tile_rows),
        len(batch),
    )  # fmt: skip
    flops = sum(2.0 * p.m * p.n * p.k for p in batch)
    tensors = {"step": tape.step, "a": a, "b": b, "c": c, "a2": a2, "b2": b2}
    tape.dispatch(kernel(form.name, "multiply", form.constants, (form.access,)), tensors, params, grid, flops)


@dataclass(frozen=True)
class _Form:
    """Which kernel makes a batch of products, and the tile that one of its workgroups makes."""

    name: str
    tile_rows: int
    tile_columns: int
    constants: Constants = ()
    access: str = "matmul/scalars"


def _split(batch: Sequence[Product]) -> _Form:
    """Return how a GPU makes the batch: small tiles, the long sum split among invocations (see matmul/split.wgsl).

    The tiles and the numbers of slices are those that took least on an H100, see docs/performance.md.
    """
    by_k = _contiguous(batch)
    strided = by_k is None or not any(by_k)
    if max(min(p.m, p.n) for p in batch) > LOW:
        tile_rows, tile_columns, slices = 16, 16, 16
    elif strided:
        tile_rows, tile_columns, slices = 16, 8, 32
    else:
        tile_rows, tile_columns, slices = 8, 16, 16
        if sum(ceil_div(p.m, tile_rows) * ceil_div(p.n, tile_columns) for p in batch) <= FEW_WORKGROUPS:
            slices = 32
    constants: Constants = (
        ("TILE_ROWS", tile_rows), ("TILE_COLUMNS", tile_columns), ("SLICES", slices), ("STRIDED", strided),
        ("ALONG", by_k is not None and all(by_k)), ("PAIRS", any(p.pair for p in batch)),
    )  # fmt: skip
    if by_k is None:
        return _Form("matmul/split", tile_rows, tile_columns, constants)
    constants += (("A_BY_K", by_k[0]), ("B_BY_K", by_k[1]))
    return _Form("matmul/split", tile_rows, tile_columns, constants, "matmul/vectors")


def _contiguous(batch: Sequence[Product]) -> tuple[bool, bool] | None:
    """Return whether every a, and every b, is contiguous along the sum (else across it), in whole vectors of four.

    None where they are not.
    """

    def lies(matrix: Matrix, along: int, across: int, length: int) -> bool:
        return along == 1 and all(number % 4 == 0 for number in (matrix.offset, across, length))

    a_by_k = all(lies(p.a, p.a.column, p.a.row, p.k) for p in batch)
    b_by_k = all(lies(p.b, p.b.row, p.b.column, p.k) for p in batch)
    a_by_m = all(lies(p.a, p.a.row, p.a.column, p.m) for p in batch)
    b_by_n = all(lies(p.b, p.b.column, p.b.row, p.n) for p in batch)
    return (a_by_k, b_by_k) if (a_by_k or a_by_m) and (b_by_k or b_by_n) else None
