"""Where things lie, how a file is written so that no half of it is ever trusted, and how the build speaks."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
CHUNK_BYTES = 1 << 20


class BuildError(Exception):
    """Something a person can mend. The message says what is wrong and what to do; it is printed without a traceback."""


def say(message: str) -> None:
    """Print one line about what the build does, at once."""
    print(message, flush=True)


def program_module(name: str) -> ModuleType:
    """Return a module of lora_lab, one that needs nothing but Python, from the working tree: nothing is installed."""
    package = str(ROOT / "app" / "py")
    if package not in sys.path:
        sys.path.append(package)
    return importlib.import_module(f"lora_lab.{name}")


def program_settings() -> ModuleType:
    """Return lora_lab.settings, the table of every setting."""
    return program_module("settings")


def setting_schema() -> ModuleType:
    """Return lora_lab.setting_schema: what a setting is, and how its values are said."""
    return program_module("setting_schema")


def commit() -> str:
    """Return the project's commit, with a plus where files differ from it; "unknown" where there is no git."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=8", "--dirty=+", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "unknown"
    return "unknown"


@contextlib.contextmanager
def atomic_writer(target: Path) -> Iterator[BinaryIO]:
    """Open a new file beside `target` that becomes `target` only when the block ends well.

    A process that dies in between leaves a `.partial-…` file, which nothing ever reads, and the old target untouched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_partials(target.parent)
    handle, name = tempfile.mkstemp(prefix=f"{target.name}.partial-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600, which a web server run by somebody else could not read
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale_partials(folder: Path, older_than_s: float = 3600.0) -> None:
    """Remove what killed builds left in `folder`. Young ones stay: another build may be writing them."""
    for path in folder.glob("*.partial-*"):
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def write_bytes(target: Path, content: bytes) -> None:
    """Write a whole file, or leave the old one as it was."""
    with atomic_writer(target) as out:
        out.write(content)


def hash_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(paths: list[Path]) -> str:
    """Return one sha256 for the names and contents of files and of everything in folders (byte code left out)."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT).as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


class FileHashes:
    """sha256 of files, remembered by size and modification time, so that a second build reads no large file again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.known: dict[str, list] = {}
        with contextlib.suppress(OSError, ValueError):
            self.known = json.loads(store.read_text())

    def sha256(self, path: Path) -> str:
        stat = path.stat()
        entry = self.known.get(str(path))
        if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            entry = [stat.st_size, stat.st_mtime_ns, hash_file(path)]
            self.known[str(path)] = entry
        return entry[2]

    def learn(self, path: Path, sha256: str) -> None:
        """Take the word of the caller, who has just written these bytes."""
        stat = path.stat()
        self.known[str(path)] = [stat.st_size, stat.st_mtime_ns, sha256]

    def save(self) -> None:
        """Keep what is known of the files that still exist."""
        self.known = {path: entry for path, entry in self.known.items() if Path(path).exists()}
        write_bytes(self.store, json.dumps(self.known).encode())


class Progress:
    """A download's progress: one line that is rewritten on a terminal, a line every quarter elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.terminal = sys.stdout.isatty()
        self.shown = -1
        self.open_line = False

    def update(self, done_bytes: int, total_bytes: int | None) -> None:
        if not total_bytes:
            return
        percent = min(100, done_bytes * 100 // total_bytes)
        step = percent if self.terminal else percent // 25
        if step == self.shown:
            return
        self.shown = step
        text = f"  {self.label}: {percent:3d} % of {total_bytes / 2**20:.1f} MiB"
        if self.terminal:
            self.open_line = True
            print(f"\r{text}", end="", flush=True)
        else:
            say(text)

    def close(self) -> None:
        if self.open_line:
            print(flush=True)
        self.open_line = False
