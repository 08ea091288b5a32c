"""Where a micro-batch is written on the GPU, before the plan of its shape is replayed."""

from __future__ import annotations

import numpy as np

from ..gpu.device import Device
from ..gpu.plan import Tensor, ceil_div
from ..model.lora import ALIGN


class BatchInputs:
    """Where a micro-batch is written: tokens, positions, trained rows and their targets, behind one another.

    One buffer, because every write from a browser's Python costs a tenth of a millisecond, whatever its size.
    """

    def __init__(self, device: Device, largest: int) -> None:
        self.stride = ceil_div(largest, ALIGN) * ALIGN
        self.buffer = device.plan_buffer(4 * 4 * self.stride, "batch")
        self.host = np.zeros((4, self.stride), np.uint32)

    def view(self, part: int, size: int) -> Tensor:
        """Return `size` numbers of a part: 0 tokens, 1 positions, 2 trained rows, 3 targets."""
        label = ("tokens", "positions", "loss rows", "targets")[part]
        return Tensor((size,), self.buffer, 4 * part * self.stride, label)

    def write(self, *parts: np.ndarray) -> None:
        """Write all four parts, each no longer than the largest micro-batch."""
        for row, values in zip(self.host, parts, strict=True):
            row[: values.size] = values.reshape(-1)
        self.buffer.device.write(self.buffer, 0, self.host)
