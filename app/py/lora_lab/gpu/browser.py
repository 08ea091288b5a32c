"""The seam on navigator.gpu, in a Web Worker: thin calls into app/web/worker/gpu.js, which stands on `globalThis`."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable
from typing import Any

import js
import numpy as np
from pyodide.ffi import create_proxy, to_js

from ..errors import DeviceError, KernelError, OutOfMemoryError
from ..javascript import JsError, call
from .device import AdapterInfo, Device, Limits, PipelineKey, Progress
from .plan import Buffer, Plan

STAGED_BYTES = 1 << 16  # of a write that goes through memory kept for its size: a fresh copy costs an allocation


async def open_device() -> BrowserDevice:
    """Return the browser's high-performance device. Raises DeviceError where there is none."""
    try:
        gpu = await call(js.loraLabGpu, "openDevice")
    except JsError as error:
        raise DeviceError(f"The GPU could not be opened: {error.message}") from error
    if gpu is None:
        raise DeviceError("This browser gives no GPU to web pages (navigator.gpu found no adapter).")
    return BrowserDevice(gpu)


class BrowserDevice(Device):
    """A GPUDevice of the browser."""

    def __init__(self, gpu: Any) -> None:
        super().__init__()
        self._gpu = gpu
        # A replayed step calls these alone; to look a method up makes a proxy each time.
        self._gpu_write, self._gpu_submit = gpu.write, gpu.submit
        self._staging: dict[int, Any] = {}  # size -> Uint8Array
        self.info = AdapterInfo(gpu.info.name, gpu.info.vendor, "WebGPU", bool(gpu.info.software))
        self.use_workgroup_memory = not self.info.is_software
        self.features = frozenset()
        limit = gpu.limit
        self.limits = Limits(
            max_buffer_size=int(limit("maxBufferSize")),
            max_storage_buffer_binding_size=int(limit("maxStorageBufferBindingSize")),
            max_storage_buffers_per_shader_stage=int(limit("maxStorageBuffersPerShaderStage")),
            max_workgroup_storage_size=int(limit("maxComputeWorkgroupStorageSize")),
            max_invocations_per_workgroup=int(limit("maxComputeInvocationsPerWorkgroup")),
            min_uniform_buffer_offset_alignment=max(256, int(limit("minUniformBufferOffsetAlignment"))),
            min_storage_buffer_offset_alignment=int(limit("minStorageBufferOffsetAlignment")),
        )

    def _new_buffer(self, size_bytes: int, label: str, uniform: bool) -> Any:
        return self._gpu.createBuffer(size_bytes, label, uniform)

    def _free_buffer(self, handle: Any) -> None:
        handle.destroy()

    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        # The bytes are copied once, out of WebAssembly memory, which may move while the GPU's queue takes them.
        raw = memoryview(data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else data).cast("B")
        if raw.nbytes > STAGED_BYTES:
            copied = to_js(raw)
        else:
            copied = self._staging.get(raw.nbytes)
            if copied is None:
                copied = self._staging[raw.nbytes] = js.Uint8Array.new(raw.nbytes)
            copied.assign(raw)
        self._gpu_write(buffer.handle, offset, copied)

    async def read(self, buffer: Buffer, offset: int, size_bytes: int) -> bytes:
        return await self.start_read(buffer, offset, size_bytes)

    def start_read(self, buffer: Buffer, offset: int, size_bytes: int) -> Awaitable[bytes]:
        # The call submits the copy before it returns its promise.
        return self._finish_read(call(self._gpu, "read", buffer.handle, offset, size_bytes), buffer)

    async def _finish_read(self, promise: Any, buffer: Buffer) -> bytes:
        try:
            return (await promise).to_bytes()
        except JsError as error:
            self._note_loss()
            raise DeviceError(f"Reading {buffer.label} from the GPU failed: {error.message}") from error

    async def _compile(self, kernels: list[PipelineKey], on_progress: Progress | None) -> list[Any]:
        if not kernels:
            return []
        specs = []
        for kernel, names in kernels:
            shape = [kernel.bindings[name] for name in ("params", *names)]
            layout = ",".join(f"{binding.index}:{binding.access}" for binding in shape)
            specs.append({"source": kernel.source, "entry": kernel.entry, "label": kernel.name, "layout": layout})
        callback = create_proxy(on_progress) if on_progress else None
        try:
            handles = await call(self._gpu, "compile", to_js(specs, dict_converter=js.Object.fromEntries), callback)
        except JsError as error:
            self._note_loss()
            raise (KernelError if "does not compile" in error.message else DeviceError)(error.message) from error
        finally:
            if callback is not None:
                callback.destroy()
        return list(handles)

    async def _assemble(self, pipelines: list[Any], buffers: list[Buffer], table: array) -> Any:
        handles = to_js([buffer.handle for buffer in buffers])
        try:
            return await call(self._gpu, "assemble", to_js(pipelines), handles, to_js(memoryview(table)))
        except JsError as error:
            self._note_loss()
            raise DeviceError(f"The GPU refused a plan: {error.message}") from error

    def _submit(self, handle: Any, first: int, last: int) -> None:
        self._gpu_submit(handle, first, last)

    def _submit_reading(
        self, handle: Any, first: int, last: int, buffer: Buffer, offset: int, size_bytes: int
    ) -> Awaitable[bytes]:
        promise = call(self._gpu, "submitReading", handle, first, last, buffer.handle, offset, size_bytes)
        return self._finish_read(promise, buffer)

    async def profile(self, plan: Plan, together: int = 1) -> list[float] | None:
        times = await call(self._gpu, "profile", plan.handle, together)
        return None if times is None else [ns / 1e6 for ns in times.to_py()]

    async def finished(self) -> None:
        try:
            await call(self._gpu, "finished")
        except JsError as error:
            self._note_loss()
            self.raise_if_lost()
            raise DeviceError(f"The GPU does not answer: {error}") from error
        self._note_loss()
        self.raise_if_lost()

    async def check_errors(self) -> None:
        try:
            error = await call(self._gpu, "takeError")
        except JsError as failed:
            self._note_loss()
            self.raise_if_lost()
            raise DeviceError(f"The GPU does not answer: {failed}") from failed
        self._note_loss()
        self.raise_if_lost()
        if error is None:
            return
        if "memory" in error.lower():
            raise OutOfMemoryError(
                f"The GPU has no room: {self.memory_in_use_bytes / 2**20:,.0f} MiB are in use here. Choose a smaller "
                f"batch, length or rank, or close other programs and tabs. ({error})"
            )
        raise DeviceError(f"The GPU reported an error: {error}")

    def _note_loss(self) -> None:
        if self._gpu.lost is not None:
            self.lost_reason = self._gpu.lost

    async def close(self) -> None:
        self._pipelines.clear()
        self._gpu.close()
