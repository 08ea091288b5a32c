"""Folders that outlive the page: the browser's private file system (OPFS), or memory where that is refused.

Works in any browser that has OPFS: synchronous access handles in the worker where they exist, `createWritable` where
they do not. Nothing here needs SharedArrayBuffer or JSPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from lora_lab.errors import LoraLabError
from lora_lab.workers.storage.tabs import BrowserLocks, Locks


class StorageError(LoraLabError):
    """The browser refused to store or to give back a file."""


class Folder(Protocol):
    """A place for small files and further folders."""

    async def names(self) -> list[str]:
        """Return the names of the files and folders inside, sorted."""

    async def read(self, name: str) -> bytes:
        """Return a file's content. FileNotFoundError if there is none."""

    async def write(self, name: str, data: bytes) -> None:
        """Create or replace a file. StorageError if the browser refuses."""

    async def delete(self, name: str) -> None:
        """Delete a file or a folder with all in it; nothing happens if it is not there."""

    async def folder(self, name: str) -> Folder:
        """Return a folder inside this one, made if it is not there. StorageError if the browser refuses."""


class MemoryFolder:
    """A folder that is gone with the page; also what the tests use."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, MemoryFolder] = {}

    async def names(self) -> list[str]:
        return sorted([*self.files, *self.folders])

    async def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    async def write(self, name: str, data: bytes) -> None:
        self.files[name] = bytes(data)

    async def delete(self, name: str) -> None:
        self.files.pop(name, None)
        self.folders.pop(name, None)

    async def folder(self, name: str) -> MemoryFolder:
        return self.folders.setdefault(name, MemoryFolder())


class OpfsFolder:
    """A folder of the browser's private file system."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle  # FileSystemDirectoryHandle

    async def names(self) -> list[str]:
        from pyodide.ffi import JsException

        found = []
        try:
            entries = self.handle.keys()
            while not (entry := await entries.next()).done:
                found.append(str(entry.value))
        except JsException as error:
            raise StorageError(f"{self.handle.name} could not be listed: {error}") from error
        return sorted(found)

    async def blob(self, name: str) -> Any:
        """Return the file as a JavaScript File, to be read by parts. FileNotFoundError if there is none."""
        from pyodide.ffi import JsException

        try:
            return await (await self.handle.getFileHandle(name)).getFile()
        except JsException as error:
            raise FileNotFoundError(name) from error

    async def read(self, name: str) -> bytes:
        return (await (await self.blob(name)).arrayBuffer()).to_bytes()

    async def write(self, name: str, data: bytes) -> None:
        from pyodide.ffi import to_js

        writer = await open_writer(self, name)
        try:
            await writer.start_over()
            await writer.append(to_js(bytes(data)))
        finally:
            await writer.close()

    async def delete(self, name: str) -> None:
        from pyodide.ffi import JsException

        try:
            await self.handle.removeEntry(name, recursive=True)
        except JsException as error:
            if error.name != "NotFoundError":
                raise StorageError(f"{name} could not be deleted: {error}") from error

    async def folder(self, name: str) -> OpfsFolder:
        from pyodide.ffi import JsException

        try:
            return OpfsFolder(await self.handle.getDirectoryHandle(name, create=True))
        except JsException as error:
            raise StorageError(f"the folder {name} could not be opened: {error}") from error


class Writer(Protocol):
    """Appends JavaScript byte arrays to a stored file, without a copy of them in Python."""

    size_bytes: int

    async def start_over(self) -> None: ...
    async def append(self, chunk: Any) -> None: ...
    async def close(self) -> None: ...


class SyncWriter:
    """Writes through a synchronous access handle (Chrome, Firefox, Safari; workers only)."""

    def __init__(self, access: Any) -> None:
        self.access = access
        self.size_bytes = int(access.getSize())

    async def start_over(self) -> None:
        self.access.truncate(0)
        self.size_bytes = 0

    async def append(self, chunk: Any) -> None:
        from pyodide.ffi import JsException

        try:
            written = int(self.access.write(chunk, at=self.size_bytes))
        except JsException as error:
            raise StorageError(f"the browser refused to store more: {error}") from error
        if written < chunk.byteLength:
            raise StorageError("the browser's storage for this site is full")
        self.size_bytes += written

    async def close(self) -> None:
        self.access.flush()
        self.access.close()


class StreamWriter:
    """Writes through `createWritable`, whose changes take effect on close."""

    def __init__(self, stream: Any, size_bytes: int) -> None:
        self.stream, self.size_bytes = stream, size_bytes

    async def start_over(self) -> None:
        await self.stream.truncate(0)
        self.size_bytes = 0

    async def append(self, chunk: Any) -> None:
        from pyodide.ffi import JsException

        try:
            await self.stream.write(type="write", position=self.size_bytes, data=chunk)
        except JsException as error:
            raise StorageError(f"the browser refused to store more: {error}") from error
        self.size_bytes += int(chunk.byteLength)

    async def close(self) -> None:
        await self.stream.close()


async def open_writer(folder: OpfsFolder, name: str) -> Writer:
    """Open a stored file for appending, made if it is not there. StorageError if the browser refuses."""
    from pyodide.ffi import JsException

    try:
        handle = await folder.handle.getFileHandle(name, create=True)
        if hasattr(handle, "createSyncAccessHandle"):
            return SyncWriter(await handle.createSyncAccessHandle())
        size = int((await handle.getFile()).size)
        return StreamWriter(await handle.createWritable(keepExistingData=True), size)
    except JsException as error:
        raise StorageError(f"{name} could not be opened for writing: {error}") from error


@dataclass(frozen=True)
class Home:
    """Where this site may keep things. `folder` is memory when `reason` is not empty."""

    folder: Folder
    reason: str = ""
    locks: Locks | None = None  # between the tabs that share the folder

    @property
    def lasts(self) -> bool:
        """Whether what is written here outlives the page."""
        return not self.reason


async def open_home() -> Home:
    """Return the site's private folder; a folder in memory, and why, when the browser gives none."""
    import js
    from pyodide.ffi import JsException

    try:
        root = OpfsFolder(await js.navigator.storage.getDirectory())
        home = await root.folder("lora-lab")
        # Private windows of some browsers refuse only here. Another tab may be asking too: a name of its own.
        probe = f"probe-{js.crypto.randomUUID()}"
        await home.write(probe, b"can this be written?")
        await home.delete(probe)
    except (JsException, AttributeError, StorageError) as error:
        return Home(MemoryFolder(), f"This browser lets the site store nothing ({str(error)[:120]}).")
    return Home(home, locks=BrowserLocks() if hasattr(js.navigator, "locks") else None)


async def storage_numbers() -> tuple[int, int, bool]:
    """Return bytes used, bytes allowed, and whether the browser has promised to keep them."""
    import js
    from pyodide.ffi import JsException

    try:
        estimate = await js.navigator.storage.estimate()
        persistent = bool(await js.navigator.storage.persisted())
        return int(estimate.usage), int(estimate.quota), persistent
    except (JsException, AttributeError):
        return 0, 0, False
