"""The seam on wgpu-native, for tests and the command line."""

from __future__ import annotations

import asyncio
import sys
from array import array
from typing import Any

import wgpu
from wgpu.backends.wgpu_native._ffi import lib as wgpu_library

from ..errors import DeviceError
from .device import AdapterInfo, Device, Limits, PipelineKey, Progress
from .plan import Buffer, Plan

PROFILE_PART = 2048  # dispatches timed at once: a query set holds at most 4,096 timestamps
_ACCESS = {"uniform": "uniform", "read": "read-only-storage", "read_write": "storage"}


def _info(adapter: Any) -> AdapterInfo:
    info = adapter.info
    return AdapterInfo(
        name=info["device"] or info["description"] or "unnamed adapter",
        vendor=str(info["vendor"]),
        backend=info["backend_type"],
        is_software=info["adapter_type"] == "CPU",
    )


def list_adapters() -> list[AdapterInfo]:
    """Return every adapter that wgpu-native finds, real GPUs first."""
    return [_info(adapter) for adapter in _adapters()]


def _adapters() -> list[Any]:
    rank = {"DiscreteGPU": 0, "IntegratedGPU": 1, "CPU": 3}
    # OpenGL adapters are a second view of a GPU that Vulkan, Metal or D3D12 already shows, and lack compute features.
    found = [a for a in wgpu.gpu.enumerate_adapters_sync() if a.info["backend_type"] != "OpenGL"]
    return sorted(found, key=lambda adapter: rank.get(adapter.info["adapter_type"], 2))


async def open_device(adapter_name: str | None = None) -> NativeDevice:
    """Return a device on the best adapter, or on the first whose name contains `adapter_name`. Raises DeviceError."""
    adapters = _adapters()
    names = [adapter.info["device"] for adapter in adapters]
    if adapter_name is not None:
        adapters = [a for a in adapters if adapter_name.lower() in a.info["device"].lower()]
    if not adapters:
        wanted = f"no adapter's name contains {adapter_name!r}; found {names}" if names else "no GPU adapter was found"
        raise DeviceError(f"{wanted}. A Vulkan, Metal or D3D12 driver is needed (on Linux: vulkan-icd, or "
                          "mesa-vulkan-drivers for a slow software device).")  # fmt: skip
    return NativeDevice(adapters[0])


class NativeDevice(Device):
    """A wgpu-native device."""

    def __init__(self, adapter: Any) -> None:
        super().__init__()
        self.info = _info(adapter)
        self.use_workgroup_memory = not self.info.is_software
        limits = adapter.limits
        self.limits = Limits(
            max_buffer_size=limits["max-buffer-size"],
            max_storage_buffer_binding_size=limits["max-storage-buffer-binding-size"],
            max_storage_buffers_per_shader_stage=limits["max-storage-buffers-per-shader-stage"],
            max_workgroup_storage_size=limits["max-compute-workgroup-storage-size"],
            max_invocations_per_workgroup=limits["max-compute-invocations-per-workgroup"],
            min_uniform_buffer_offset_alignment=max(256, limits["min-uniform-buffer-offset-alignment"]),
            min_storage_buffer_offset_alignment=limits["min-storage-buffer-offset-alignment"],
        )
        wanted = {
            "max-buffer-size", "max-storage-buffer-binding-size", "max-storage-buffers-per-shader-stage",
            "max-compute-workgroup-storage-size", "max-compute-invocations-per-workgroup",
            "max-compute-workgroup-size-x",
        }  # fmt: skip
        self.features = frozenset(adapter.features)
        self._device = adapter.request_device_sync(
            required_limits={name: limits[name] for name in wanted},
            required_features=sorted(self.features & {"timestamp-query"}),
        )
        self._fence = self._device.create_buffer(size=4, usage=wgpu.BufferUsage.COPY_SRC, label="fence")
        self._layouts: dict[tuple[tuple[int, str], ...], tuple[Any, Any]] = {}
        self._modules: dict[str, Any] = {}

    def _new_buffer(self, size_bytes: int, label: str, uniform: bool) -> Any:
        kind = wgpu.BufferUsage.UNIFORM if uniform else wgpu.BufferUsage.STORAGE
        usage = kind | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        return self._device.create_buffer(size=size_bytes, usage=usage, label=label)

    def _free_buffer(self, handle: Any) -> None:
        handle.destroy()

    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        self._device.queue.write_buffer(buffer.handle, offset, data)

    async def read(self, buffer: Buffer, offset: int, size_bytes: int) -> bytes:
        content = bytes(self._read(buffer.handle, offset, size_bytes))
        await asyncio.sleep(0)  # the GPU was waited for without the loop: others get their turn, a stop among them
        return content

    def _read(self, handle: Any, offset: int = 0, size_bytes: int = 0) -> Any:
        """Wait for the GPU and return a buffer's content.

        wgpu-py would have its polling thread call back into the event loop that it finds running, which may be closed
        by then. It looks for one in Python's hooks.
        """
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return self._device.queue.read_buffer(handle, offset, size_bytes)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    async def _compile(self, kernels: list[PipelineKey], on_progress: Progress | None) -> list[Any]:
        pipelines = []
        for done, (kernel, names) in enumerate(kernels):
            if kernel.source not in self._modules:
                self._modules[kernel.source] = self._device.create_shader_module(code=kernel.source, label=kernel.name)
            shape = tuple((kernel.bindings[n].index, kernel.bindings[n].access) for n in ("params", *names))
            group_layout, pipeline_layout = self._layout(shape)
            stage = {"module": self._modules[kernel.source], "entry_point": kernel.entry}
            pipeline = self._device.create_compute_pipeline(layout=pipeline_layout, compute=stage, label=kernel.name)
            pipelines.append((pipeline, group_layout))
            if on_progress:
                on_progress(done + 1, len(kernels))
            await asyncio.sleep(0)  # it compiles while it is asked: others get their turn in between
        return pipelines

    def _layout(self, shape: tuple[tuple[int, str], ...]) -> tuple[Any, Any]:
        if shape not in self._layouts:
            entries = [
                {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": _ACCESS[access]}}
                for i, access in shape
            ]
            group = self._device.create_bind_group_layout(entries=entries)
            self._layouts[shape] = (group, self._device.create_pipeline_layout(bind_group_layouts=[group]))
        return self._layouts[shape]

    async def _assemble(self, pipelines: list[Any], buffers: list[Buffer], table: array) -> Any:
        numbers = [int(number) for number in table]
        plan, at = [], 0
        while at < len(numbers):
            pipeline, layout = pipelines[numbers[at]]
            count = numbers[at + 1]
            at += 2
            entries = []
            for _ in range(count):
                binding, buffer, offset, size = numbers[at : at + 4]
                resource = {"buffer": buffers[buffer].handle, "offset": offset, "size": size}
                entries.append({"binding": binding, "resource": resource})
                at += 4
            group = self._device.create_bind_group(layout=layout, entries=entries)
            plan.append((pipeline, group, *numbers[at : at + 3]))
            at += 3
        return plan

    def _submit(self, handle: Any, first: int, last: int) -> None:
        encoder = self._device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for pipeline, group, x, y, z in handle[first:last]:
            compute.set_pipeline(pipeline)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(x, y, z)
        compute.end()
        self._device.queue.submit([encoder.finish()])

    async def profile(self, plan: Plan, together: int = 1) -> list[float] | None:
        if "timestamp-query" not in self.features:
            return None
        usage = wgpu.BufferUsage.QUERY_RESOLVE | wgpu.BufferUsage.COPY_SRC
        ticks: list[int] = []
        passes = [plan.handle[first : first + together] for first in range(0, len(plan.handle), together)]
        for first in range(0, len(passes), PROFILE_PART):
            part = passes[first : first + PROFILE_PART]
            queries = self._device.create_query_set(type="timestamp", count=2 * len(part))
            resolved = self._device.create_buffer(size=16 * len(part), usage=usage)
            encoder = self._device.create_command_encoder()
            for i, dispatches in enumerate(part):
                ends = {"beginning_of_pass_write_index": 2 * i, "end_of_pass_write_index": 2 * i + 1}
                compute = encoder.begin_compute_pass(timestamp_writes={"query_set": queries, **ends})
                for pipeline, group, x, y, z in dispatches:
                    compute.set_pipeline(pipeline)
                    compute.set_bind_group(0, group)
                    compute.dispatch_workgroups(x, y, z)
                compute.end()
            encoder.resolve_query_set(queries, 0, 2 * len(part), resolved, 0)
            self._device.queue.submit([encoder.finish()])
            stamps = self._read(resolved).cast("Q").tolist()
            ticks += [end - begin for begin, end in zip(stamps[::2], stamps[1::2], strict=True)]
            resolved.destroy()
        # wgpu-py says nothing of a tick's length, the library under it does.
        tick_ns = wgpu_library.wgpuQueueGetTimestampPeriod(self._device.queue._internal)
        return [count * tick_ns / 1e6 for count in ticks]

    async def finished(self) -> None:
        # Reading is a fence too; wgpu-py 0.32's own `on_submitted_work_done` raises a TypeError.
        self._read(self._fence, 0, 4)
        await asyncio.sleep(0)

    async def check_errors(self) -> None:
        self.raise_if_lost()  # wgpu-py raises validation errors where they happen

    async def close(self) -> None:
        await self._stop_compiling()
        self._pipelines.clear()
        self._device.destroy()
