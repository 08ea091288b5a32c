"""Plain matrix products between activations and adapters."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, ceil_div
from .tape import Tape


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
    params = {
        "m": m, "n": n, "k": k,
        "a_row": 1 if transpose_a else a.shape[-1], "a_column": a.shape[-1] if transpose_a else 1,
        "b_row": 1 if transpose_b else b.shape[-1], "b_column": b.shape[-1] if transpose_b else 1,
        "alpha": alpha, "accumulate": int(accumulate), "use_strength": int(use_strength),
    }  # fmt: skip
    assert tape.step is not None
    tensors = {"step": tape.step, "a": a, "b": b, "c": c}
    # On a GPU the long sum is split among invocations; elsewhere a tile of 32 x 32 needs no barrier.
    name, tile = ("matmul_split", 16) if tape.device.use_workgroup_memory else ("matmul", 32)
    tape.dispatch(kernel(name, "multiply"), tensors, params, (ceil_div(n, tile), ceil_div(m, tile)), 2.0 * m * n * k)
    return c
