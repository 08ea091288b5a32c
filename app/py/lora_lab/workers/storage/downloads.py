"""The models that the site holds: fetched once, checked, kept in the browser, and read from there.

A file is stored under its sha256. While it comes it is `<sha256>.part`; an interrupted one is continued with a range
request. Only a file whose digest was right gets the mark `<sha256>.ok`; a file without the mark is never used. When
the browser stores nothing, the file is kept in memory for as long as the page is open.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lora_lab.errors import LoraLabError, ModelError
from lora_lab.formats.byte_source import ByteSource, UrlSource
from lora_lab.workers.protocol import ModelProgress, NamedBlob
from lora_lab.workers.storage.folders import Home, OpfsFolder, StorageError, Writer, open_writer
from lora_lab.workers.wire.host import fetch_bytes, site_url

ATTEMPTS = 4  # of one file, each going on where the last broke off
PROGRESS_EVERY_S = 0.1
CHECK_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class SiteFile:
    """One file of a model as models/index.json lists it. `path` counts from models/."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class SiteModel:
    """A model that the site holds."""

    id: str
    title: str
    files: tuple[SiteFile, ...]
    base_model: str | None = None  # its name on the Hugging Face hub, for adapter_config.json

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)


async def find_site_model(model_id: str | None) -> tuple[SiteModel, set[str]]:
    """Return the model with this id (None: the default), and the digests of all files the site holds."""
    index = json.loads(await fetch_bytes("models/index.json"))
    models = index["models"]
    if not models:
        raise ModelError(
            "This site was built without a model. Choose one of your own below: a .gguf file, or the "
            "files of a Hugging Face folder."
        )
    chosen = model_id or index["default"]
    if chosen not in models:
        raise ModelError(f"This site has no model called {chosen!r}. It has: {', '.join(sorted(models))}.")
    known = {file["sha256"] for model in models.values() for file in model["files"]}
    entry = models[chosen]
    files = tuple(SiteFile(file["path"], int(file["size_bytes"]), file["sha256"]) for file in entry["files"])
    return SiteModel(chosen, entry.get("title") or chosen, files, entry.get("base_model")), known


async def open_on_site(model: SiteModel) -> list[ByteSource]:
    """Return a model's files to be read where they are, range by range; nothing is fetched whole or kept."""
    return [await UrlSource.open(site_url(f"models/{file.path}"), file.path) for file in model.files]


class ProgressMeter:
    """Turns byte counts into ModelProgress events: not too many of them, with a rate over the last seconds."""

    def __init__(self, post: Callable[[ModelProgress], None], total_bytes: int) -> None:
        self.post, self.total_bytes = post, total_bytes
        self.done_bytes = 0
        self._history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=40)
        self._told = 0.0

    def add(self, size_bytes: int, file: str) -> None:
        """Count bytes of `file` that have come; tell the page if it was not told just now."""
        self.done_bytes += size_bytes
        now = time.monotonic()
        if now - self._told < PROGRESS_EVERY_S and self.done_bytes < self.total_bytes:
            return
        self._told = now
        self._history.append((now, self.done_bytes))
        (then, before), left = self._history[0], self.total_bytes - self.done_bytes
        rate = (self.done_bytes - before) / (now - then) if now > then else None
        left_ms = left / rate * 1000 if rate else None
        self.post(ModelProgress("download", self.done_bytes, self.total_bytes, rate, left_ms, file))


class ModelCache:
    """Fetches models of the site and keeps them."""

    def __init__(self, home: Home, post: Callable[[Any], None], on_trouble: Callable[[str], None]) -> None:
        self.home, self.post, self.on_trouble = home, post, on_trouble
        self._in_memory: dict[str, Any] = {}  # sha256 -> Blob

    async def files(self, model: SiteModel, known: set[str]) -> tuple[NamedBlob, ...]:
        """Return every file of a model as a Blob, fetching what is not there yet."""
        meter = ProgressMeter(self.post, model.size_bytes)
        blobs = [await self._file(model, file, meter) for file in model.files]
        await self._forget_all_but(known)
        return tuple(NamedBlob(file.path, blob) for file, blob in zip(model.files, blobs, strict=True))

    async def _file(self, model: SiteModel, file: SiteFile, meter: ProgressMeter) -> Any:
        if file.sha256 in self._in_memory:
            meter.add(file.size_bytes, file.path)
            return self._in_memory[file.sha256]
        url = site_url(f"models/{file.path}")
        before = meter.done_bytes
        if isinstance(self.home.folder, OpfsFolder):
            try:
                folder = await self.home.folder.folder("models")
                return await _stored(folder, file, url, meter)
            except StorageError as error:
                self.on_trouble(f"The model is kept in memory only, and fetched again next time: {error}.")
                meter.done_bytes = before
        blob = await _in_memory(file, url, meter)
        self._in_memory[file.sha256] = blob
        return blob

    async def _forget_all_but(self, known: set[str]) -> None:
        """Delete stored files that the site no longer has: older versions of its models."""
        if not isinstance(self.home.folder, OpfsFolder):
            return
        folder = await self.home.folder.folder("models")
        for name in await folder.names():
            if name.split(".")[0] not in known:
                await folder.delete(name)


async def _stored(folder: OpfsFolder, file: SiteFile, url: str, meter: ProgressMeter) -> Any:
    part, mark = f"{file.sha256}.part", f"{file.sha256}.ok"
    names = await folder.names()
    if mark in names and part in names:
        blob = await folder.blob(part)
        if int(blob.size) == file.size_bytes:
            meter.add(file.size_bytes, file.path)
            return blob
        await folder.delete(mark)
    digest = hashlib.sha256()
    start = await _digest_stored(folder, part, file, digest) if part in names else 0
    writer = await open_writer(folder, part)
    try:
        if start != writer.size_bytes:  # longer than the file: it is not the file; or another tab writes it too
            await writer.start_over()
            digest = hashlib.sha256()
        meter.add(writer.size_bytes, file.path)
        await _fetch(url, file, writer, digest, meter)
    finally:
        await writer.close()
    if digest.hexdigest() != file.sha256:
        await folder.delete(part)
        raise _wrong_digest(file, digest.hexdigest())
    await folder.write(mark, b"")
    return await folder.blob(part)


async def _digest_stored(folder: OpfsFolder, part: str, file: SiteFile, digest: Any) -> int:
    """Feed what is already stored to `digest`; return its size, 0 when it cannot be the beginning of the file.

    StorageError when it cannot be read.
    """
    from pyodide.ffi import JsException

    try:
        blob = await folder.blob(part)
        size = int(blob.size)
        if size > file.size_bytes:
            return 0
        for offset in range(0, size, CHECK_CHUNK_BYTES):
            chunk = await blob.slice(offset, min(size, offset + CHECK_CHUNK_BYTES)).arrayBuffer()
            digest.update(chunk.to_memoryview())
    except (JsException, FileNotFoundError) as error:
        raise StorageError(f"what is stored of {file.path} could not be read: {error}") from error
    return size


class _MemoryWriter:
    """Collects chunks for a Blob."""

    def __init__(self) -> None:
        import js

        self.chunks = js.Array.new()
        self.size_bytes = 0

    async def start_over(self) -> None:
        self.chunks.length = 0
        self.size_bytes = 0

    async def append(self, chunk: Any) -> None:
        self.chunks.push(chunk)
        self.size_bytes += int(chunk.byteLength)

    async def close(self) -> None: ...


async def _in_memory(file: SiteFile, url: str, meter: ProgressMeter) -> Any:
    import js

    writer, digest = _MemoryWriter(), hashlib.sha256()
    await _fetch(url, file, writer, digest, meter)
    if digest.hexdigest() != file.sha256:
        raise _wrong_digest(file, digest.hexdigest())
    return js.Blob.new(writer.chunks)


async def _fetch(url: str, file: SiteFile, writer: Writer, digest: Any, meter: ProgressMeter) -> None:
    """Append the rest of a file to `writer`, going on after a broken connection."""
    from pyodide.ffi import JsException

    for attempt in range(ATTEMPTS):
        if writer.size_bytes == file.size_bytes:
            return
        try:
            await _fetch_rest(url, file, writer, digest, meter)
        except JsException as error:
            if attempt == ATTEMPTS - 1:
                raise ModelError(
                    f"The download of {file.path} broke off {ATTEMPTS} times: {error}. Check the connection and "
                    "reload; it goes on where it stopped."
                ) from error
            await asyncio.sleep(2**attempt)
    if writer.size_bytes != file.size_bytes:
        raise ModelError(f"{file.path} has {writer.size_bytes:,} bytes; the site's index says {file.size_bytes:,}.")


async def _fetch_rest(url: str, file: SiteFile, writer: Writer, digest: Any, meter: ProgressMeter) -> None:
    import js

    headers = js.Headers.new()
    if writer.size_bytes:
        headers.set("Range", f"bytes={writer.size_bytes}-")
    response = await js.fetch(url, headers=headers)
    if not response.ok:
        raise LoraLabError(f"{file.path} could not be fetched: the server answered {response.status}.")
    skip = 0 if response.status == 206 or not writer.size_bytes else writer.size_bytes  # a server without ranges
    reader = response.body.getReader()
    while not (part := await reader.read()).done:
        chunk = part.value
        size = int(chunk.byteLength)
        if skip >= size:
            skip -= size
            continue
        if skip:
            chunk, skip = chunk.subarray(skip), 0
            size = int(chunk.byteLength)
        if writer.size_bytes + size > file.size_bytes:
            raise ModelError(f"{file.path} is longer than the {file.size_bytes:,} bytes of the site's index.")
        digest.update(chunk.to_memoryview())
        await writer.append(chunk)
        meter.add(size, file.path)


def _wrong_digest(file: SiteFile, found: str) -> ModelError:
    return ModelError(
        f"{file.path} was damaged on the way: its sha256 is {found}; wanted {file.sha256}. Reload to fetch it again."
    )
