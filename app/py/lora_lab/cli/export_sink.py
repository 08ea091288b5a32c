"""Where exports go natively: put together beside their place and moved there when all of them are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lora_lab.cli.files import naming, sync_folder
from lora_lab.cli.interrupt import interrupts
from lora_lab.errors import LoraLabError
from lora_lab.export.plan import Export

NEW = ".lora-lab-export"


class DiskSink:
    """A new folder, or with `one_file` a new file, at `out`. Nothing is at `out` until `commit`; then all is."""

    def __init__(self, out: Path, one_file: bool) -> None:
        self._out, self._one_file = out, one_file
        parent = out.resolve().parent
        with naming(parent):
            parent.mkdir(parents=True, exist_ok=True)
            self._stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=NEW, dir=parent))
        interrupts.unfinished.add(str(self._stage))
        self._file: IO[bytes] | None = None
        self._path = self._stage

    async def begin(self, name: str, size_bytes: int) -> None:
        self._path = self._stage / name
        with naming(self._path):
            self._file = self._path.open("wb")

    async def write(self, piece: bytes) -> None:
        assert self._file is not None, "begun before"
        with self._telling():
            self._file.write(piece)

    async def end(self) -> None:
        assert self._file is not None, "begun before"
        with self._telling():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    async def commit(self) -> None:
        target = self._out.resolve()
        umask = os.umask(0)  # mkdtemp gives 0700; the person expects what any other program would give
        os.umask(umask)
        with naming(target):
            if self._out.exists():  # meanwhile
                raise LoraLabError(f"{self._out} is there already")
            if self._one_file:
                self._path.rename(target)
                self._remove()
            else:
                self._stage.chmod(0o777 & ~umask)
                self._stage.rename(target)
            sync_folder(target.parent)
        interrupts.unfinished.discard(str(self._stage))

    async def abandon(self) -> None:
        self._remove()
        interrupts.unfinished.discard(str(self._stage))

    def _remove(self) -> None:
        if self._file is not None and not self._file.closed:
            with suppress(OSError):  # what is still in its buffer finds no room either
                self._file.close()
        shutil.rmtree(self._stage, ignore_errors=True)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Have an OSError within it name what was to be written, not the place where it is put together."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._out if self._one_file else self._out / self._path.name)
            raise


def check_place(out: Path, planned: Export) -> None:
    """Raise LoraLabError where something is at `out` already, or the disk has no room. Writes nothing."""
    if out.exists() or out.is_symlink():
        raise LoraLabError(f"--out {out} is there already; name another, or remove it first")
    folder = next(one for one in out.resolve().parents if one.exists())
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < planned.size_bytes:
        raise LoraLabError(
            f"--out {out}: the disk has {free_bytes / 1e6:,.1f} MB free; this export takes "
            f"{planned.size_bytes / 1e6:,.1f} MB. Make room, name another disk, or choose a smaller --form"
        )
