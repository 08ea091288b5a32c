"""Traces and plans: what a step does, recorded once and replayed many times.

A `Trace` records dispatches over tensors. Tensors made by `Trace.tensor` have no memory yet; tensors over a `Buffer`
(weights, adapter, token ids) do. `Device.build` turns a trace into a `Plan`: pipelines compiled, memory assigned,
bind groups made. Replaying a plan costs no Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .kernel import Kernel
from .memory import Life, assign

MAX_WORKGROUPS = 65_535  # in each dimension of a dispatch, the limit every WebGPU device grants


class Buffer:
    """GPU memory of its own, as opposed to a `Value` inside a plan. Made by `Device.create_buffer` or `plan_buffer`."""

    __slots__ = ("device", "handle", "label", "size_bytes", "uniform")

    def __init__(self, device: Any, size_bytes: int, label: str, uniform: bool) -> None:
        self.device, self.size_bytes, self.label, self.uniform = device, size_bytes, label, uniform
        self.handle: Any = None

    def allocate(self) -> None:
        """Take the memory, if that has not been done. Zeroed."""
        if self.handle is None:
            self.device.allocate_buffer(self)

    def destroy(self) -> None:
        """Give the memory back. A second call does nothing."""
        if self.handle is not None:
            self.device.destroy_buffer(self)
            self.handle = None

    def __repr__(self) -> str:
        return f"Buffer({self.label}, {self.size_bytes} bytes)"


class Value:
    """Memory that a plan will give: its size and the first and last dispatch that touches it."""

    __slots__ = ("first", "label", "last", "size_bytes")

    def __init__(self, size_bytes: int, label: str) -> None:
        self.size_bytes, self.label, self.first, self.last = size_bytes, label, -1, -1


@dataclass(eq=False)
class Tensor:
    """A shape over memory. `offset` is in bytes. Every element is 32 bits wide (f32, u32 or i32)."""

    shape: tuple[int, ...]
    storage: Buffer | Value
    offset: int = 0
    label: str = ""
    requires_grad: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return 4 * self.size

    @property
    def buffer(self) -> Buffer:
        """The memory, for a tensor that has its own. Raises ValueError for one inside a plan."""
        if not isinstance(self.storage, Buffer):
            raise ValueError(f"{self.label} lives inside a plan: it has no memory of its own")
        return self.storage

    @property
    def rows(self) -> int:
        """The product of all but the last dimension."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class Dispatch:
    """One kernel call: tensors by binding name, the packed parameters, the grid and its cost for scheduling."""

    kernel: Kernel
    tensors: Mapping[str, Tensor]
    params: bytes
    workgroups: tuple[int, int, int]
    flops: float

    @property
    def written(self) -> list[Tensor]:
        """The tensors that the kernel may change."""
        return [t for name, t in self.tensors.items() if self.kernel.bindings[name].access == "read_write"]


class Trace:
    """A recording of dispatches. `step` is the tensor of the values that change from step to step."""

    def __init__(self, step: Tensor | None = None) -> None:
        self.step = step
        self.dispatches: list[Dispatch] = []
        self.values: list[Value] = []  # those that dispatches touch, in order of first use
        self.alone: Layout | None = None  # in an empty pool, once asked for; recording more forgets it

    def tensor(self, shape: tuple[int, ...], label: str, requires_grad: bool = False) -> Tensor:
        """Return a new tensor of 32-bit elements that lives as long as dispatches touch it."""
        return Tensor(shape, Value(4 * math.prod(shape), label), 0, label, requires_grad)

    def dispatch(
        self,
        kernel: Kernel,
        tensors: Mapping[str, Tensor],
        params: Mapping[str, int | float],
        workgroups: tuple[int, ...],
        flops: float = 0.0,
    ) -> None:
        """Record one kernel call. Raises ValueError if a binding would be both read and written."""
        x, y, z = (*workgroups, 1, 1)[:3]
        grid = (x, y, z)
        if any(count < 1 or count > MAX_WORKGROUPS for count in grid):
            raise ValueError(f"{kernel.name}.{kernel.entry}: a grid of {grid} is outside 1..{MAX_WORKGROUPS}")
        _refuse_aliasing(kernel, tensors)
        self.record(Dispatch(kernel, dict(tensors), kernel.pack_params(params), grid, flops))

    def record(self, dispatch: Dispatch) -> None:
        """Append a dispatch; the values that it touches live until then at least."""
        index, self.alone = len(self.dispatches), None
        for tensor in dispatch.tensors.values():
            if isinstance(tensor.storage, Value):
                if tensor.storage.first < 0:
                    tensor.storage.first = index
                    self.values.append(tensor.storage)
                tensor.storage.last = index
        self.dispatches.append(dispatch)

    @property
    def kernels(self) -> list[Kernel]:
        """Every distinct kernel, in order of first use."""
        return list(dict.fromkeys(dispatch.kernel for dispatch in self.dispatches))


def _refuse_aliasing(kernel: Kernel, tensors: Mapping[str, Tensor]) -> None:
    """wgpu-native accepts overlapping bindings and computes wrongly, so the trace refuses them."""
    written = [(name, t) for name, t in tensors.items() if kernel.bindings[name].access == "read_write"]
    for name, tensor in written:
        for other_name, other in tensors.items():
            if other_name == name or other.storage is not tensor.storage:
                continue
            tensor_end, other_end = tensor.offset + tensor.size_bytes, other.offset + other.size_bytes
            overlap = tensor.offset < other_end and other.offset < tensor_end
            if overlap or kernel.bindings[other_name].access != "read_write":
                raise ValueError(
                    f"{kernel.name}.{kernel.entry}: `{name}` ({tensor.label}) is written and shares its buffer with "
                    f"`{other_name}` ({other.label})"
                )


def grid_1d(workgroups: int) -> tuple[int, int, int]:
    """Return a grid of at least `workgroups` workgroups, folded into two dimensions where one is too short.

    Kernels number them `workgroup_id.y * num_workgroups.x + workgroup_id.x` and ignore those past the end.
    """
    if workgroups <= MAX_WORKGROUPS:
        return (workgroups, 1, 1)
    height = -(-workgroups // MAX_WORKGROUPS)
    return (-(-workgroups // height), height, 1)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass
class Layout:
    """Where each value of a trace lies in the pool. `sizes` are the pool's buffers after this plan is added."""

    slot_of: dict[int, int]  # id(value) -> slot
    sizes: list[int]


def lay_out(trace: Trace, pool_sizes: list[int]) -> Layout:
    """Assign every value of `trace` to a buffer of the pool. Pure: nothing is allocated.

    An empty pool's layout is kept: it is asked for twice, when a run is planned and when it begins.
    """
    if not pool_sizes and trace.alone is not None:
        return trace.alone
    lives = [Life(max(value.size_bytes, 4), value.first, value.last) for value in trace.values]
    placed, sizes = assign(lives, pool_sizes)
    layout = Layout({id(value): slot for value, slot in zip(trace.values, placed, strict=True)}, sizes)
    if not pool_sizes:
        trace.alone = layout
    return layout


def params_size_bytes(trace: Trace, alignment: int) -> int:
    """Return what a built trace's parameters take: equal blocks share one place, which begins at the alignment."""
    return max(1, len({dispatch.params for dispatch in trace.dispatches})) * alignment


@dataclass
class Plan:
    """A built trace: the host's own handle, and what each dispatch costs. `close` releases the plan's own buffers."""

    device: Any
    handle: Any
    costs: list[float]  # of each dispatch, in floating-point operations
    names: list[str]  # of each dispatch's kernel
    label: str
    own_buffers: list[Buffer] = field(default_factory=list)
    replayed: bool = False
    _segments: tuple[float, list[tuple[int, int]]] | None = None

    @property
    def num_dispatches(self) -> int:
        return len(self.costs)

    def segment_end(self, first: int, segment_flops: float) -> int:
        """Return where a submit that begins at `first` and costs about `segment_flops` ends."""
        total, last = self.costs[first], first + 1
        while last < len(self.costs) and total + self.costs[last] <= segment_flops:
            total += self.costs[last]
            last += 1
        return last

    def segments(self, segment_flops: float) -> list[tuple[int, int]]:
        """Return the (first, last) of every submit of a replay, kept from replay to replay."""
        if self._segments is None or self._segments[0] != segment_flops:
            parts, first = [], 0
            while first < len(self.costs):
                last = self.segment_end(first, segment_flops)
                parts.append((first, last))
                first = last
            self._segments = (segment_flops, parts)
        return self._segments[1]

    def close(self) -> None:
        for buffer in self.own_buffers:
            buffer.destroy()
        self.own_buffers.clear()
        self.handle = None
