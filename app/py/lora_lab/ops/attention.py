"""Causal attention with grouped KV heads, over the sequence itself or over a cache."""

from __future__ import annotations

from dataclasses import dataclass

from ..gpu.device import Device
from ..gpu.kernel import Constants, kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape

OWNERS = 4  # queries, or keys, of a workgroup where workgroup memory is slow
TILES = (32, 16, 8)  # queries and keys of a tile on a GPU: the largest that fits its workgroup memory


NO_WINDOW = 0xFFFFFFFF


@dataclass(frozen=True)
class Scores:
    """How the scores of queries and keys are made, and which keys a query sees."""

    scale: float | None = None  # of q . k; None: D^-0.5
    window: int | None = None  # how many keys a query sees, itself among them; None: all before it
    softcap: float = 0.0  # scores are kept within +- this (Gemma 2); 0: they are not

    def params(self, head_dim: int) -> dict[str, int | float]:
        """Return what the kernels are told of it."""
        scale = head_dim**-0.5 if self.scale is None else self.scale
        return {"scale": scale, "window": NO_WINDOW if self.window is None else self.window}

    def seen(self, length: int) -> int:
        """Return the most keys that a query of a sequence of `length` sees."""
        return length if self.window is None else min(length, self.window)


PLAIN_SCORES = Scores()


@dataclass(frozen=True)
class _Form:
    """Which kernels do it on this device, their constants, and how many queries or keys a workgroup takes."""

    forward: str
    backward: str
    constants: Constants
    owners: int
    shares: int  # of a product dout . v in backward: sums of their own


def _form(device: Device, head_dim: int, scores: Scores) -> _Form:
    cap = ("CAP", float(scores.softcap))
    room = device.limits.max_workgroup_storage_size
    quads = ("HEAD_QUADS", head_dim // 4)
    tile = next((t for t in TILES if _tiled_bytes(t, head_dim) <= room), 0)
    if device.use_workgroup_memory and tile and tile * tile // 4 <= device.limits.max_invocations_per_workgroup:
        return _Form("attention/tiled", "attention/tiled_backward", (quads, cap, ("TILE", tile)), tile, 2)
    tile = 32
    # Two tiles of vectors, and backward's 12 bytes of statistics for each of a tile's queries.
    while tile > 1 and tile * (8 * head_dim + 12) + 16 > room:
        tile //= 2
    constants = (quads, cap, ("TILE", tile), ("OWNERS", OWNERS))
    return _Form("attention/plain", "attention/plain_backward", constants, OWNERS, 1)


def _tiled_bytes(tile: int, head_dim: int) -> int:
    """Return the workgroup memory of the tiled kernels: tiles of vectors and of scores, each row one vector longer."""
    vectors, scores = tile * (4 * head_dim + 16), 4 * tile * (tile + 4)
    forward = 3 * vectors + 4 * scores + tile * (tile + 4) + 4 * tile
    return max(forward, 4 * vectors + 2 * scores + 16 * tile)


def attention(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int, heads: int, kv_heads: int,
    cached: bool = False, longest: int | None = None, scores: Scores = PLAIN_SCORES,
) -> Tensor:  # fmt: skip
    """Return (rows, H * D). q: (B * T, H * D) with T = `length`; positions: (B * T).

    k, v: (B * T, Hkv * D), or the caches (any length, Hkv * D) when `cached`: then query t stands at step.past + t.
    `longest` is the longest segment where several share a sequence: it changes what the work is reckoned at, no result.
    """
    head_dim = q.shape[-1] // heads
    batch = q.rows // length
    out = tape.tensor(q.shape, "attention", q.requires_grad or k.requires_grad or v.requires_grad)
    lse = tape.tensor((q.rows, heads), "attention.lse")
    params = {"length": length, "heads": heads, "kv_heads": kv_heads, "cached": int(cached), **scores.params(head_dim)}
    assert tape.step is not None
    tensors = {"step": tape.step, "q": q, "k": k, "v": v, "positions": positions, "out": out, "lse": lse}
    form = _form(tape.device, head_dim, scores)
    grid = (ceil_div(length, form.owners), heads, batch)
    flops = 2.0 * batch * length * scores.seen(min(length, longest or length)) * q.shape[-1]
    tape.dispatch(kernel(form.forward, "forward", form.constants), tensors, params, grid, flops)
    tape.on_backward(
        out,
        lambda dout: attention_backward(
            tape, dout, q, k, v, positions, out, lse, length, heads, kv_heads, longest, scores
        ),
    )
    return out


def attention_backward(
    tape: Tape, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, out: Tensor, lse: Tensor,
    length: int, heads: int, kv_heads: int, longest: int | None = None, scores: Scores = PLAIN_SCORES,
) -> None:  # fmt: skip
    """Give q (rows, H * D), k and v (rows, Hkv * D) their gradients. None of them may have one yet."""
    head_dim = q.shape[-1] // heads
    batch = q.rows // length
    form = _form(tape.device, head_dim, scores)
    params = {"rows": q.rows, "length": length, "heads": heads, "kv_heads": kv_heads, **scores.params(head_dim)}
    flops = 2.0 * batch * length * scores.seen(min(length, longest or length)) * q.shape[-1]

    statistics = tape.tensor((*lse.shape, 2), "attention.statistics")
    tensors = {"dout": dout, "out": out, "lse": lse, "statistics": statistics}
    grid = grid_1d(ceil_div(lse.size, 64))
    row_delta = kernel("attention/delta", "row_delta", (("HEAD_QUADS", head_dim // 4), ("SHARES", form.shares)))
    tape.dispatch(row_delta, tensors, {"rows": q.rows, "heads": heads}, grid, 2.0 * q.size)

    saved = {"q": q, "k": k, "v": v, "positions": positions, "statistics": statistics, "dout": dout}
    if q.requires_grad:
        dq = tape.new_grad(q)
        grid = (ceil_div(length, form.owners), heads, batch)
        backward_q = kernel(form.backward, "backward_q", form.constants)
        tape.dispatch(backward_q, saved | {"dq": dq}, params, grid, 1.5 * flops)
        tape.give_grad(q, dq)
    if k.requires_grad or v.requires_grad:
        dk, dv = _backward_kv(tape, form, saved, params, batch, flops)
        tape.give_grad(k, dk)
        tape.give_grad(v, dv)


def _backward_kv(
    tape: Tape, form: _Form, saved: dict[str, Tensor], params: dict[str, int | float], batch: int, flops: float
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return (dk, dv), both (rows, Hkv * D)."""
    heads, kv_heads, length = int(params["heads"]), int(params["kv_heads"]), int(params["length"])
    backward_kv = kernel(form.backward, "backward_kv", form.constants)
    blocks = ceil_div(length, form.owners)
    k = saved["k"]
    grads = (tape.new_grad(k), tape.new_grad(saved["v"]))
    if form.backward == "attention/plain_backward":
        tensors = saved | {"dk": grads[0], "dv": grads[1]}
        tape.dispatch(backward_kv, tensors, params, (blocks, kv_heads, batch), 2.5 * flops)
        return grads[0], grads[1]
    # A workgroup for each query head, or too few would be at work; what shares a key head is added up afterwards.
    of_heads = grads
    if heads != kv_heads:
        shape = saved["q"].shape
        of_heads = (tape.tensor(shape, "d.k of heads"), tape.tensor(shape, "d.v of heads"))
    tensors = saved | {"dk_heads": of_heads[0], "dv_heads": of_heads[1]}
    tape.dispatch(backward_kv, tensors, params, (blocks, heads, batch), 2.5 * flops)
    if heads != kv_heads:
        sum_heads = kernel(form.backward, "sum_heads", form.constants)
        tensors = {"k_heads": of_heads[0], "v_heads": of_heads[1], "dk": grads[0], "dv": grads[1]}
        grid = grid_1d(ceil_div(k.size // 4, 64))
        tape.dispatch(sum_heads, tensors, params, grid, 2.0 * of_heads[0].size)
    return grads[0], grads[1]


def attention_decode(
    tape: Tape, q: Tensor, k_cache: Tensor, v_cache: Tensor, heads: int, kv_heads: int, scores: Scores = PLAIN_SCORES
) -> Tensor:
    """Return (1, H * D) for one query (1, H * D) over rows 0 .. step.past of the caches (length, Hkv * D)."""
    head_dim = q.shape[-1] // heads
    out = tape.tensor(q.shape, "attention")
    params = {"heads": heads, "kv_heads": kv_heads, **scores.params(head_dim)}
    assert tape.step is not None
    tensors = {"step": tape.step, "q": q, "k": k_cache, "v": v_cache, "out": out}
    lanes = 256 if tape.device.use_workgroup_memory else 64
    constants = (("HEAD_QUADS", head_dim // 4), ("CAP", float(scores.softcap)), ("LANES", lanes))
    flops = 4.0 * scores.seen(k_cache.shape[0]) * q.shape[-1]
    tape.dispatch(kernel("attention/one_query", "forward", constants), tensors, params, (heads,), flops)
    return out
