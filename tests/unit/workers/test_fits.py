"""Whether a run of a model fits a GPU: planned without any memory, then its memory tried for and given back."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lora_lab.errors import OutOfMemoryError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.gpu.device import AdapterInfo, Device, Limits
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.fits import Fit, fit_run
from tests.unit.workers.helpers import SETTINGS
from tests.unit.workers.services.helpers import split_of

MIB = 1 << 20


class FakeDevice(Device):
    """A GPU of some bytes, which it says it is out of as a browser does: when it is asked for errors."""

    def __init__(self, room_bytes: int, largest_bytes: int = 1 << 30) -> None:
        super().__init__()
        self.info, self.room_bytes = AdapterInfo("a small GPU", "", "", True), room_bytes
        self.use_workgroup_memory = False
        sizes = {field.name: 1 << 16 for field in fields(Limits)}
        sizes |= dict.fromkeys(("min_uniform_buffer_offset_alignment", "min_storage_buffer_offset_alignment"), 256)
        sizes |= dict.fromkeys(("max_buffer_size", "max_storage_buffer_binding_size"), largest_bytes)
        self.limits = Limits(**sizes)

    def _new_buffer(self, size_bytes: int, label: str, uniform: bool) -> Any:
        return object()

    def _free_buffer(self, handle: Any) -> None: ...

    async def check_errors(self) -> None:
        if self.peak_memory_bytes > self.room_bytes:
            raise OutOfMemoryError("The GPU has no room")


FakeDevice.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def files(tiny_model_folder: Path) -> ModelFiles:
    return asyncio.run(open_model(sources_from_path(tiny_model_folder)))


def fit(
    device: FakeDevice, files: ModelFiles, settings: TrainSettings = SETTINGS, rows: Any = None, can_try: bool = True
) -> Fit:
    found = asyncio.run(fit_run(device, files, settings, rows, can_try=can_try))
    assert device.memory_in_use_bytes == device.num_buffers == 0  # all of it is given back
    return found


def test_a_run_that_fits_is_told_with_what_it_takes(files: ModelFiles) -> None:
    device = FakeDevice(1 << 30)
    found = fit(device, files)
    assert found.verdict == "fits" and "rows of 64 tokens" in found.words
    assert device.peak_memory_bytes == pytest.approx(found.memory_bytes, abs=4)  # so much was tried for
    shorter = fit(FakeDevice(1 << 30), files, rows=split_of(9).trained)
    assert "your data" in shorter.words and 0 < shorter.memory_bytes < found.memory_bytes


def test_what_does_not_fit_is_told_too(files: ModelFiles) -> None:
    needed = fit(FakeDevice(1 << 30), files).memory_bytes
    full = fit(FakeDevice(needed - 8), files)
    assert (full.verdict, full.memory_bytes) == ("too large", needed) and "is not free" in full.words
    bound = fit(FakeDevice(1 << 30, largest_bytes=4096), files)
    assert bound.verdict == "too large" and "a small GPU allows" in bound.words and bound.memory_bytes == 0


def test_while_a_run_has_the_memory_none_is_tried_for(files: ModelFiles) -> None:
    device = FakeDevice(0)
    found = fit(device, files, can_try=False)
    assert found.verdict == "unknown" and found.memory_bytes > 0 and device.peak_memory_bytes == 0


def test_settings_are_taken_as_far_as_the_model_can_have_them(files: ModelFiles) -> None:
    longest = files.config.max_position_embeddings
    long = replace(SETTINGS, max_length=10 * longest, targets=("in_proj",), batch=1)
    found = fit(FakeDevice(1 << 34), files, long)
    assert f"rows of {longest:,} tokens" in found.words
    wrong = fit(FakeDevice(1 << 30), files, replace(SETTINGS, rank=0))
    assert wrong.verdict == "unknown" and "once the settings can be used" in wrong.words
