"""Files of models: fetched once, checked, kept in the browser, and read from there.

A file is stored under its sha256. While it comes it is `<sha256>.part`; an interrupted one is continued with a range
request. Only a file whose digest was right gets the mark `<sha256>.ok`; a file without the mark is never used. When
the browser stores nothing, the file is kept in memory for as long as the page is open. Knows nothing of what the files
are of, and who has them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lora_lab.errors import LoraLabError, ModelError
from lora_lab.javascript import JsError, call
from lora_lab.workers.storage.folders import Home, OpfsFolder, StorageError, Writer, open_writer
from lora_lab.workers.storage.progress import Fetched, ProgressMeter
from lora_lab.workers.wire.tasks import quietly

ATTEMPTS = 5  # that bring nothing, in a row; each goes on where the last broke off
STALLED_S = 30  # without a byte: then the connection counts as broken
CHECK_CHUNK_BYTES = 4 << 20
BUSY = {408, 429, 500, 502, 503, 504}  # answers of a server that may have another in a moment


@dataclass(frozen=True)
class WantedFile:
    """A file of a model: its name, where it is fetched, and what it must be.

    Without a `sha256` the size is all there is to check, and `place`, which must name a version, is its identity.
    """

    path: str
    url: str
    size_bytes: int
    sha256: str | None
    place: str = ""

    @property
    def key(self) -> str:
        """What it is stored under."""
        return self.sha256 or hashlib.sha256((self.place or self.url).encode()).hexdigest()


# From an answer that is no success to what a person is told: the file, the status, and the headers X-Error-Code and
# X-Error-Message.
Answer = Callable[[WantedFile, int, str | None, str | None], LoraLabError]


class FileCache:
    """Fetches files and keeps them. `answer` words what a server says in place of a file."""

    def __init__(self, home: Home, on_trouble: Callable[[str], None]) -> None:
        self.home, self.on_trouble = home, on_trouble
        self._in_memory: dict[str, Any] = {}  # key -> Blob

    async def obtain(self, files: Iterable[WantedFile], tell: Callable[[Fetched], None], answer: Answer) -> list[Any]:
        """Return every file as a Blob, fetching what is not there yet. Cancelled, it leaves what has come."""
        wanted = list(files)
        meter = ProgressMeter(tell, sum(file.size_bytes for file in wanted))
        return [await self._obtain(file, meter, answer) for file in wanted]

    async def _obtain(self, file: WantedFile, meter: ProgressMeter, answer: Answer) -> Any:
        if file.key in self._in_memory:
            meter.skip(file.size_bytes, file.path)
            return self._in_memory[file.key]
        before = meter.done_bytes
        if (folder := await self._folder()) is not None:
            try:
                return await _stored(folder, file, meter, answer)
            except StorageError as error:
                self.on_trouble(f"The model is kept in memory only, and fetched again next time: {error}.")
                meter.done_bytes = before
        blob = await _in_memory(file, meter, answer)
        self._in_memory[file.key] = blob
        return blob

    async def find(self, file: WantedFile) -> Any | None:
        """Return a file that is there whole and was found good, as a Blob; None else. Nothing is fetched."""
        if file.key in self._in_memory:
            return self._in_memory[file.key]
        if (folder := await self._folder()) is None or f"{file.key}.ok" not in await folder.names():
            return None
        with suppress(FileNotFoundError):
            blob = await folder.blob(f"{file.key}.part")
            return blob if int(blob.size) == file.size_bytes else None
        return None

    async def done_bytes(self, file: WantedFile) -> int:
        """Return how much of a file is there already."""
        if file.key in self._in_memory:
            return file.size_bytes
        if (folder := await self._folder()) is not None:
            with suppress(FileNotFoundError):
                return min(file.size_bytes, int((await folder.blob(f"{file.key}.part")).size))
        return 0

    async def discard(self, keys: set[str]) -> None:
        """Delete the files that are stored under these."""
        for key in keys:
            self._in_memory.pop(key, None)
            if (folder := await self._folder()) is not None:
                await folder.delete(f"{key}.ok")
                await folder.delete(f"{key}.part")

    async def keep_only(self, keys: set[str]) -> None:
        """Delete every file that is stored under none of these."""
        for key in set(self._in_memory) - keys:
            del self._in_memory[key]
        if (folder := await self._folder()) is not None:
            for name in await folder.names():
                if name.split(".")[0] not in keys:
                    await folder.delete(name)

    async def _folder(self) -> OpfsFolder | None:
        if not isinstance(self.home.folder, OpfsFolder):
            return None
        with suppress(StorageError):
            return await self.home.folder.folder("models")
        return None


async def _stored(folder: OpfsFolder, file: WantedFile, meter: ProgressMeter, answer: Answer) -> Any:
    part, mark = f"{file.key}.part", f"{file.key}.ok"
    names = await folder.names()
    if mark in names and part in names:
        blob = await folder.blob(part)
        if int(blob.size) == file.size_bytes:
            meter.skip(file.size_bytes, file.path)
            return blob
        await folder.delete(mark)
    digest = hashlib.sha256()
    start = await _digest_stored(folder, part, file, digest) if part in names else 0
    writer = await open_writer(folder, part)
    try:
        if start != writer.size_bytes:  # longer than the file: it is not the file; or another tab writes it too
            await writer.start_over()
            digest = hashlib.sha256()
        meter.skip(writer.size_bytes, file.path)
        await _fetch(file, writer, digest, meter, answer)
    finally:
        await writer.close()
    if _is_wrong(file, digest):
        await folder.delete(part)
        raise _wrong_digest(file, digest.hexdigest())
    await folder.write(mark, b"")
    return await folder.blob(part)


async def _digest_stored(folder: OpfsFolder, part: str, file: WantedFile, digest: Any) -> int:
    """Feed what is already stored to `digest`; return its size, 0 when it cannot be the beginning of the file.

    StorageError when it cannot be read.
    """
    try:
        blob = await folder.blob(part)
        size = int(blob.size)
        if size > file.size_bytes:
            return 0
        for offset in range(0, size, CHECK_CHUNK_BYTES):
            chunk = await call(blob.slice(offset, min(size, offset + CHECK_CHUNK_BYTES)), "arrayBuffer")
            digest.update(chunk.to_memoryview())
    except (JsError, FileNotFoundError) as error:
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


async def _in_memory(file: WantedFile, meter: ProgressMeter, answer: Answer) -> Any:
    import js

    writer, digest = _MemoryWriter(), hashlib.sha256()
    await _fetch(file, writer, digest, meter, answer)
    if _is_wrong(file, digest):
        raise _wrong_digest(file, digest.hexdigest())
    return js.Blob.new(writer.chunks)


async def _fetch(file: WantedFile, writer: Writer, digest: Any, meter: ProgressMeter, answer: Answer) -> None:
    """Append the rest of a file to `writer`, going on after a broken connection."""
    tried, before = 0, writer.size_bytes
    while writer.size_bytes != file.size_bytes:
        try:
            await _fetch_rest(file, writer, digest, meter, answer)
            reason = f"it ended after {writer.size_bytes:,} of {file.size_bytes:,} bytes"
        except (JsError, _Busy) as error:
            reason = str(error)
        if writer.size_bytes == file.size_bytes:
            return
        tried, before = (1 if writer.size_bytes > before else tried + 1), writer.size_bytes
        if tried == ATTEMPTS:
            raise ModelError(
                f"The download of {file.path} broke off {ATTEMPTS} times: {reason}. Check the connection and try "
                "again; it goes on where it stopped."
            )
        meter.wait(file.path)
        await asyncio.sleep(2 ** (tried - 1))


class _Busy(Exception):
    """The server may have the file in a moment."""


async def _fetch_rest(file: WantedFile, writer: Writer, digest: Any, meter: ProgressMeter, answer: Answer) -> None:
    import js
    from pyodide.ffi import to_js

    # A plain range and no other header: a request to another origin is not preceded by one that asks for leave then.
    headers = {"Range": f"bytes={writer.size_bytes}-"} if writer.size_bytes else {}
    # What comes from elsewhere is kept once, and not in the browser's cache besides.
    cache = "no-store" if file.place else "default"
    abort = js.AbortController.new()
    options = {"headers": headers, "cache": cache, "referrerPolicy": "no-referrer", "credentials": "omit",
               "signal": abort.signal}  # fmt: skip
    watch = asyncio.ensure_future(quietly(lambda: _watch(file, writer, meter, abort)))
    try:
        response = await call(js, "fetch", file.url, to_js(options, dict_converter=js.Object.fromEntries))
        if int(response.status) in BUSY:
            raise _Busy(f"the server answered {response.status}")
        if not response.ok:
            raise answer(file, int(response.status), *error_headers(response))
        await _append_body(file, response, writer, digest, meter)
    except BaseException:
        abort.abort()  # who waits may be cancelled: nothing more shall come
        raise
    finally:
        watch.cancel()


async def _watch(file: WantedFile, writer: Writer, meter: ProgressMeter, abort: Any) -> None:
    """Tell how far a file is also while nothing comes, and give a connection up that has brought nothing for long."""
    before, still_s = writer.size_bytes, 0
    while still_s < STALLED_S:
        await asyncio.sleep(1)
        still_s = still_s + 1 if writer.size_bytes == before else 0
        before = writer.size_bytes
        meter.add(0, file.path)
    abort.abort()


def error_headers(response: Any) -> tuple[str | None, str | None]:
    """Return what the hub says of an error, where it says it: its code and its words."""
    return response.headers.get("X-Error-Code"), response.headers.get("X-Error-Message")


async def _append_body(file: WantedFile, response: Any, writer: Writer, digest: Any, meter: ProgressMeter) -> None:
    skip = 0 if response.status == 206 or not writer.size_bytes else writer.size_bytes  # a server without ranges
    reader = response.body.getReader()
    while not (part := await call(reader, "read")).done:
        chunk = part.value
        size = int(chunk.byteLength)
        if skip >= size:
            skip -= size
            continue
        if skip:
            chunk, skip = chunk.subarray(skip), 0
            size = int(chunk.byteLength)
        if writer.size_bytes + size > file.size_bytes:
            raise ModelError(f"{file.path} is longer than the {file.size_bytes:,} bytes that it should have.")
        digest.update(chunk.to_memoryview())
        await writer.append(chunk)
        meter.add(size, file.path)


def _is_wrong(file: WantedFile, digest: Any) -> bool:
    return file.sha256 is not None and digest.hexdigest() != file.sha256


def _wrong_digest(file: WantedFile, found: str) -> ModelError:
    return ModelError(
        f"{file.path} was damaged on the way: its sha256 is {found}; wanted {file.sha256}. It was thrown away: try "
        "again to fetch it anew."
    )
