"""Token embedding: a row of a frozen table for each token."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, grid_1d
from .tape import Tape
from .weight import JoinedWeight, Weight


def embedding(tape: Tape, tokens: Tensor, table: Weight | JoinedWeight, scale: float = 1.0) -> Tensor:
    """Return x (rows, C), `scale` times the table's rows, for tokens (rows), u32 below V.

    The table is frozen, so there is no backward. Each piece of it writes the rows of its own tokens.
    """
    x = tape.tensor((tokens.size, table.shape[1]), "embedding")
    first = 0
    for part in table.pieces:
        params = {
            "rows": tokens.size, "quads_per_row": table.shape[1] // 4, "scale": scale, "first": first,
            "count": part.shape[0],
        }  # fmt: skip
        tensors = {"weight": part.tensor, "tokens": tokens, "x": x}
        tape.dispatch(kernel("embedding", "forward", includes=(part.loader,)), tensors, params, grid_1d(tokens.size))
        first += part.shape[0]
    return x
