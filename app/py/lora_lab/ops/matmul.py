"""Plain matrix products between activations and adapters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div
from .tape import Tape

MAX_PRODUCTS = 3  # of one dispatch, as in matmul_bindings.wgsl


@dataclass(frozen=True)
class Product:
    """One product of a batch: a (m, k) of any strides. Offsets and strides count floats."""

    m: int
    k: int
    a_row: int
    a_column: int
    a_offset: int = 0
    b_offset: int = 0
    c_offset: int = 0


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
    width = a.shape[-1]
    product = Product(m, k, 1 if transpose_a else width, width if transpose_a else 1)
    b_strides = (1, b.shape[-1]) if transpose_b else (b.shape[-1], 1)
    products(tape, a, b, c, [product], n, b_strides, n, alpha, use_strength, accumulate)
    return c


def products(
    tape: Tape, a: Tensor, b: Tensor, c: Tensor, batch: list[Product], n: int, b_strides: tuple[int, int], c_row: int,
    alpha: float, use_strength: bool, accumulate: bool,
) -> None:  # fmt: skip
    """c (=|+=) alpha * a b for every product of a batch (at most three), in one dispatch; each n columns wide."""
    params: dict[str, int | float] = {
        "n": n, "b_row": b_strides[0], "b_column": b_strides[1], "c_row": c_row, "alpha": alpha,
        "accumulate": int(accumulate), "use_strength": int(use_strength),
    }  # fmt: skip
    for place in range(MAX_PRODUCTS):
        values = asdict(batch[place] if place < len(batch) else Product(0, 0, 0, 0))
        params |= {f"{name}{place}": value for name, value in values.items()}
    assert tape.step is not None
    # On a GPU the long sum is split among invocations; elsewhere a tile of 32 x 32 needs no barrier.
    name, tile = ("matmul_split", 16) if tape.device.use_workgroup_memory else ("matmul", 32)
    grid = (ceil_div(n, tile), ceil_div(max(p.m for p in batch), tile), len(batch))
    flops = 2.0 * n * sum(p.m * p.k for p in batch)
    tape.dispatch(kernel(name, "multiply"), {"step": tape.step, "a": a, "b": b, "c": c}, params, grid, flops)
