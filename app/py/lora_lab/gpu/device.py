"""The seam between the engine and WebGPU: the whole contract, and all of it that does not depend on the host.

Two files implement it, `browser.py` (navigator.gpu in a Web Worker) and `native.py` (wgpu-native under CPython).
Everything else in the package is ignorant of where it runs. Reading back is asynchronous in a browser, so the contract
is `async` wherever the GPU has to answer.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DeviceError, OutOfMemoryError
from .kernel import Kernel
from .plan import Buffer, Layout, Plan, Tensor, Trace, lay_out, params_size_bytes
from .pool import Pool

Progress = Callable[[int, int], None]
PipelineKey = tuple[Kernel, tuple[str, ...]]  # and the names of the bindings it gets besides its parameters

# A submit must stay clear of operating systems' GPU watchdogs (about 2 s). Rates differ between kernels, so aim low.
SEGMENT_TARGET_S = 0.15
FIRST_SEGMENT_FLOPS = 2e8  # what the slowest software device does in about 0.2 s
SOFTWARE_LANES = 4  # SwiftShader's subgroup: a barrier among these costs least
ROOM_PIECE_BYTES = 256 << 20  # of the buffers that room is looked for with; a run takes many of about that size
DISPATCH_FLOOR_FLOPS = 1e6  # what starting a dispatch costs, in the same currency


@dataclass(frozen=True)
class AdapterInfo:
    """Which GPU this is, as people know it."""

    name: str
    vendor: str
    backend: str
    is_software: bool


@dataclass(frozen=True)
class Limits:
    """The limits that the engine plans with, in bytes where they are sizes."""

    max_buffer_size: int
    max_storage_buffer_binding_size: int
    max_storage_buffers_per_shader_stage: int
    max_workgroup_storage_size: int
    max_invocations_per_workgroup: int
    min_uniform_buffer_offset_alignment: int
    min_storage_buffer_offset_alignment: int


def pipeline_keys(trace: Trace) -> list[PipelineKey]:
    """Return every distinct pipeline that a trace needs, in order of first use."""
    return list(dict.fromkeys((dispatch.kernel, tuple(dispatch.tensors)) for dispatch in trace.dispatches))


@dataclass(eq=False)
class _Compiling:
    """Pipelines that were asked for at once and are on their way; `listeners` hear of each that is done."""

    total: int
    done: int = 0
    listeners: list[Callable[[], None]] = field(default_factory=list)
    task: asyncio.Future[None] | None = None


class Device(ABC):
    """A WebGPU device. Buffers, kernels and plans are made by it and belong to it."""

    info: AdapterInfo
    limits: Limits
    features: frozenset[str]
    # Whether tiles through workgroup memory beat plain loads: not on software adapters. Tests set it to try both.
    use_workgroup_memory: bool

    def __init__(self) -> None:
        self.memory_in_use_bytes = 0
        self.peak_memory_bytes = 0
        self.num_buffers = 0
        self.lost_reason: str | None = None
        self.segment_flops = FIRST_SEGMENT_FLOPS
        self._pipelines: dict[PipelineKey, Any] = {}
        self._compiling: dict[PipelineKey, _Compiling] = {}

    # --- what a host implements ---

    @abstractmethod
    def _new_buffer(self, size_bytes: int, label: str, uniform: bool) -> Any: ...

    @abstractmethod
    def _free_buffer(self, handle: Any) -> None: ...

    @abstractmethod
    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        """Write `data` (bytes-like, a multiple of 4 bytes) at `offset` bytes. Ordered with submits."""

    @abstractmethod
    async def read(self, buffer: Buffer, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset`, after everything submitted before."""

    def start_read(self, buffer: Buffer, offset: int, size_bytes: int) -> Awaitable[bytes]:
        """Return what `read` would, to be awaited later. Hosts that can copy the bytes now, so that what is submitted
        afterwards does not delay them; others read when they are asked. Either way the caller keeps them unchanged.
        """
        return self.read(buffer, offset, size_bytes)

    @abstractmethod
    async def _compile(self, kernels: list[PipelineKey], on_progress: Progress | None) -> list[Any]:
        """Compile each (kernel, names of the bindings it gets); all in parallel where the host can."""

    @abstractmethod
    async def _assemble(self, pipelines: list[Any], buffers: list[Buffer], table: array) -> Any:
        """Make a replayable plan. `table` is flat: pipeline, n, n x (binding, buffer, offset, size), x, y, z, ..."""

    @abstractmethod
    def _submit(self, handle: Any, first: int, last: int) -> None:
        """Encode and submit dispatches `first` to `last - 1` of a plan."""

    @abstractmethod
    async def finished(self) -> None:
        """Return when everything submitted so far has been done. Raises DeviceError if the device was lost."""

    @abstractmethod
    async def check_errors(self) -> None:
        """Raise DeviceError if the GPU has reported an error since the last call."""

    async def profile(self, plan: Plan, together: int = 1) -> list[float] | None:
        """Replay a plan once and return its dispatches' times in ms, or None where the device cannot tell.

        Every `together` dispatches in a row share one time: to stop the clock after each costs microseconds too.
        """
        return None

    @abstractmethod
    async def close(self) -> None:
        """Give the device back. Its buffers are gone with it."""

    # --- what every host shares ---

    def use_plainer_kernels(self) -> bool:
        """Use kernels without workgroup memory from now on, as a driver did not take others. False if it is so already.

        What was traced before is of no more use.
        """
        if not self.use_workgroup_memory:
            return False
        self.use_workgroup_memory = False
        self._pipelines.clear()
        return True

    def lanes(self, wanted: int) -> int:
        """Return how many invocations should share one reduction: `wanted`, or few where a barrier is dear."""
        return wanted if self.use_workgroup_memory else min(wanted, SOFTWARE_LANES)

    def create_buffer(self, size_bytes: int, label: str, uniform: bool = False) -> Buffer:
        """Return zeroed GPU memory of at least 4 bytes, rounded up to a multiple of 4. Raises OutOfMemoryError."""
        buffer = self.plan_buffer(size_bytes, label, uniform)
        buffer.allocate()
        return buffer

    def plan_buffer(self, size_bytes: int, label: str, uniform: bool = False) -> Buffer:
        """Return a buffer that is known but takes no memory until its `allocate` is called: for counting first."""
        size = max(4, (size_bytes + 3) // 4 * 4)
        if size > self.limits.max_buffer_size:
            raise OutOfMemoryError(
                f"{label} needs one buffer of {size / 2**20:,.0f} MiB; {self.info.name} allows "
                f"{self.limits.max_buffer_size / 2**20:,.0f} MiB. Choose a smaller batch or length, or a smaller model."
            )
        return Buffer(self, size, label, uniform)

    def allocate_buffer(self, buffer: Buffer) -> None:
        self.raise_if_lost()
        buffer.handle = self._new_buffer(buffer.size_bytes, buffer.label, buffer.uniform)
        self.memory_in_use_bytes += buffer.size_bytes
        self.peak_memory_bytes = max(self.peak_memory_bytes, self.memory_in_use_bytes)
        self.num_buffers += 1

    def destroy_buffer(self, buffer: Buffer) -> None:
        self._free_buffer(buffer.handle)
        self.memory_in_use_bytes -= buffer.size_bytes
        self.num_buffers -= 1

    async def has_room(self, size_bytes: int) -> bool:
        """Return whether so much memory can be had now: it is asked for, and given back. Nothing may be in flight.

        WebGPU tells no other way. A system that lends a GPU its own memory may grant what is slow to use.
        """
        taken: list[Buffer] = []
        try:
            while (left := size_bytes - sum(buffer.size_bytes for buffer in taken)) > 0:
                taken.append(self.create_buffer(min(left, self.limits.max_buffer_size, ROOM_PIECE_BYTES), "room"))
            await self.check_errors()
        except OutOfMemoryError:
            return False
        finally:
            for buffer in taken:
                buffer.destroy()
        return True

    def upload(self, array_: np.ndarray, label: str) -> Tensor:
        """Return a tensor of its own buffer holding `array_` (any dtype of 32 bits)."""
        if array_.dtype.itemsize != 4:
            raise ValueError(f"{label} has {array_.dtype} elements; the GPU takes 32-bit ones")
        data = np.ascontiguousarray(array_)
        buffer = self.create_buffer(data.nbytes, label)
        self.write(buffer, 0, data)
        return Tensor(tuple(data.shape), buffer, 0, label)

    async def download(self, tensor: Tensor, dtype: Any = np.float32) -> np.ndarray:
        """Return a tensor's content. Only tensors over a buffer have one."""
        raw = await self.read(tensor.buffer, tensor.offset, tensor.size_bytes)
        return np.frombuffer(raw, dtype).reshape(tensor.shape)

    async def compile(self, wanted: Sequence[PipelineKey], on_progress: Progress | None = None) -> None:
        """Have these pipelines compiled. They stay on the device.

        Those that are not there and not on their way are asked for, all at once. Who waits may be cancelled: what was
        asked for goes on, and the next one who wants it waits for the rest of it only.
        """
        self.start_compiling(wanted)
        missing = [key for key in dict.fromkeys(wanted) if key not in self._pipelines]
        batches = list(dict.fromkeys(self._compiling[key] for key in missing))

        def tell() -> None:
            if on_progress:
                on_progress(sum(batch.done for batch in batches), sum(batch.total for batch in batches))

        try:
            for batch in batches:
                batch.listeners.append(tell)
            for batch in batches:
                assert batch.task is not None
                await asyncio.shield(batch.task)
        finally:
            for batch in batches:
                batch.listeners.remove(tell)

    def start_compiling(self, wanted: Sequence[PipelineKey]) -> None:
        """Ask for those of these pipelines that are not there and not on their way, without waiting for them."""
        known = (self._pipelines, self._compiling)
        new = [key for key in dict.fromkeys(wanted) if not any(key in some for some in known)]
        if new:
            batch = _Compiling(len(new))
            self._compiling |= dict.fromkeys(new, batch)
            batch.task = asyncio.ensure_future(self._compile_batch(new, batch))
            batch.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody waits

    def forget_pipelines(self) -> None:
        """Compile everything anew from now on: for measuring what compiling takes."""
        self._pipelines.clear()

    async def _compile_batch(self, keys: list[PipelineKey], batch: _Compiling) -> None:
        def count(done: int, total: int) -> None:
            batch.done = done
            for tell in list(batch.listeners):
                tell()

        try:
            self._pipelines.update(zip(keys, await self._compile(keys, count), strict=True))
        finally:
            for key in keys:
                self._compiling.pop(key, None)

    async def _stop_compiling(self) -> None:
        """Give up what is being compiled, and return when nothing of it goes on."""
        tasks = {batch.task for batch in self._compiling.values() if batch.task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def build(self, trace: Trace, pool: Pool, label: str, on_progress: Progress | None = None) -> Plan:
        """Compile what a trace needs, assign its memory in `pool`, and make its bind groups."""
        layout = lay_out(trace, pool.sizes)
        pool.grow(layout.sizes)
        wanted = pipeline_keys(trace)
        await self.compile(wanted, on_progress)
        pipelines = [self._pipelines[key] for key in wanted]

        # Equal parameter blocks share one place, so a whole model's worth of them is a few kilobytes.
        align = self.limits.min_uniform_buffer_offset_alignment
        places: dict[bytes, int] = {}
        for dispatch in trace.dispatches:
            places.setdefault(dispatch.params, len(places) * align)
        if any(len(params) > align for params in places):
            raise ValueError("a Params struct is larger than the uniform offset alignment")
        params = self.create_buffer(params_size_bytes(trace, align), f"{label}.params", uniform=True)
        packed = bytearray(params.size_bytes)
        for block, place in places.items():
            packed[place : place + len(block)] = block
        self.write(params, 0, bytes(packed))

        try:
            handle = await self._assemble(pipelines, *self._table(trace, pool, layout, params, places))
            await self.check_errors()
        except BaseException:  # who builds may be cancelled
            params.destroy()
            raise
        costs = [dispatch.flops + DISPATCH_FLOOR_FLOPS for dispatch in trace.dispatches]
        names = [f"{dispatch.kernel.name}.{dispatch.kernel.entry}" for dispatch in trace.dispatches]
        return Plan(self, handle, costs, names, label, [params])

    def _table(
        self, trace: Trace, pool: Pool, layout: Layout, params: Buffer, places: Mapping[bytes, int]
    ) -> tuple[list[Buffer], array]:
        """Return a plan's buffers, and its dispatches as `_assemble` reads them. `places`: of blocks in `params`."""
        self.check_bindings(trace)
        pipeline_index = {key: index for index, key in enumerate(pipeline_keys(trace))}
        buffers: list[Buffer] = [params]
        buffer_index = {id(params): 0}
        table = array("d")
        for dispatch in trace.dispatches:
            table.append(pipeline_index[dispatch.kernel, tuple(dispatch.tensors)])
            bindings = dispatch.kernel.bindings
            block_size = (len(dispatch.params) + 15) // 16 * 16
            table.extend((len(dispatch.tensors) + 1, 0, 0, places[dispatch.params], block_size))
            for name, tensor in dispatch.tensors.items():
                storage = tensor.storage
                buffer = storage if isinstance(storage, Buffer) else pool.buffers[layout.slot_of[id(storage)]]
                if id(buffer) not in buffer_index:
                    buffer_index[id(buffer)] = len(buffers)
                    buffers.append(buffer)
                table.extend((bindings[name].index, buffer_index[id(buffer)], tensor.offset, max(4, tensor.size_bytes)))
            table.extend(dispatch.workgroups)
        return buffers, table

    def check_bindings(self, trace: Trace) -> None:
        """Raise OutOfMemoryError where a trace binds more at once than the device allows."""
        for dispatch in trace.dispatches:
            for name, tensor in dispatch.tensors.items():
                self._check_binding(dispatch.kernel, name, tensor)

    def _check_binding(self, kernel: Kernel, name: str, tensor: Tensor) -> None:
        if tensor.size_bytes > self.limits.max_storage_buffer_binding_size:
            raise OutOfMemoryError(
                f"{tensor.label} ({name} of {kernel.name}) is {tensor.size_bytes / 2**20:,.0f} MiB; {self.info.name} "
                f"binds {self.limits.max_storage_buffer_binding_size / 2**20:,.0f} MiB at most. Choose a smaller "
                "batch, length or model."
            )
        if tensor.offset % self.limits.min_storage_buffer_offset_alignment:
            raise ValueError(f"{tensor.label} begins at byte {tensor.offset}, which no binding may")

    def submit(self, plan: Plan) -> None:
        """Replay a plan without waiting for it, in as many submits as keep clear of GPU watchdogs."""
        for first, last in plan.segments(self.segment_flops):
            self._submit(plan.handle, first, last)

    def submit_reading(self, plan: Plan, tensor: Tensor) -> Awaitable[bytes]:
        """Replay a plan as `submit` does and return what `start_read` of the tensor gives then."""
        *parts, (first, last) = plan.segments(self.segment_flops)
        for part in parts:
            self._submit(plan.handle, *part)
        return self._submit_reading(plan.handle, first, last, tensor.buffer, tensor.offset, tensor.size_bytes)

    def _submit_reading(
        self, handle: Any, first: int, last: int, buffer: Buffer, offset: int, size_bytes: int
    ) -> Awaitable[bytes]:
        """Submit these dispatches of a plan and start a read. Hosts that can do so do both in one go."""
        self._submit(handle, first, last)
        return self.start_read(buffer, offset, size_bytes)

    async def submit_measured(self, plan: Plan) -> None:
        """Replay a plan for the first time: wait for each part, learn how much this device does in a second."""
        first = 0
        while first < plan.num_dispatches:
            last = plan.segment_end(first, self.segment_flops)
            flops = sum(plan.costs[first:last])
            start = time.perf_counter()
            self._submit(plan.handle, first, last)
            await self.finished()
            elapsed_s = max(time.perf_counter() - start, 1e-5)
            # Never more than double at once: the first use of a pipeline and small parts measure badly.
            wanted = flops / elapsed_s * SEGMENT_TARGET_S
            self.segment_flops = max(FIRST_SEGMENT_FLOPS / 4, min(wanted, 2 * self.segment_flops))
            first = last
        plan.replayed = True
        await self.check_errors()

    def raise_if_lost(self) -> None:
        if self.lost_reason is not None:
            raise DeviceError(f"The GPU was lost: {self.lost_reason}. Nothing that was saved is gone.")
