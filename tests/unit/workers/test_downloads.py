"""A model's file in the browser's storage: what is there already is continued, and what goes wrong says so."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from types import ModuleType
from typing import Any

import pytest

from lora_lab.workers.storage import downloads
from lora_lab.workers.storage.downloads import ProgressMeter, SiteFile
from lora_lab.workers.storage.folders import StorageError
from tests.unit.workers.helpers import FakeBlob

DATA = bytes(range(256)) * 10
FILE = SiteFile("tiny/model.gguf", len(DATA), hashlib.sha256(DATA).hexdigest())
PART, MARK = f"{FILE.sha256}.part", f"{FILE.sha256}.ok"


class JsException(Exception):
    """What the browser raises."""


class FakeFolder:
    """A folder of the browser's. `late` are bytes that another tab adds as soon as the file was looked at."""

    def __init__(self, stored: bytes, late: bytes = b"", blob: type[FakeBlob] = FakeBlob) -> None:
        self.files, self.late, self.kind = {PART: stored}, late, blob

    async def names(self) -> list[str]:
        return sorted(self.files)

    async def blob(self, name: str) -> FakeBlob:
        found = self.kind(self.files[name])
        self.files[name], self.late = self.files[name] + self.late, b""
        return found

    async def write(self, name: str, data: bytes) -> None:
        self.files[name] = data

    async def delete(self, name: str) -> None:
        self.files.pop(name, None)


class FakeWriter:
    """Writes into a FakeFolder."""

    def __init__(self, folder: FakeFolder) -> None:
        self.folder = folder

    @property
    def size_bytes(self) -> int:
        return len(self.folder.files[PART])

    async def start_over(self) -> None:
        self.folder.files[PART] = b""

    async def append(self, chunk: bytes) -> None:
        self.folder.files[PART] += chunk

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that sends the rest of the file, whatever that is."""

    async def open_writer(folder: FakeFolder, _: str) -> FakeWriter:
        return FakeWriter(folder)

    async def fetch(url: str, file: SiteFile, writer: FakeWriter, digest: Any, meter: ProgressMeter) -> None:
        rest = DATA[writer.size_bytes :]
        digest.update(rest)
        await writer.append(rest)

    ffi = ModuleType("pyodide.ffi")
    ffi.JsException = JsException  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyodide", ModuleType("pyodide"))
    monkeypatch.setitem(sys.modules, "pyodide.ffi", ffi)
    monkeypatch.setattr(downloads, "open_writer", open_writer)
    monkeypatch.setattr(downloads, "_fetch", fetch)


def stored(folder: FakeFolder) -> bytes:
    """Return what `_stored` makes of this folder."""
    meter = ProgressMeter(lambda event: None, len(DATA))
    blob: FakeBlob = asyncio.run(downloads._stored(folder, FILE, "", meter))  # type: ignore[arg-type]
    return blob.data


@pytest.mark.parametrize(
    ("there", "late"),
    [
        (b"", b""),
        (DATA[:1000], b""),  # interrupted
        (DATA[:1000], DATA[1000:1200]),  # another tab fetches it too
        (DATA + b"more", b""),  # another file
    ],
)
def test_a_file_is_good_whatever_was_there(there: bytes, late: bytes) -> None:
    folder = FakeFolder(there, late)
    assert stored(folder) == DATA
    assert set(folder.files) == {PART, MARK}


def test_what_cannot_be_read_is_a_matter_of_storage() -> None:
    class LockedBlob(FakeBlob):
        def slice(self, start: int, end: int) -> FakeBlob:
            raise JsException("NotReadableError")

    with pytest.raises(StorageError, match=r"tiny/model\.gguf could not be read: NotReadableError"):
        stored(FakeFolder(DATA[:1000], blob=LockedBlob))
