"""The values that vary from step to step: one small uniform buffer, written before each replay (wgsl/step.wgsl)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

from ..gpu.device import Device
from ..gpu.plan import Tensor

_FORM = "<fffffIIIIIfIfffI"


@dataclass
class StepValues:
    """Same names and order as the WGSL struct Step."""

    inv_tokens: float = 0.0
    learning_rate: float = 0.0
    bias_correction1: float = 1.0
    bias_correction2: float = 1.0
    strength: float = 1.0
    loss_rows: int = 0
    past: int = 0
    last_row: int = 0
    seed: int = 0
    draw: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    slot: int = 0


class StepBuffer:
    """The uniform buffer itself. `write` is ordered with submits, so a later write does not reach an earlier replay."""

    def __init__(self, device: Device, label: str, *, planned: bool = False) -> None:
        """`planned`: without memory until `buffer.allocate`."""
        self.device = device
        count = len(fields(StepValues))
        make = device.plan_buffer if planned else device.create_buffer
        self.buffer = make(4 * count, f"{label}.step", uniform=True)
        self.tensor = Tensor((count,), self.buffer, 0, f"{label}.step")

    def write(self, values: StepValues) -> None:
        self.device.write(self.buffer, 0, struct.pack(_FORM, *vars(values).values()))

    def close(self) -> None:
        self.buffer.destroy()
