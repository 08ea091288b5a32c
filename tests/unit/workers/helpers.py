"""A train worker under CPython: the page's end is a list of events, its files are blobs of bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lora_lab.workers.protocol import Busy, Command, DatasetReady, Event, Failed, NamedBlob, OpenModel, TrainSettings
from lora_lab.workers.services import stores
from lora_lab.workers.storage.folders import Home, MemoryFolder
from lora_lab.workers.train_worker import TrainWorker
from lora_lab.workers.wire.codec import to_wire

E = TypeVar("E", bound=Event)
SETTINGS = TrainSettings(10, 8, 2e-4, 16, 32, 64, 0, ("q_proj", "v_proj"))


class FakeBlob:
    """A JavaScript Blob as far as the worker knows one. `reads` are the slices that were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.reads = data, len(data), []

    def slice(self, start: int, end: int) -> FakeBlob:
        self.reads.append((start, end))
        return FakeBlob(self.data[start:end])

    async def arrayBuffer(self) -> FakeBlob:
        await asyncio.sleep(0)
        return self

    def to_memoryview(self) -> memoryview:
        return memoryview(self.data)

    def to_bytes(self) -> bytes:
        return self.data


class GoneBlob(FakeBlob):
    """A file that was moved away after it was chosen."""

    async def arrayBuffer(self) -> FakeBlob:
        raise RuntimeError("NotReadableError")

    def slice(self, start: int, end: int) -> FakeBlob:
        return GoneBlob(self.data)


class Page:
    """What the page hears. Every event goes over the wire's rules."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.busy: list[str] = []  # what the worker said that it is busy with; no part of `events`
        self.busy_s: list[float] = []  # and for how long at most

    def post(self, event: Event) -> None:
        check_well_formed(to_wire(event))
        if isinstance(event, Busy):
            self.busy.append(event.what)
            self.busy_s.append(event.most_s)
        else:
            self.events.append(event)

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E:
        return self.all(kind)[-1]


def check_well_formed(value: Any) -> None:
    """Fail for a string that Pyodide's to_js could not turn into JavaScript's."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_well_formed(key)
            check_well_formed(item)
    elif isinstance(value, list):
        for item in value:
            check_well_formed(item)
    else:
        assert value is None or isinstance(value, (bool, int, float, bytes, FakeBlob)), type(value)


def named(name: str, data: bytes | str | Iterable[dict]) -> NamedBlob:
    """Return a file of these bytes, this text or these rows."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if not isinstance(data, bytes):
        data = "".join(json.dumps(row) + "\n" for row in data).encode()
    return NamedBlob(name, FakeBlob(data))


def pairs(count: int, start: int = 0) -> list[dict[str, str]]:
    """Return rows of growing length that say all different things."""
    return [
        {"prompt": f"Question {i}?", "completion": f"Answer {i}. " + "It is so. " * (i % 9)}
        for i in range(start, start + count)
    ]


class Session:
    """One worker and its page."""

    def __init__(self, folder: Path) -> None:
        self.page = Page()
        self.worker = TrainWorker(self.page)
        self._folder = folder

    async def send(self, command: Command) -> None:
        """Answer a command, and whatever it has begun."""
        await self.worker.answer(command)
        await self.settle()

    async def settle(self) -> None:
        """Wait for what runs in the background."""
        while self.worker.datasets.is_busy:
            await asyncio.sleep(0.001)

    async def open_model(self) -> None:
        """Open the tiny model, as files that were dropped."""
        files = [path for path in sorted(self._folder.iterdir()) if path.is_file()]
        await self.send(OpenModel(files=tuple(named(f"tiny/{path.name}", path.read_bytes()) for path in files)))

    @property
    def ready(self) -> DatasetReady:
        """The dataset as the page was last told of it."""
        return self.page.last(DatasetReady)


def failures(session: Session) -> list[str]:
    """Return what the page was told that has failed."""
    return [event.message for event in session.page.all(Failed)]


def drive(
    folder: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Session], Awaitable[None]], *, model: bool = True
) -> Session:
    """Run `work` with a session, its model open or not; nothing may fail that `work` does not look at."""

    async def open_home() -> Home:
        return Home(MemoryFolder())

    async def storage_numbers() -> tuple[int, int, bool]:
        return 0, 0, False

    monkeypatch.setattr(stores, "open_home", open_home)
    monkeypatch.setattr(stores, "storage_numbers", storage_numbers)

    async def main() -> Session:
        session = Session(folder)
        if model:
            await session.open_model()
        await work(session)
        return session

    return asyncio.run(main())
