"""Buffers that several plans share, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .plan import Buffer, Trace, lay_out

if TYPE_CHECKING:
    from .device import Device


class Pool:
    """Buffers that plans share for the values inside a step. All plans of one owner use one pool, one after another."""

    def __init__(self, device: Device, label: str) -> None:
        self.device, self.label = device, label
        self.buffers: list[Buffer] = []

    @property
    def sizes(self) -> list[int]:
        return [buffer.size_bytes for buffer in self.buffers]

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes)

    def grow(self, sizes: Sequence[int]) -> None:
        """Add buffers until the pool's sizes are `sizes`, of which the present ones are the beginning."""
        for size in sizes[len(self.buffers) :]:
            self.buffers.append(self.device.create_buffer(size, f"{self.label}.{len(self.buffers)}"))

    def close(self) -> None:
        for buffer in self.buffers:
            buffer.destroy()
        self.buffers.clear()


def pool_sizes(traces: Iterable[Trace], sizes: Sequence[int] = ()) -> list[int]:
    """Return the buffers of a pool that serves all these traces, in bytes, where it has those of `sizes` already."""
    found = list(sizes)
    for trace in traces:
        found = lay_out(trace, found).sizes
    return found
