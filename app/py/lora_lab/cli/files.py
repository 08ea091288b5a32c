"""Files that the command line writes and keeps: never half of one, and where what was fetched once lies."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lora_lab.cli.interrupt import interrupts


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError within it name a file: a disk that is full says none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it. Raises OSError naming it."""
    with naming(path), path.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows the names in a folder, where a system can be asked that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network disks refuse
        pass
    finally:
        os.close(descriptor)


@contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes `target`'s place only when it is whole."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    interrupts.unfinished.add(name)
    try:
        with naming(target), os.fdopen(handle, "wb") as out:
            yield out
        umask = os.umask(0)  # mkstemp gives 0600; the person expects what any other program would give
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
        interrupts.unfinished.discard(name)


def cache_folder() -> Path:
    """Return the person's folder for what can be fetched again, where the system has such ones. Made if missing."""
    from platformdirs import user_cache_path

    return user_cache_path("lora-lab", appauthor=False, ensure_exists=True)


def file_sha256(path: Path) -> str:
    """Return a file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
