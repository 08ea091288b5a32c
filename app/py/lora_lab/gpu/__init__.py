"""WebGPU, wherever Python runs: `open_device` picks the host."""

from __future__ import annotations

import sys

from .device import AdapterInfo, Device
from .plan import Buffer, Plan, Tensor, Trace
from .pool import Pool

__all__ = ["AdapterInfo", "Buffer", "Device", "Plan", "Pool", "Tensor", "Trace", "list_adapters", "open_device"]


async def open_device(adapter_name: str | None = None) -> Device:
    """Return a device of this host's best adapter, or of the one whose name contains `adapter_name`.

    Raises DeviceError, saying what was looked for, when there is none.
    """
    if sys.platform == "emscripten":
        from .browser import open_device as open_browser_device

        return await open_browser_device()
    from .native import open_device as open_native_device

    return await open_native_device(adapter_name)


def list_adapters() -> list[AdapterInfo]:
    """Return the adapters to choose from. A browser shows only its own choice, so the list is empty there."""
    if sys.platform == "emscripten":
        return []
    from .native import list_adapters as list_native_adapters

    return list_native_adapters()
