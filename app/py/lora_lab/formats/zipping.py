"""An adapter as one zip file, the way people pass them on. Nothing is ever written to disk from a zip's own paths."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..errors import AdapterError
from .adapter_folders import outermost

# An adapter of rank 256 for a model of 8 billion parameters in f32 has 2.7 GB, more than fits in WebAssembly anyway.
MAX_UNPACKED_BYTES = 1 << 30
MAX_ENTRIES = 10_000

# zipfile would read these too, but lets lzma's and bz2's own errors out where the data is damaged.
_OTHER_METHODS = {zipfile.ZIP_BZIP2: "BZIP2", zipfile.ZIP_LZMA: "LZMA", 93: "Zstandard", 99: "AES encryption"}


def unpack_adapter(data: bytes) -> dict[str, bytes]:
    """Return an adapter's files by bare name, from a zip that holds them at its top or in a folder.

    AdapterError when it is no zip, holds no adapter or several, is damaged or encrypted, or unpacks to more than
    MAX_UNPACKED_BYTES.
    """
    return unpack_with_remark(data)[0]


def unpack_with_remark(data: bytes) -> tuple[dict[str, bytes], str | None]:
    """The same, with a remark where others lie in folders inside the adapter's: checkpoints, say."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _unpack(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise AdapterError(f"the zip file is damaged or of an unknown kind: {error}") from error
    except RuntimeError as error:  # zipfile's way to say that an entry is encrypted
        raise AdapterError(f"the zip file cannot be opened: {error}") from error


def pack_adapter(files: Mapping[str, bytes], folder: str = "") -> bytes:
    """Return a zip of the files, inside `folder` if one is named. The same files give the same bytes.

    Stored, not compressed: trained weights do not shrink, and packing takes no time.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{folder}/{name}" if folder else name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _unpack(archive: zipfile.ZipFile) -> tuple[dict[str, bytes], str | None]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise AdapterError(f"the zip file has {len(entries)} entries; wanted an adapter's two to four")
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise AdapterError(f"the zip file has an entry {entry.filename!r} that points outside; wanted plain names")
    chosen, remark = outermost((entry.filename for entry in entries), "the zip file")
    wanted = set(chosen)

    files: dict[str, bytes] = {}
    room = MAX_UNPACKED_BYTES
    for entry in (entry for entry in entries if entry.filename in wanted):
        if _name(entry) in files:
            raise AdapterError(f"the zip file holds {entry.filename} twice")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
            raise AdapterError(f"{entry.filename} is packed with {method}; wanted it stored or deflated")
        # Never trust the size that the entry claims: stop reading where the room ends.
        with archive.open(entry) as file:
            content = file.read(room + 1) if entry.file_size <= room else None
        if content is None or len(content) > room:
            raise AdapterError(f"{entry.filename} unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB")
        room -= len(content)
        files[_name(entry)] = content
    return files, remark


def _name(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename.replace("\\", "/")).name
