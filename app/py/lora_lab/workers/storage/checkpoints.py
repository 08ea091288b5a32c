"""Runs that were not finished: a folder each, with the rows in tokens and two checkpoints, written in turn.

A file of the browser's private file system is written in place. So the newer of the two checkpoints is never touched
while the next one is written over the older: whatever the moment at which a tab, a worker or the browser dies, one of
them is whole, and its digest says so. Only the tab that holds the lock writes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from lora_lab.data.tokens.examples import Examples
from lora_lab.errors import CheckpointError, LoraLabError
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import FileFormatError
from lora_lab.train.checkpoint import Checkpoint, check_bytes, read_checkpoint
from lora_lab.workers.storage.folders import Folder
from lora_lab.workers.storage.tabs import Locks

ROWS = "rows.safetensors"
TRIES, TRY_AGAIN_S = 10, 0.05  # to get the lock
SLOTS = ("a.safetensors", "b.safetensors")


@dataclass(frozen=True)
class StoppedAt:
    """A run that can be gone on with."""

    id: str
    slot: str  # that holds the checkpoint
    checkpoint: Checkpoint


class RunStore:
    """Keeps the checkpoints of runs in a folder."""

    def __init__(self, folder: Folder, locks: Locks | None) -> None:
        self._folder, self._locks = folder, locks

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold what is kept here, and say whether it could be had: another tab may be training."""
        if self._locks is None:
            yield True
            return
        release, tries = None, TRIES
        while release is None and tries:  # a browser takes a moment to see that this very tab has given it back
            release = await self._locks.take("exclusive", if_available=True)
            tries -= 1
            if release is None and tries:
                await asyncio.sleep(TRY_AGAIN_S)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    async def newest(self) -> StoppedAt | None:
        """Return the run that was stopped last, at its last whole checkpoint; None where there is none."""
        found: list[StoppedAt] = []
        for id in await self._folder.names():
            folder = await self._folder.folder(id)
            names = await folder.names()
            whole = []
            for slot in SLOTS:
                if slot in names and ROWS in names:
                    with contextlib.suppress(CheckpointError, FileNotFoundError):  # it was being written
                        whole.append(StoppedAt(id, slot, read_checkpoint(await folder.read(slot), slot)))
            if whole:
                found.append(max(whole, key=lambda one: one.checkpoint.state.step))
        return max(found, key=lambda one: str(one.checkpoint.notes.get("saved_at", "")), default=None)

    async def rows(self, stopped: StoppedAt) -> tuple[Examples, Examples]:
        """Return a run's rows in tokens: those trained on, and those held back. CheckpointError if they are damaged."""
        try:
            data = await (await self._folder.folder(stopped.id)).read(ROWS)
            return rows_from_bytes(data)
        except (FileNotFoundError, FileFormatError, KeyError, ValueError) as error:
            raise CheckpointError(f"The rows of the stopped run cannot be read any more: {error}") from error

    async def forget(self, but: str | None = None) -> None:
        """Remove every run, but the one of this id."""
        for id in await self._folder.names():
            if id != but:
                await self._folder.delete(id)

    async def forget_one(self, id: str) -> None:
        """Remove a run."""
        await self._folder.delete(id)

    async def write(self, id: str, slot: str, data: bytes, rows: bytes | None) -> None:
        """Write a checkpoint of a run, and its rows where it is the first; read it back. LoraLabError if that fails."""
        folder = await self._folder.folder(id)
        if rows is not None:
            await folder.write(ROWS, rows)
        await folder.write(slot, data)
        check_bytes(await folder.read(slot), slot)


class KeptRun:
    """A run's own place in the store. `kept` is the step of its last checkpoint; 0: none."""

    def __init__(self, store: RunStore, stopped: StoppedAt | None = None) -> None:
        self._store = store
        self.id = stopped.id if stopped else secrets.token_hex(8)
        self.kept = stopped.checkpoint.state.step if stopped else 0
        self._slot = stopped.slot if stopped else SLOTS[1]

    async def keep(self, data: bytes, step: int, rows: bytes) -> None:
        """Write the checkpoint after `step` steps. LoraLabError if the browser refuses; the one before stays then."""
        slot = SLOTS[1 - SLOTS.index(self._slot)]
        try:
            await self._store.write(self.id, slot, data, None if self.kept else rows)
        except LoraLabError:
            if not self.kept:
                with contextlib.suppress(LoraLabError):  # the first error is the one to tell
                    await self._store.forget_one(self.id)
            raise
        first, self._slot, self.kept = not self.kept, slot, step
        if first:
            await self._store.forget(but=self.id)


def rows_to_bytes(trained: Examples, held: Examples) -> bytes:
    """Return a file of a run's rows in tokens."""
    arrays = {}
    for name, examples in (("trained", trained), ("held", held)):
        rows = [examples[i] for i in range(len(examples))]
        nothing = np.zeros(0, np.int32)
        arrays[f"{name}.tokens"] = np.concatenate([nothing, *(row.tokens for row in rows)]).astype(np.int32)
        arrays[f"{name}.targets"] = np.concatenate([nothing, *(row.trained for row in rows)]).astype(np.uint8)
        arrays[f"{name}.sizes"] = np.array([len(row.tokens) for row in rows], np.int64)
    return safetensors.write(arrays)


def rows_from_bytes(data: bytes) -> tuple[Examples, Examples]:
    """Return what `rows_to_bytes` was given. Raises FileFormatError, KeyError or ValueError."""
    arrays, _ = safetensors.read_arrays(data, ROWS)
    found = []
    for name in ("trained", "held"):
        tokens, targets, sizes = (arrays[f"{name}.{part}"] for part in ("tokens", "targets", "sizes"))
        if len(tokens) != len(targets) or len(tokens) != sizes.sum() or sizes.min(initial=0) < 0:
            raise ValueError(f"{len(tokens)} tokens, {len(targets)} targets, rows of {sizes.sum()}")
        chunks = [(tokens, targets.astype(np.bool_))]
        starts = np.cumsum(sizes) - sizes
        found.append(Examples(chunks, np.zeros(len(sizes), np.int64), starts, sizes))
    return found[0], found[1]
