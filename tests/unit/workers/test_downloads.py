"""A model's file in the browser's storage: what is there already is continued, and what goes wrong says so."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import ModelError
from lora_lab.workers.storage import downloads, progress
from lora_lab.workers.storage.downloads import FileCache, WantedFile
from lora_lab.workers.storage.folders import Home, MemoryFolder, StorageError
from lora_lab.workers.storage.progress import Fetched, ProgressMeter
from tests.unit.workers.helpers import FakeBlob

DATA = bytes(range(256)) * 10
FILE = WantedFile("tiny/model.gguf", "", len(DATA), hashlib.sha256(DATA).hexdigest())
PART, MARK = f"{FILE.key}.part", f"{FILE.key}.ok"


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

    async def fetch(file: WantedFile, writer: FakeWriter, digest: Any, meter: ProgressMeter, _: Any) -> None:
        rest = DATA[writer.size_bytes :]
        digest.update(rest)
        await writer.append(rest)

    monkeypatch.setattr(downloads, "open_writer", open_writer)
    monkeypatch.setattr(downloads, "_fetch", fetch)


def no_answer(*_: object) -> ModelError:
    raise AssertionError("no server was asked")


def stored(folder: FakeFolder) -> bytes:
    """Return what `_stored` makes of this folder."""
    meter = ProgressMeter(lambda event: None, len(DATA))
    blob: FakeBlob = asyncio.run(downloads._stored(folder, FILE, meter, no_answer))  # type: ignore[arg-type]
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
            return LockedBlob(self.data)

        async def arrayBuffer(self) -> FakeBlob:
            raise RuntimeError("NotReadableError")

    with pytest.raises(StorageError, match=r"tiny/model\.gguf could not be read: .*NotReadableError"):
        stored(FakeFolder(DATA[:1000], blob=LockedBlob))


def test_a_file_without_a_hash_is_known_by_its_place_and_checked_by_its_size() -> None:
    first, second = (
        WantedFile("config.json", "", 5, None, f"/tests/tiny/resolve/{commit}/config.json") for commit in "ab"
    )
    assert first.key != second.key and WantedFile("x", "elsewhere", 5, None, first.place).key == first.key
    assert WantedFile("config.json", "", 5, FILE.sha256, first.place).key == FILE.key  # the control: a hash is its name


def test_what_was_there_already_says_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    told: list[Fetched] = []
    meter = ProgressMeter(told.append, 10_000)
    clock[0] += 1
    meter.skip(6_000, "model.gguf")
    assert told == [Fetched(6_000, 10_000, None, None, "model.gguf")]
    for _ in range(2):
        clock[0] += 1
        meter.add(500, "model.gguf")
    assert (told[-1].done_bytes, told[-1].rate_bytes_per_s, told[-1].left_ms) == (7_000, 500.0, 6_000.0)
    meter.wait("model.gguf")
    assert told[-1].waits and told[-1].rate_bytes_per_s is None


@pytest.mark.parametrize("damaged", [False, True])
def test_where_nothing_is_stored_files_stay_in_memory_until_they_are_discarded(
    monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    js = ModuleType("js")
    js.Array = SimpleNamespace(new=Chunks)  # type: ignore[attr-defined]
    js.Blob = SimpleNamespace(new=lambda chunks: FakeBlob(b"".join(chunks)))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "js", js)

    async def fetch(file: WantedFile, writer: Any, digest: Any, meter: ProgressMeter, _: Any) -> None:
        digest.update(DATA[:-1] + b"!" if damaged else DATA)
        await writer.append(Chunk(DATA))

    monkeypatch.setattr(downloads, "_fetch", fetch)

    async def main() -> None:
        cache = FileCache(Home(MemoryFolder(), "switched off"), lambda reason: None)
        assert await cache.find(FILE) is None and await cache.done_bytes(FILE) == 0
        (blob,) = await cache.obtain([FILE], lambda how: None, no_answer)
        assert blob.data == DATA and await cache.find(FILE) is blob and await cache.done_bytes(FILE) == len(DATA)
        await cache.keep_only({FILE.key})
        assert await cache.find(FILE) is blob
        await cache.discard({FILE.key})
        assert await cache.find(FILE) is None

    if damaged:
        with pytest.raises(ModelError, match="was damaged on the way: its sha256 is"):
            asyncio.run(main())
    else:
        asyncio.run(main())


class Chunk(bytes):
    """A piece of an answer."""

    byteLength = property(len)


class Chunks(list):
    """A JavaScript array."""

    push = list.append
