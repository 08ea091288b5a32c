"""One new token through a layer in five dispatches, with or without an adapter (wgsl/decode/layer.wgsl says how).

The same results as rmsnorm, linear, rope, attention_decode, swiglu and add one after another, for one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..gpu.kernel import Kernel, kernel
from ..gpu.plan import Tensor, Trace, ceil_div, grid_1d
from .tape import Tape
from .weight import JoinedWeight, Weight, runs

NONE = 0xFFFFFFFF
COLUMNS = 8  # results of a workgroup, as in decode/layer.wgsl; widths are multiples of it
MIN_LANES, MAX_LANES = 128, 384  # of a workgroup, for the weights
HELPERS = 128  # more of them, for the adapter
SPLITS = 8  # of the keys, as in decode/layer.wgsl: enough workgroups for a GPU, no more work when there are few keys


@dataclass(frozen=True)
class Group:
    """The LoRA of layers that share an input, in the order of decode/pack.wgsl; the empty one is none.

    Every layer has `layer_quads` vectors of units, used or not. a, b: where the packed matrices begin, in floats.
    """

    layers: int = 0
    layer_quads: int = 0
    a: int = 0
    b: int = 0

    @property
    def quads(self) -> int:
        """Vectors of units: the length of u over four."""
        return self.layers * self.layer_quads


NO_GROUP = Group()


@dataclass(frozen=True, eq=False)
class Scratch:
    """What every dispatch of a decode shares."""

    trace: Tape
    adapter: Tensor  # packed; anything that is never written where there is none
    heads: int
    kv_heads: int
    head_dim: int

    def kernel(
        self, entry: str, weight: Weight, here: Group, given: Half | None, coming: Group, attended: bool = False
    ) -> Kernel:
        """Return an entry of decode/layer.wgsl; with helpers if there is an adapter here, or one is coming."""
        helpers = HELPERS if here.quads or coming.quads else 0
        wide = 2 * COLUMNS if entry == "norm_swiglu" else COLUMNS
        quads = weight.shape[1] // 4
        lanes = self._lanes(quads, wide, helpers, 4 * coming.quads)
        num_parts = given.num_parts if given and here.quads else 1
        sharers = HELPERS // max(1, wide // COLUMNS * here.layer_quads)
        constants = (
            ("LANES", lanes), ("TRIPS", ceil_div(quads, lanes)), ("HELPERS", helpers), ("WIDE", wide),
            ("NORM", entry.startswith("norm")), ("LAYER_QUADS", here.layer_quads), ("PARTS_QUADS", here.quads),
            ("NUM_PARTS", num_parts), ("FETCHED", 8 if num_parts > 4 * sharers else 4),
            ("NEXT_UNITS", 4 * coming.quads), ("ATTENTION", attended), ("HEADS", self.heads),
            ("HEAD_QUADS", self.head_dim // 4),
        )  # fmt: skip
        return kernel("decode/layer", entry, constants, (weight.loader,))

    def _lanes(self, quads: int, wide: int, helpers: int, units: int) -> int:
        """Return how many invocations multiply the weights: one for each quad of a row, if a workgroup has them."""
        limits = self.trace.device.limits
        room = limits.max_workgroup_storage_size - 4 * wide * helpers - 32 * max(1, min(helpers, units))
        most = min(MAX_LANES, limits.max_invocations_per_workgroup - helpers, room // (4 * wide + 4)) // 32 * 32
        return max(MIN_LANES, min(most, ceil_div(quads, 32) * 32))

    def tensors(self, **more: Tensor) -> dict[str, Tensor]:
        assert self.trace.step is not None
        return {"step": self.trace.step, **more, "adapter": self.adapter}

    def left(self, workgroups: int, coming: Group) -> Tensor:
        """Return where so many workgroups leave their parts for `coming`; where none comes, something small."""
        return self.trace.tensor((workgroups, 4 * coming.quads) if coming.quads else (1, 4), "parts of u")


def workgroup_bytes(helped: bool) -> int:
    """Return the workgroup memory of the largest kernel at its fewest invocations."""
    return 16 * 4 * (MIN_LANES + (HELPERS if helped else 0)) + 4 * MIN_LANES + 32 * (HELPERS if helped else 1)


@dataclass(frozen=True, eq=False)
class Half:
    """A row of activations and its parts of the coming layers' u: what goes from dispatch to dispatch."""

    x: Tensor
    parts: Tensor
    num_parts: int


def part_floats(columns: int, units: int) -> int:
    """Return how many floats the parts of `units` take that makers of `columns` channels leave."""
    return ceil_div(columns, COLUMNS) * units


def pack_a(
    trace: Trace, adapter: Tensor, packed: Tensor, group: Group, rank: int, scale: float, offsets: Sequence[int | None],
    columns: int, block: int, gain: Tensor | None,
) -> None:  # fmt: skip
    """Write the group's As (R, columns), at `offsets` floats of the adapter, in blocks; times gain (columns).

    None in place of an offset: that layer has no adapter.
    """
    size = columns * 4 * group.quads
    params = _pack_params(rank, group, offsets, size, group.a) | {
        "columns": columns, "block": block, "scale": scale, "normed": int(gain is not None), "start1": 0, "start2": 0,
    }  # fmt: skip
    tensors = {"adapter": adapter, "gain": gain or adapter, "packed": packed}
    trace.dispatch(kernel("decode/pack", "a"), tensors, params, grid_1d(ceil_div(size, 64)))


def pack_b(
    trace: Trace, adapter: Tensor, packed: Tensor, group: Group, rank: int, offsets: Sequence[int | None],
    widths: Sequence[int],
) -> None:  # fmt: skip
    """Write the group's Bs (width, R), at `offsets` floats of the adapter, behind one another."""
    size = sum(widths) * 4 * group.layer_quads
    starts = _starts(widths)
    params = _pack_params(rank, group, offsets, size, group.b) | {
        "columns": 1, "block": COLUMNS, "scale": 1.0, "normed": 0, "start1": starts[0], "start2": starts[1],
    }  # fmt: skip
    tensors = {"adapter": adapter, "packed": packed}
    trace.dispatch(kernel("decode/pack", "b"), tensors, params, grid_1d(ceil_div(size, 64)))


def _pack_params(rank: int, group: Group, offsets: Sequence[int | None], size: int, out: int) -> dict[str, int | float]:
    at = [NONE if offset is None else offset for offset in (*offsets, None, None)]
    return {
        "rank": rank, "ranks": 4 * group.layer_quads, "layers": group.layers, "out": out, "size": size,
        "at0": at[0], "at1": at[1], "at2": at[2],
    }  # fmt: skip


def _starts(widths: Sequence[int]) -> list[int]:
    """Return where the second and the third layer begin among rows of W; NONE for one that is not there."""
    return [sum(widths[:index]) if index < len(widths) else NONE for index in (1, 2)]


def _params(
    columns: int, inner: int, eps: float, widths: Sequence[int], here: Group, coming: Group, first: int = 0
) -> dict[str, int | float]:
    starts = _starts(widths)
    return {
        "columns": columns, "inner": inner, "eps": eps, "b_in": here.b, "a_out": coming.a,
        "start1": starts[0], "start2": starts[1], "first": first,
    }  # fmt: skip


def embed(scratch: Scratch, token: Tensor, table: Weight, coming: Group) -> Half:
    """Return the embedding (C) of token (1), with its parts for `coming`."""
    columns = table.shape[1]
    y = scratch.trace.tensor((1, columns), "embedding")
    params = _params(columns, columns, 0.0, (columns,), NO_GROUP, coming)
    groups = ceil_div(columns, COLUMNS)
    left = scratch.left(groups, coming)
    tensors = scratch.tensors(weight=table.tensor, y=y, token=token, left=left)
    del tensors["step"]
    step = scratch.kernel("embed", table, NO_GROUP, None, coming)
    scratch.trace.dispatch(step, tensors, params, (groups,))
    return Half(y, left, groups)


def norm_linear(
    scratch: Scratch, given: Half, gain: Tensor, eps: float, weight: Weight | JoinedWeight, widths: Sequence[int],
    here: Group,
) -> Tensor:  # fmt: skip
    """Return (1, sum of widths): the layers' results, one behind another, for rmsnorm(x) as their input.

    One dispatch for each piece of the weight.
    """
    columns, inner = weight.shape
    y = scratch.trace.tensor((1, columns), "norm_linear")
    for run in runs(weight, widths):
        first = sum(widths[: run.first]) + run.begin
        last = first + run.count
        params = _params(last, inner, eps, widths, here, NO_GROUP, first)
        tensors = scratch.tensors(weight=run.weight.tensor, x=given.x, gain=gain, y=y, parts=given.parts)
        flops = 2.0 * (last - first) * (inner + 4 * here.layer_quads)
        grid = grid_1d(ceil_div(last - first, COLUMNS))
        step = scratch.kernel("norm_linear", run.weight, here, given, NO_GROUP)
        scratch.trace.dispatch(step, tensors, params, grid, flops)
    return y


def norm_swiglu(
    scratch: Scratch, given: Half, gain: Tensor, eps: float, weight: Weight, here: Group, coming: Group
) -> Half:
    """Return h (1, I) = silu(gate) * up of rmsnorm(x), with its parts for down. weight: gate's rows, then up's."""
    channels, inner = weight.shape[0] // 2, weight.shape[1]
    y = scratch.trace.tensor((1, channels), "swiglu")
    groups = ceil_div(channels, COLUMNS)
    left = scratch.left(groups, coming)
    params = _params(channels, inner, eps, (channels, channels), here, coming)
    tensors = scratch.tensors(weight=weight.tensor, x=given.x, gain=gain, y=y, parts=given.parts, left=left)
    flops = 4.0 * channels * (inner + 4 * here.layer_quads)
    step = scratch.kernel("norm_swiglu", weight, here, given, coming)
    scratch.trace.dispatch(step, tensors, params, (groups,), flops)
    return Half(y, left, groups)


def add_linear(
    scratch: Scratch, given: Half, residual: Tensor, weight: Weight, here: Group, coming: Group, attended: bool = False
) -> Half:
    """Return residual + linear(h) (1, C), with its parts for `coming`. `attended`: h is what `attention` returned."""
    columns, inner = weight.shape
    y = scratch.trace.tensor((1, columns), "residual")
    groups = ceil_div(columns, COLUMNS)
    left = scratch.left(groups, coming)
    params = _params(columns, inner, 0.0, (columns,), here, coming)
    tensors = scratch.tensors(weight=weight.tensor, x=given.x, residual=residual, y=y, parts=given.parts, left=left)
    flops = 2.0 * columns * (inner + 4 * here.layer_quads)
    step = scratch.kernel("add_linear", weight, here, given, coming, attended)
    scratch.trace.dispatch(step, tensors, params, (groups,), flops)
    return Half(y, left, groups)


def attention(scratch: Scratch, qkv: Tensor, table: Tensor, k_cache: Tensor, v_cache: Tensor, coming: Group) -> Half:
    """Turn q and k of qkv, append k and v to the caches (length, Hkv * D) and return every head's sums in SPLITS parts.

    Only add_linear(..., attended=True) understands the result. `coming` is the adapter of o.
    """
    heads, head_dim = scratch.heads, scratch.head_dim
    out = scratch.trace.tensor((SPLITS, heads, head_dim + 2), "attention")
    left = scratch.left(SPLITS * heads, coming)
    params = {"heads": heads, "kv_heads": scratch.kv_heads, "scale": head_dim**-0.5, "a_out": coming.a}
    tensors = scratch.tensors(qkv=qkv, table=table, k=k_cache, v=v_cache, out=out, left=left)
    constants = (("HEAD_QUADS", head_dim // 4), ("LANES", MIN_LANES), ("SPLITS", SPLITS), ("UNITS", 4 * coming.quads))
    flops = 4.0 * k_cache.shape[0] * heads * head_dim
    step = kernel("decode/attention", "forward", constants)
    scratch.trace.dispatch(step, tensors, params, (heads, SPLITS), flops)
    return Half(out, left, SPLITS * heads)
