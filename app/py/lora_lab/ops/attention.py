"""Causal attention with grouped KV heads, over the sequence itself or over a cache."""

from __future__ import annotations

from ..gpu.device import Device
from ..gpu.kernel import Constants, kernel
from ..gpu.plan import Tensor, ceil_div, grid_1d
from .tape import Tape

OWNERS = 64  # queries, or keys, of a workgroup on a GPU


def _constants(device: Device, head_dim: int) -> Constants:
    """HEAD_QUADS, OWNERS, and as many keys a tile as workgroup memory holds (16 at D = 64 in the 16 KiB that all grant)."""
    tile = 32
    # Two tiles of vectors, and backward's 12 bytes of statistics for each of a tile's queries.
    while tile > 1 and tile * (8 * head_dim + 12) + 16 > device.limits.max_workgroup_storage_size:
        tile //= 2
    return (("HEAD_QUADS", head_dim // 4), ("TILE", tile), ("OWNERS", device.lanes(OWNERS)))


def attention(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int, heads: int, kv_heads: int,
    cached: bool = False,
) -> Tensor:  # fmt: skip
    """Return (rows, H * D). q: (B * T, H * D) with T = `length`; positions: (B * T).

    k, v: (B * T, Hkv * D), or the caches (any length, Hkv * D) when `cached`: then query t stands at step.past + t.
    """
    head_dim = q.shape[-1] // heads
    batch = q.rows // length
    out = tape.tensor(q.shape, "attention", q.requires_grad or k.requires_grad or v.requires_grad)
    lse = tape.tensor((q.rows, heads), "attention.lse")
    scale = head_dim**-0.5
    params = {"length": length, "heads": heads, "kv_heads": kv_heads, "scale": scale, "cached": int(cached)}
    assert tape.step is not None
    tensors = {"step": tape.step, "q": q, "k": k, "v": v, "positions": positions, "out": out, "lse": lse}
    grid = (ceil_div(length, tape.device.lanes(OWNERS)), heads, batch)
    flops = 2.0 * batch * length * length * q.shape[-1]
    tape.dispatch(kernel("attention", "forward", _constants(tape.device, head_dim)), tensors, params, grid, flops)
    tape.on_backward(
        out, lambda dout: attention_backward(tape, dout, q, k, v, positions, out, lse, length, heads, kv_heads)
    )
    return out


def attention_backward(
    tape: Tape, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, out: Tensor, lse: Tensor,
    length: int, heads: int, kv_heads: int,
) -> None:  # fmt: skip
    """Give q (rows, H * D), k and v (rows, Hkv * D) their gradients. None of them may have one yet."""
    head_dim = q.shape[-1] // heads
    batch = q.rows // length
    constants = _constants(tape.device, head_dim)
    params = {"rows": q.rows, "length": length, "heads": heads, "kv_heads": kv_heads, "scale": head_dim**-0.5}
    flops = 2.0 * batch * length * length * q.shape[-1]

    delta = tape.tensor(lse.shape, "attention.delta")
    tensors = {"dout": dout, "out": out, "delta_out": delta}
    grid = grid_1d(ceil_div(lse.size, 64))
    tape.dispatch(kernel("attention_backward", "row_delta", constants), tensors, params, grid, 2.0 * q.size)

    saved = {"q": q, "k": k, "v": v, "positions": positions, "lse": lse, "dout": dout, "delta": delta}
    if q.requires_grad:
        dq = tape.tensor(q.shape, f"d.{q.label}")
        grid = (ceil_div(length, tape.device.lanes(OWNERS)), heads, batch)
        tape.dispatch(kernel("attention_backward", "backward_q", constants), saved | {"dq": dq}, params, grid, 1.5 * flops)
        tape.give_grad(q, dq)
    if k.requires_grad or v.requires_grad:
        dk, dv = tape.tensor(k.shape, f"d.{k.label}"), tape.tensor(v.shape, f"d.{v.label}")
        grid = (ceil_div(length, tape.device.lanes(OWNERS)), kv_heads, batch)
        tensors = saved | {"dk": dk, "dv": dv}
        tape.dispatch(kernel("attention_backward", "backward_kv", constants), tensors, params, grid, 2.5 * flops)
        tape.give_grad(k, dk)
        tape.give_grad(v, dv)


def attention_decode(tape: Tape, q: Tensor, k_cache: Tensor, v_cache: Tensor, heads: int, kv_heads: int) -> Tensor:
    """Return (1, H * D) for one query (1, H * D) over rows 0 .. step.past of the caches (length, Hkv * D)."""
    head_dim = q.shape[-1] // heads
    out = tape.tensor(q.shape, "attention")
    params = {"heads": heads, "kv_heads": kv_heads, "scale": head_dim**-0.5}
    assert tape.step is not None
    tensors = {"step": tape.step, "q": q, "k": k_cache, "v": v_cache, "out": out}
    lanes = 256 if tape.device.use_workgroup_memory else 64
    constants = (("HEAD_QUADS", head_dim // 4), ("LANES", lanes))
    flops = 4.0 * k_cache.shape[0] * q.shape[-1]
    tape.dispatch(kernel("attention_decode", "forward", constants), tensors, params, (heads,), flops)
    return out
