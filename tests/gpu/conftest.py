"""A native device for the whole session, with the kernels that GPUs get and with those that software devices get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lora_lab.gpu import Device, open_device


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    """The machine's best native device; a software one will do."""
    device = asyncio.run(open_device())
    yield device
    asyncio.run(device.close())


@pytest.fixture(params=[True, False], ids=["tiled", "plain"])
def each_device(device: Device, request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device as a GPU, with tiles through workgroup memory, and as a software device, with plain loads."""
    before = device.use_workgroup_memory
    device.use_workgroup_memory = request.param
    yield device
    device.use_workgroup_memory = before
