"""Where bytes come from: a file on disk, bytes in memory, a browser's Blob, a URL. Only the part asked for is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from ..errors import LoraLabError
from ..javascript import JsError, call
from .part_names import part_names


class FileFormatError(LoraLabError):
    """A file is damaged, cut off, or not of the kind it should be."""


class ByteSource(Protocol):
    """Random access to the bytes of one file."""

    @property
    def name(self) -> str:
        """File name, perhaps with a folder part; used in errors and to tell config.json from model.safetensors."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""

    async def read(self, offset: int, length: int) -> memoryview:
        """Return exactly `length` bytes from `offset` on; LoraLabError when they are not there."""


def base_name(source: ByteSource) -> str:
    """Return the last component of a source's name, whichever slash its system uses."""
    return source.name.replace("\\", "/").rsplit("/", 1)[-1]


def check_range(source: ByteSource, offset: int, length: int) -> None:
    """Raise FileFormatError unless `length` bytes from `offset` on lie inside the source."""
    if offset < 0 or length < 0 or offset + length > source.size_bytes:
        raise FileFormatError(
            f"{source.name}: wanted {length} bytes at offset {offset}, but the file has {source.size_bytes} bytes"
        )


class BytesSource:
    """Bytes that are in memory already. Reading copies nothing."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str) -> None:
        self._data = memoryview(data).cast("B")
        self.name = name
        self.size_bytes = len(self._data)

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        return self._data[offset : offset + length]


class FileSource:
    """A file on disk. It is opened anew for each read, so nothing has to be closed."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
        try:
            self.size_bytes = self.path.stat().st_size
        except OSError as error:
            raise FileFormatError(f"{self.path}: cannot be opened: {error.strerror}") from error

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        buffer = bytearray(length)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                view, filled = memoryview(buffer), 0
                while filled < length:  # one raw read may return less than was asked for (2 GiB on Linux)
                    count = file.readinto(view[filled:])
                    if not count:
                        break
                    filled += count
        except OSError as error:
            raise FileFormatError(f"{self.path}: cannot be read: {error.strerror}") from error
        except OverflowError as error:  # Pyodide's C long, for files that Node has mounted
            raise FileFormatError(f"{self.path}: cannot be read beyond 2 GiB by this Python") from error
        if filled != length:
            raise FileFormatError(f"{self.path}: got {filled} bytes of {length} at offset {offset}; was the file cut?")
        return view


def sources_from_path(path: str | os.PathLike[str]) -> list[FileSource]:
    """Return what `open_model` takes of a path: a file, the parts beside it where it is one of several, or a folder.

    Of a folder all files that lie directly in it, named `folder/file`.
    """
    path = Path(path)
    if not path.is_dir():
        beside = [path.with_name(name) for name in part_names(path.name)]
        return [FileSource(file) for file in beside if file == path or file.is_file()]
    folder = path.resolve().name
    return [FileSource(file, f"{folder}/{file.name}") for file in sorted(path.iterdir()) if file.is_file()]


class BlobSource:
    """A JavaScript Blob or File, in Pyodide. Each read copies its slice once, into WebAssembly memory."""

    def __init__(self, js_blob: Any, name: str) -> None:
        self._blob = js_blob
        self.name = name
        self.size_bytes = int(js_blob.size)

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        try:
            js_buffer = await call(self._blob.slice(offset, offset + length), "arrayBuffer")
        except JsError as error:  # the file was moved, changed or deleted since it was chosen
            raise FileFormatError(f"{self.name}: cannot be read any more ({error}); choose it again") from error
        return _js_buffer_to_memoryview(js_buffer, self.name, length)


class UrlSource:
    """A file on a web server, in Pyodide: range by range where the server answers 206, else fetched whole once."""

    def __init__(
        self, url: str, name: str, size_bytes: int, whole: BlobSource | None = None, version: str | None = None
    ) -> None:
        self.url = url
        self.name = name
        self.size_bytes = size_bytes
        self._whole = whole
        self._version = version  # the ETag: ranges of two versions of a file must not be mixed

    @classmethod
    async def open(cls, url: str, name: str | None = None) -> UrlSource:
        """Ask the server for the first byte, and learn from its answer the size and whether ranges work."""
        name = name or url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        response = await _fetch(url, name, 0, 1, None)
        if response.status == 206:
            content_range = response.headers.get("Content-Range") or ""
            total = content_range.rpartition("/")[2]
            await call(response, "arrayBuffer")
            if not total.isdigit():
                raise FileFormatError(f"{name}: the server's Content-Range is {content_range!r}; wanted bytes 0-0/SIZE")
            return cls(url, name, int(total), None, response.headers.get("ETag"))
        if response.status == 416:  # no first byte: the file is empty
            return cls(url, name, 0)
        whole = BlobSource(await call(response, "blob"), name)
        return cls(url, name, whole.size_bytes, whole)

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        if self._whole is not None:
            return await self._whole.read(offset, length)
        if length == 0:
            return memoryview(b"")
        response = await _fetch(self.url, self.name, offset, length, self._version)
        if response.status != 206:
            raise FileFormatError(
                f"{self.name}: asked for a range, the server answered {response.status}; the file has changed there"
            )
        return _js_buffer_to_memoryview(await call(response, "arrayBuffer"), self.name, length)


async def _fetch(url: str, name: str, offset: int, length: int, version: str | None) -> Any:
    """Return the server's answer to a range request; FileFormatError when there is none, or an error status."""
    import js  # only in Pyodide
    from pyodide.ffi import to_js

    headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
    if version and not version.startswith("W/"):
        headers["If-Range"] = version
    options = {"headers": headers}
    try:
        response = await call(js, "fetch", url, to_js(options, dict_converter=js.Object.fromEntries))
    except JsError as error:  # no network, blocked, wrong address
        raise FileFormatError(f"{name}: cannot be fetched from {url} ({error})") from error
    if not response.ok and response.status != 416:
        raise FileFormatError(f"{name}: the server answered {response.status} for {url}")
    return response


def _js_buffer_to_memoryview(js_buffer: Any, name: str, length: int) -> memoryview:
    view: memoryview = js_buffer.to_memoryview()
    if len(view) != length:
        raise FileFormatError(f"{name}: got {len(view)} bytes where {length} were asked for")
    return view
