"""The browser's files through stand-ins: counts that are none, and handles that throw, are errors of the storage."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.workers.storage.folders import FullError, StorageError, SyncWriter

CHUNK = SimpleNamespace(byteLength=10_311)


class QuotaExceededError(Exception):
    """As newer browsers call it."""


class Access:
    """A synchronous access handle whose `write` returns what it is told to, or raises it."""

    def __init__(self, written: Any, size: Any = 0) -> None:
        self.written, self.size, self.closed = written, size, 0

    def getSize(self) -> Any:
        return self.size

    def write(self, chunk: Any, options: dict) -> Any:
        if isinstance(self.written, Exception):
            raise self.written
        return self.written

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


def append(access: Access) -> int:
    async def work() -> int:
        writer = await SyncWriter.open(access)
        await writer.append(CHUNK)
        await writer.close()
        return writer.size_bytes

    return asyncio.run(work())


@pytest.mark.parametrize("written", [4294967288, -8, 10_310, 10_312, 0, float("nan"), None, QuotaExceededError("full")])
def test_a_write_that_was_not_all_is_a_full_store(written: Any) -> None:
    with pytest.raises(FullError):
        append(Access(written))


@pytest.mark.parametrize("written", [10_311, 10_311.0])
def test_the_control_a_whole_write_is_none(written: Any) -> None:
    assert append(Access(written)) == 10_311


@pytest.mark.parametrize("size", [-1, float("inf"), None, 0.5])
def test_a_file_of_no_length_is_refused_and_closed(size: Any) -> None:
    access = Access(10_311, size)
    with pytest.raises(StorageError, match="how long"):
        append(access)
    assert access.closed == 1
