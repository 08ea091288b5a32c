"""Where an export's files go in a browser: its private file system, a folder that a person has picked, or memory.

They are written piece by piece: only one piece is in the worker's memory at a time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from lora_lab.javascript import JsError, call, options
from lora_lab.workers.protocol import NamedBlob
from lora_lab.workers.storage.folders import (
    Folder,
    FullError,
    OpfsFolder,
    StorageError,
    StreamWriter,
    Writer,
    open_writer,
)

EXPORTS = "exports"  # the folder's name in the site's own
# Where the browser stores nothing, a file is made in memory; Python has 4 GB, and needs them for other things.
MOST_IN_MEMORY_BYTES = 300_000_000


class FolderSink:
    """Files in a folder. `picked`: it is the person's own, which has no synchronous handles and other files in it."""

    def __init__(self, folder: Folder, picked: bool = False) -> None:
        self._folder, self._picked = folder, picked
        self._begun: list[str] = []
        self._writer: Writer | None = None
        self._parts: list[bytes] = []

    async def begin(self, name: str, size_bytes: int) -> None:
        if isinstance(self._folder, OpfsFolder):
            if self._picked and name in await self._folder.names():
                raise StorageError(f"{name} is in this folder already; choose an empty one, or remove it first")
            self._begun.append(name)
            self._writer = await (_open_picked(self._folder, name) if self._picked else open_writer(self._folder, name))
            await self._writer.start_over()
            return
        if size_bytes > MOST_IN_MEMORY_BYTES:
            raise FullError(
                f"{name} will have {size_bytes / 1e6:,.0f} MB, and this browser lets the site store nothing; "
                "choose a folder to write to, or use lora-lab export on the command line"
            )
        self._begun.append(name)
        self._parts = []

    async def write(self, piece: bytes) -> None:
        if self._writer is None:
            self._parts.append(piece)
            return
        from pyodide.ffi import to_js

        try:
            await self._writer.append(to_js(piece))
        except FullError as error:
            raise FullError(f"{self._begun[-1]} could not be written: {error}") from error

    async def end(self) -> None:
        if self._writer is None:
            await self._folder.write(self._begun[-1], b"".join(self._parts))
            self._parts = []
            return
        writer, self._writer = self._writer, None
        await writer.close()

    async def commit(self) -> None: ...

    async def abandon(self) -> None:
        self._parts = []
        if self._writer is not None:
            with suppress(StorageError):
                await self._writer.close()
            self._writer = None
        for name in self._begun:
            with suppress(StorageError):
                await self._folder.delete(name)

    async def files(self) -> tuple[NamedBlob, ...]:
        """Return what was written, to be downloaded: references to what is stored, whatever its size."""
        if isinstance(self._folder, OpfsFolder):
            return tuple([NamedBlob(name, await self._folder.blob(name)) for name in self._begun])
        return tuple([NamedBlob(name, _blob(await self._folder.read(name))) for name in self._begun])


async def _open_picked(folder: OpfsFolder, name: str) -> Writer:
    try:
        handle = await call(folder.handle, "getFileHandle", name, options(create=True))
        return StreamWriter(await call(handle, "createWritable"), 0)
    except JsError as error:
        raise StorageError(f"{name} could not be opened for writing in the folder that was chosen: {error}") from error


def _blob(data: bytes) -> Any:
    import js
    from pyodide.ffi import to_js

    return js.Blob.new(js.Array.of(to_js(data)))


async def empty(folder: Folder) -> None:
    """Delete all that earlier exports have left."""
    for name in await folder.names():
        await folder.delete(name)
