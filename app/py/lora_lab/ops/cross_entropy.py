"""The loss over the trained tokens only, and the accuracy, in chunks of rows: the full logits never exist."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d
from .elementwise import copy, fill
from .linear import product, product_backward
from .rows import gather_rows, scatter_rows
from .tape import Tape
from .weight import JoinedWeight, Weight

CHUNK_ROWS = 128, 512  # of logits at a time, at least and at most
CHUNKS = 8  # that rows in between are cut into


def chunk_rows(max_rows: int) -> int:
    """Return how many rows of logits exist at a time when up to `max_rows` are trained.

    Few keep the logits small beside everything else; many fill a GPU better and take fewer dispatches.
    """
    least, most = CHUNK_ROWS
    chunk = least
    while chunk < most and chunk * CHUNKS < max_rows:
        chunk *= 2
    return chunk


def cap_logits(trace: Trace, logits: Tensor, cap: float) -> None:
    """logits = cap * tanh(logits / cap), in place."""
    grid = grid_1d(ceil_div(logits.size, 256))
    step = kernel("cap_logits", "forward", (("CAP", float(cap)),))
    trace.dispatch(step, {"logits": logits}, {"n": logits.size}, grid, 8.0 * logits.size)


def _uncap_gradient(trace: Trace, dlogits: Tensor, kept: Tensor, cap: float) -> None:
    grid = grid_1d(ceil_div(dlogits.size, 256))
    step = kernel("cap_logits", "backward", (("CAP", float(cap)),))
    trace.dispatch(step, {"logits": dlogits, "kept": kept}, {"n": dlogits.size}, grid, 3.0 * dlogits.size)


def cross_entropy(
    tape: Tape, x: Tensor, lm_head: Weight | JoinedWeight, rows: Tensor, targets: Tensor, total: Tensor,
    cap: float = 0.0, hits: Tensor | None = None,
) -> None:  # fmt: skip
    """Add the mean loss of the trained rows to `total` (1) and give x (rows, C) its gradient.

    With `hits` (1), u32, count there in how many of the trained rows the target is what the model holds likeliest.

    `rows` and `targets` (u32) hold step.loss_rows entries, the rest is ignored: which rows of x are trained, and the
    token that follows each. Every term is multiplied by step.inv_tokens, so micro-batches add up to the mean over all
    trained tokens of an accumulated batch. The output layer is frozen. Logits are kept within +- `cap`; 0: not.
    """
    max_rows = rows.size
    # A chunk has about as many rows as a large GPU has units: each takes as many invocations as it may.
    constants = (("LANES", tape.device.lanes(min(512, tape.device.limits.max_invocations_per_workgroup))),)
    losses = tape.tensor((max_rows,), "losses")
    counted = tape.tensor((max_rows,), "hits") if hits is not None else None
    target = tape.grad_target(x) if tape.grad_enabled else None
    if target is not None:
        fill(tape, target[0], 0.0)  # rows that are not trained get no gradient
    assert tape.step is not None
    most = tape.device.limits.max_storage_buffer_binding_size // (4 * lm_head.shape[0])
    chunk = min(chunk_rows(max_rows), max(1, most))  # of a vocabulary of 262,144 and a binding of 128 MiB, 128 rows
    for start in range(0, max_rows, chunk):
        count = min(chunk, max_rows - start)
        hidden = tape.tensor((count, x.shape[-1]), "trained rows")
        gather_rows(tape, x, rows, hidden, start)
        logits = tape.tensor((count, lm_head.shape[0]), "logits")
        product(tape, hidden, lm_head, logits, chunk_start=start)
        kept = None
        if cap:
            cap_logits(tape, logits, cap)
            if target is not None:
                kept = tape.tensor(logits.shape, "capped logits")
                copy(tape, logits, kept)
        params = {"rows": count, "columns": lm_head.shape[0], "chunk_start": start}
        if counted is not None:  # before the gradient takes the logits' place
            lists = {"step": tape.step, "logits": logits, "targets": targets, "hits": counted}
            tape.dispatch(kernel("accuracy", "hit", constants), lists, params, (count,), 2.0 * logits.size)
        tensors = {"step": tape.step, "logits": logits, "targets": targets, "losses": losses}
        tape.dispatch(
            kernel("cross_entropy", "forward_backward", constants), tensors, params, (count,), 10.0 * logits.size
        )
        if target is not None:
            if kept is not None:
                _uncap_gradient(tape, logits, kept, cap)
            dhidden = tape.tensor(hidden.shape, "d.trained rows")
            product_backward(tape, logits, lm_head, dhidden, chunk_start=start)
            scatter_rows(tape, dhidden, rows, target[0], start)
    params = {"rows": max_rows, "columns": 1, "chunk_start": 0}
    tensors = {"step": tape.step, "losses_in": losses, "losses_total": total}
    tape.dispatch(kernel("cross_entropy", "total", constants), tensors, params, (1,), max_rows)
    if counted is not None and hits is not None:
        tensors = {"step": tape.step, "hits_in": counted, "hits_total": hits}
        tape.dispatch(kernel("accuracy", "total", constants), tensors, params, (1,), max_rows)
