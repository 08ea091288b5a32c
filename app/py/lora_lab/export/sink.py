"""Where results go, as seen from here: named files that are filled piece by piece, and that are all there or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import LoraLabError


@dataclass(frozen=True)
class NewFile:
    """A file that is to be written: its name, how long it will be, and its content, made anew by each call."""

    name: str
    size_bytes: int
    pieces: Callable[[], AsyncIterator[bytes]]

    @classmethod
    def of(cls, name: str, content: bytes) -> NewFile:
        """A small file whose content is there already."""

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        return cls(name, len(content), pieces)


class Sink(Protocol):
    """Takes files. Errors name what could not be written, and why."""

    async def begin(self, name: str, size_bytes: int) -> None:
        """Begin a file of that many bytes."""

    async def write(self, piece: bytes) -> None:
        """Append to the file that was begun last."""

    async def end(self) -> None:
        """The file is whole."""

    async def commit(self) -> None:
        """All files are whole: they take the place that was asked for."""

    async def abandon(self) -> None:
        """Remove everything that was begun. Also after an error; raises nothing."""


# Bytes that are written, and bytes in all.
Tell = Callable[[int, int], None]


async def write_files(files: Sequence[NewFile], sink: Sink, tell: Tell = lambda done, total: None) -> int:
    """Write all files, or none: cancelled or failed, it leaves nothing behind. Return the bytes written."""
    total, done = sum(file.size_bytes for file in files), 0
    try:
        for file in files:
            written = 0
            await sink.begin(file.name, file.size_bytes)
            async for piece in file.pieces():
                await sink.write(piece)
                written += len(piece)
                tell(done + written, total)
                await asyncio.sleep(0)  # a worker hears of a cancel in between
            if written != file.size_bytes:
                raise LoraLabError(f"{file.name} has {written:,} bytes; wanted {file.size_bytes:,}")
            await sink.end()
            done += written
        await sink.commit()
    except BaseException:
        await sink.abandon()
        raise
    return done
