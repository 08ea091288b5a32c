"""Folders that outlive the page: the browser's private file system (OPFS), or memory where that is refused.

Works in any browser that has OPFS: synchronous access handles in the worker where they exist, `createWritable` where
they do not. Nothing here needs SharedArrayBuffer or JSPI.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from lora_lab.errors import LoraLabError
from lora_lab.javascript import JsError, call, count, options
from lora_lab.workers.storage.tabs import RUN_LOCK, BrowserLocks, Locks

MOST_BYTES = 2**53 - 1  # that JavaScript can count


class StorageError(LoraLabError):
    """The browser refused to store or to give back a file."""


class FullError(StorageError):
    """There is no room for more."""


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
        found = []
        try:
            entries = await call(self.handle, "keys")
            while not (entry := await call(entries, "next")).done:
                found.append(str(entry.value))
        except JsError as error:
            raise StorageError(f"{self.handle.name} could not be listed: {error}") from error
        return sorted(found)

    async def blob(self, name: str) -> Any:
        """Return the file as a JavaScript File, to be read by parts. FileNotFoundError if there is none."""
        try:
            return await call(await call(self.handle, "getFileHandle", name), "getFile")
        except JsError as error:
            raise FileNotFoundError(name) from error

    async def read(self, name: str) -> bytes:
        blob = await self.blob(name)
        try:
            data: bytes = (await call(blob, "arrayBuffer")).to_bytes()
        except JsError as error:
            raise StorageError(f"{name} could not be read: {error}") from error
        if len(data) != int(blob.size):
            raise StorageError(f"{name} has {int(blob.size):,} bytes, of which {len(data):,} could be read")
        return data

    async def write(self, name: str, data: bytes) -> None:
        from pyodide.ffi import to_js

        writer = await open_writer(self, name)
        try:
            await writer.start_over()
            await writer.append(to_js(bytes(data)))
        except BaseException:
            with suppress(StorageError):  # the first error is the one to tell
                await writer.close()
            raise
        await writer.close()
        if (found := int((await self.blob(name)).size)) != len(data):
            raise StorageError(f"{name}: of {len(data):,} bytes the browser has kept {found:,}")

    async def delete(self, name: str) -> None:
        try:
            await call(self.handle, "removeEntry", name, options(recursive=True))
        except JsError as error:
            if error.name != "NotFoundError":
                raise StorageError(f"{name} could not be deleted: {error}") from error

    async def folder(self, name: str) -> OpfsFolder:
        try:
            return OpfsFolder(await call(self.handle, "getDirectoryHandle", name, options(create=True)))
        except JsError as error:
            raise _refused(f"the folder {name} could not be opened", error) from error


class Writer(Protocol):
    """Appends JavaScript byte arrays to a stored file, without a copy of them in Python. All raise StorageError."""

    size_bytes: int

    async def start_over(self) -> None: ...
    async def append(self, chunk: Any) -> None: ...
    async def close(self) -> None: ...


class SyncWriter:
    """Writes through a synchronous access handle (Chrome, Firefox, Safari; workers only)."""

    def __init__(self, access: Any, size_bytes: int) -> None:
        self.access, self.size_bytes = access, size_bytes

    @classmethod
    async def open(cls, access: Any) -> SyncWriter:
        try:
            size = count(await call(access, "getSize"), MOST_BYTES)
            if size is None:
                raise StorageError("the browser does not say how long a stored file is")
        except (JsError, StorageError) as error:
            with suppress(JsError):  # it locks the file until it is closed
                await call(access, "close")
            raise _refused("a stored file could not be opened", error) from error
        return cls(access, size)

    async def start_over(self) -> None:
        try:
            await call(self.access, "truncate", 0)
        except JsError as error:
            raise _refused("a stored file could not be emptied", error) from error
        self.size_bytes = 0

    async def append(self, chunk: Any) -> None:
        wanted = int(chunk.byteLength)
        try:
            written = await call(self.access, "write", chunk, options(at=self.size_bytes))
        except JsError as error:
            raise _refused("the browser refused to store more", error) from error
        if count(written, wanted) != wanted:
            raise FullError(f"the browser's storage for this site is full: it wrote {written} of {wanted:,} bytes")
        self.size_bytes += wanted

    async def close(self) -> None:
        try:
            await call(self.access, "flush")
        except JsError as error:
            raise _refused("the browser did not keep what was written", error) from error
        finally:
            with suppress(JsError):
                await call(self.access, "close")


class StreamWriter:
    """Writes through `createWritable`, whose changes take effect on close."""

    def __init__(self, stream: Any, size_bytes: int) -> None:
        self.stream, self.size_bytes = stream, size_bytes

    async def start_over(self) -> None:
        try:
            await call(self.stream, "truncate", 0)
        except JsError as error:
            raise _refused("a stored file could not be emptied", error) from error
        self.size_bytes = 0

    async def append(self, chunk: Any) -> None:
        try:
            await call(self.stream, "write", options(type="write", position=self.size_bytes, data=chunk))
        except JsError as error:
            raise _refused("the browser refused to store more", error) from error
        self.size_bytes += int(chunk.byteLength)

    async def close(self) -> None:
        try:
            await call(self.stream, "close")
        except JsError as error:
            raise _refused("the browser did not keep what was written", error) from error


async def open_writer(folder: OpfsFolder, name: str) -> Writer:
    """Open a stored file for appending, made if it is not there. StorageError if the browser refuses."""
    try:
        handle = await call(folder.handle, "getFileHandle", name, options(create=True))
        if hasattr(handle, "createSyncAccessHandle"):
            return await SyncWriter.open(await call(handle, "createSyncAccessHandle"))
        size = int((await call(handle, "getFile")).size)
        return StreamWriter(await call(handle, "createWritable", options(keepExistingData=True)), size)
    except JsError as error:
        raise _refused(f"{name} could not be opened for writing", error) from error


def _refused(what: str, error: JsError | StorageError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    kind = FullError if "quota" in f"{error.name} {error.message}".lower() else StorageError
    return kind(f"{what}: {error}")


@dataclass(frozen=True)
class Home:
    """Where this site may keep things. `folder` is memory when `reason` is not empty."""

    folder: Folder
    reason: str = ""
    locks: Locks | None = None  # between the tabs that share the folder
    run_locks: Locks | None = None  # of the one that trains

    @property
    def lasts(self) -> bool:
        """Whether what is written here outlives the page."""
        return not self.reason


async def open_home() -> Home:
    """Return the site's private folder; a folder in memory, and why, when the browser gives none."""
    import js

    try:
        root = OpfsFolder(await call(js.navigator.storage, "getDirectory"))
        home = await root.folder("lora-lab")
    except (JsError, AttributeError, StorageError) as error:
        return _memory(error)
    # Private windows of some browsers refuse only here. Another tab may be asking too: a name of its own.
    probe = f"probe-{js.crypto.randomUUID()}"
    try:
        await home.write(probe, b"can this be written?")
    except FullError:  # what is there can be read, and removed to make room
        pass
    except (FileNotFoundError, StorageError) as error:
        return _memory(error)
    with suppress(StorageError):
        await home.delete(probe)
    if not hasattr(js.navigator, "locks"):
        return Home(home)
    return Home(home, locks=BrowserLocks(), run_locks=BrowserLocks(RUN_LOCK))


def _memory(error: Exception) -> Home:
    return Home(MemoryFolder(), f"This browser lets the site store nothing ({str(error)[:120]}).")


async def storage_numbers() -> tuple[int, int, bool]:
    """Return bytes used, bytes allowed, and whether the browser has promised to keep them."""
    import js

    try:
        estimate = await call(js.navigator.storage, "estimate")
        persistent = bool(await call(js.navigator.storage, "persisted"))
        return int(estimate.usage), int(estimate.quota), persistent
    except (JsError, AttributeError):
        return 0, 0, False
