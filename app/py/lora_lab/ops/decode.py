"""One new token through a layer in five dispatches, with or without an adapter (wgsl/decode.wgsl says how).

The same results as rmsnorm, linear, rope, attention_decode, swiglu and add one after another, for one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..gpu.kernel import Kernel, kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d
from .linear import LoraPair
from .weight import Weight

NONE = 0xFFFFFFFF
COLUMNS = 8  # results of a workgroup, as in decode.wgsl
LANES = 128
SPLITS = 8  # of the keys: enough workgroups for a GPU at 9 heads, and no more work when there are few keys
MAX_UNITS = 4 * LANES  # of u: every invocation adds up parts of four of them at most


@dataclass(frozen=True, eq=False)
class AdapterPlaces:
    """Where the LoRA matrices of layers that share an input lie in the adapter's flat buffer, in floats.

    `a` and `b` have one place a layer, NONE for a layer without LoRA. Without any, `rank` is 0.
    """

    rank: int = 0
    scale: float = 0.0
    a: tuple[int, ...] = ()
    b: tuple[int, ...] = ()

    @property
    def units(self) -> int:
        """The length of u: rank numbers for every layer, used or not, filled up to whole vectors of four."""
        return ceil_div(self.rank * len(self.a), 4) * 4

    @classmethod
    def of(cls, widths: Sequence[int], pairs: Sequence[LoraPair | None]) -> AdapterPlaces:
        """Return the places of `pairs`: one for every layer, or a single one that stacks all of them."""
        known = [pair for pair in pairs if pair is not None]
        if not known:
            return cls()
        rank, scale = known[0].rank, known[0].scale
        if len(pairs) == len(widths):
            a = [NONE if pair is None else pair.a.offset // 4 for pair in pairs]
            b = [NONE if pair is None else pair.b.offset // 4 for pair in pairs]
            return cls(rank, scale, tuple(a), tuple(b))
        inner = known[0].a.shape[-1]
        a = [known[0].a.offset // 4 + index * rank * inner for index in range(len(widths))]
        b = [known[0].b.offset // 4 + sum(widths[:index]) * rank for index in range(len(widths))]
        return cls(rank, scale, tuple(a), tuple(b))


NO_ADAPTER = AdapterPlaces()


@dataclass(frozen=True, eq=False)
class Scratch:
    """What every dispatch of a decode shares: the adapter's flat buffer, and the parts of every u."""

    trace: Trace
    adapter: Tensor  # anything that is never written where there is none
    parts: Tensor
    region: int  # floats of the largest set of parts: one set is written while another is read
    units: int
    heads: int
    kv_heads: int
    head_dim: int

    def kernel(self, entry: str, weight: Weight, attention: bool = False) -> Kernel:
        constants = (
            ("LANES", LANES), ("UNITS", max(1, self.units)), ("ATTENTION", attention), ("SPLITS", SPLITS),
            ("SPLIT_WEIGHTS", SPLITS * self.heads if attention else 1), ("HEAD_QUADS", self.head_dim // 4),
        )  # fmt: skip
        return kernel("decode", entry, constants, (weight.loader,))

    def tensors(self, **more: Tensor) -> dict[str, Tensor]:
        assert self.trace.step is not None
        return {"step": self.trace.step, **more, "adapter": self.adapter, "parts": self.parts}


@dataclass(frozen=True, eq=False)
class Half:
    """A row of activations and where its parts of the coming layers' u lie: what goes from dispatch to dispatch."""

    x: Tensor
    parts_at: int
    num_parts: int


def part_floats(columns: int, units: int) -> int:
    """Return how many floats the parts of `units` take that makers of `columns` channels leave."""
    return ceil_div(columns, COLUMNS) * units


def _params(
    scratch: Scratch, columns: int, inner: int, eps: float, widths: Sequence[int], here: AdapterPlaces,
    given: Half | None, coming: AdapterPlaces, parts_out: int, next_norm: bool,
) -> dict[str, int | float]:  # fmt: skip
    starts = [sum(widths[:index]) if index < len(widths) else NONE for index in (1, 2)]
    a = [*coming.a, NONE, NONE, NONE]
    b = [*here.b, NONE, NONE, NONE]
    return {
        "columns": columns, "inner": inner, "eps": eps, "rank": here.rank, "units": here.units, "scale": here.scale,
        "parts_in": given.parts_at if given else 0, "num_parts": given.num_parts if given else 0,
        "start1": starts[0], "start2": starts[1], "b0": b[0], "b1": b[1], "b2": b[2],
        "next_rank": coming.rank, "next_layers": len(coming.a), "next_units": coming.units, "parts_out": parts_out,
        "a0": a[0], "a1": a[1], "a2": a[2], "next_norm": int(next_norm), "heads": scratch.heads,
    }  # fmt: skip


def _other_region(scratch: Scratch, given: Half) -> int:
    return scratch.region if given.parts_at == 0 else 0


def embed(scratch: Scratch, token: Tensor, table: Weight, gain: Tensor, coming: AdapterPlaces) -> Half:
    """Return the embedding (C) of token (1), with its parts for `coming`, whose input is normed with gain (C)."""
    columns = table.shape[1]
    y = scratch.trace.tensor((1, columns), "embedding")
    params = _params(scratch, columns, columns, 0.0, (columns,), NO_ADAPTER, None, coming, 0, True)
    groups = ceil_div(columns, COLUMNS)
    tensors = scratch.tensors(weight=table.tensor, gain=gain, y=y, token=token)
    del tensors["step"]
    scratch.trace.dispatch(scratch.kernel("embed", table), tensors, params, (groups,))
    return Half(y, 0, groups)


def norm_linear(
    scratch: Scratch, given: Half, gain: Tensor, eps: float, weight: Weight, widths: Sequence[int], here: AdapterPlaces
) -> Tensor:
    """Return (1, sum of widths): the layers' results, one behind another, for rmsnorm(x) as their input."""
    columns, inner = weight.shape
    y = scratch.trace.tensor((1, columns), "norm_linear")
    params = _params(scratch, columns, inner, eps, widths, here, given, NO_ADAPTER, 0, False)
    tensors = scratch.tensors(weight=weight.tensor, x=given.x, gain=gain, y=y)
    flops = 2.0 * columns * (inner + here.rank)
    grid = grid_1d(ceil_div(columns, COLUMNS))
    scratch.trace.dispatch(scratch.kernel("norm_linear", weight), tensors, params, grid, flops)
    return y


def norm_swiglu(
    scratch: Scratch, given: Half, gain: Tensor, eps: float, weight: Weight, here: AdapterPlaces, coming: AdapterPlaces
) -> Half:
    """Return h (1, I) = silu(gate) * up of rmsnorm(x), with its parts for down. weight: gate's rows, then up's."""
    channels, inner = weight.shape[0] // 2, weight.shape[1]
    y = scratch.trace.tensor((1, channels), "swiglu")
    parts_out = _other_region(scratch, given)
    params = _params(scratch, channels, inner, eps, (channels,), here, given, coming, parts_out, False)
    tensors = scratch.tensors(weight=weight.tensor, x=given.x, gain=gain, y=y)
    groups = ceil_div(channels, COLUMNS)
    flops = 4.0 * channels * (inner + here.rank)
    scratch.trace.dispatch(scratch.kernel("norm_swiglu", weight), tensors, params, (groups,), flops)
    return Half(y, parts_out, groups)


def add_linear(
    scratch: Scratch, given: Half, residual: Tensor, weight: Weight, here: AdapterPlaces, next_gain: Tensor,
    coming: AdapterPlaces, attention: bool = False,
) -> Half:  # fmt: skip
    """Return residual + linear(h) (1, C), with its parts for `coming`, whose input is normed with next_gain (C).

    With `attention`, h is what `attention` below returned.
    """
    columns, inner = weight.shape
    y = scratch.trace.tensor((1, columns), "residual")
    parts_out = _other_region(scratch, given)
    params = _params(scratch, columns, inner, 0.0, (columns,), here, given, coming, parts_out, True)
    tensors = scratch.tensors(weight=weight.tensor, x=given.x, residual=residual, gain=next_gain, y=y)
    groups = ceil_div(columns, COLUMNS)
    flops = 2.0 * columns * (inner + here.rank)
    scratch.trace.dispatch(scratch.kernel("add_linear", weight, attention), tensors, params, (groups,), flops)
    return Half(y, parts_out, groups)


def attention(
    scratch: Scratch, qkv: Tensor, table: Tensor, k_cache: Tensor, v_cache: Tensor, coming: AdapterPlaces
) -> Half:
    """Turn q and k of qkv, append k and v to the caches (length, Hkv * D) and return every head's sums in SPLITS parts.

    Only add_linear(..., attention=True) understands the result. `coming` is the adapter of o.
    """
    heads, head_dim = scratch.heads, scratch.head_dim
    out = scratch.trace.tensor((SPLITS, heads, head_dim + 4), "attention")
    params = {
        "heads": heads, "kv_heads": scratch.kv_heads, "scale": head_dim**-0.5, "next_rank": coming.rank,
        "next_units": coming.units, "parts_out": 0, "a0": coming.a[0] if coming.a else 0,
    }  # fmt: skip
    tensors = scratch.tensors(qkv=qkv, table=table, k=k_cache, v=v_cache, out=out)
    constants = (("HEAD_QUADS", head_dim // 4), ("LANES", LANES), ("SPLITS", SPLITS))
    flops = 4.0 * k_cache.shape[0] * heads * head_dim
    step = kernel("decode_attention", "forward", constants)
    scratch.trace.dispatch(step, tensors, params, (heads, SPLITS), flops)
    return Half(out, 0, SPLITS * heads)
