"""Runs that were stopped, in the browser's storage: whole at whatever byte the writing ends, and only one tab's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.data.tokens.examples import Examples, ExamplesBuilder
from lora_lab.errors import CheckpointError, LoraLabError
from lora_lab.train.checkpoint import Checkpoint, RunIdentity, checkpoint_bytes
from lora_lab.workers.storage.checkpoints import ROWS, KeptRun, RunStore, rows_from_bytes, rows_to_bytes
from lora_lab.workers.storage.folders import MemoryFolder, StorageError
from tests.unit.train.test_checkpoint import HERE, RUN, state
from tests.unit.workers.test_tabs import FakeLocks


class Died(BaseException):
    """The tab, the worker or the browser is gone."""


class MortalFolder(MemoryFolder):
    """Written in place, as a browser's files are; `left` bytes later it is the end, or the storage is full."""

    left: int | None = None
    error: type[BaseException] = Died

    async def write(self, name: str, data: bytes) -> None:
        if MortalFolder.left is not None:
            written = data[: MortalFolder.left]
            MortalFolder.left -= len(written)
            self.files[name] = bytes(written)
            if MortalFolder.left <= 0:
                raise self.error("the storage is full")
        self.files[name] = bytes(data)

    async def folder(self, name: str) -> MortalFolder:
        made = self.folders.setdefault(name, MortalFolder())
        assert isinstance(made, MortalFolder)
        made.error = self.error
        return made


def examples(*lengths: int, seed: int = 0) -> Examples:
    builder, rng = ExamplesBuilder(), np.random.default_rng(seed)
    for length in lengths:
        builder.add(rng.integers(0, 99, length).astype(np.int32), rng.random(length) < 0.5)
    return builder.build()


def file(step: int, saved_at: str = "2026") -> bytes:
    return checkpoint_bytes(Checkpoint(RunIdentity.of(**RUN), HERE, state(step), {"saved_at": saved_at}))


ROWS_FILE = rows_to_bytes(examples(5, 1, 9), examples(3))


@pytest.fixture(autouse=True)
def immortal() -> None:
    MortalFolder.left = None


async def newest_step(store: RunStore) -> int:
    found = await store.newest()
    if found is None:
        return 0
    await store.rows(found)
    return found.checkpoint.state.step


def test_rows_come_back_as_they_were() -> None:
    for trained, held in ((examples(5, 1, 9), examples(3)), (examples(2), examples()), (examples(4, 4).subset(np.array([1, 0])), examples(7, 2).cut(3))):  # fmt: skip  # noqa: E501
        for before, after in zip((trained, held), rows_from_bytes(rows_to_bytes(trained, held)), strict=True):
            assert len(before) == len(after)
            for one, other in zip(before, after, strict=True):
                assert one.tokens.tolist() == other.tokens.tolist()
                assert one.trained.tolist() == other.trained.tolist()


@pytest.mark.parametrize("error", [Died, StorageError])
def test_at_whatever_byte_it_ends_the_one_before_is_whole(error: type[BaseException]) -> None:
    """Over the third checkpoint of a run, which goes to the place of the first; and over the first of another run."""
    for is_new in (False, True):
        size = len(ROWS_FILE) * is_new + len(file(5))
        for left in range(0, size + 1, 7):

            async def work(left: int = left, is_new: bool = is_new, size: int = size) -> None:
                folder = MortalFolder()
                folder.error = error
                store = RunStore(folder, None)
                run = KeptRun(store)
                for step in (3, 4):
                    await run.keep(file(step), step, ROWS_FILE)
                if is_new:
                    run = KeptRun(store)
                MortalFolder.left = left
                try:
                    await run.keep(file(5, "2027"), 5, ROWS_FILE)
                except (Died, StorageError):
                    assert run.kept == (0 if is_new else 4)
                MortalFolder.left = None
                assert await newest_step(store) == (5 if left > size else 4)
                await run.keep(file(6, "2028"), 6, ROWS_FILE)  # and it can go on
                assert await newest_step(store) == 6
                assert len(await folder.names()) <= 1 + is_new

            asyncio.run(work())


def test_a_storage_that_changes_what_is_written_is_found_out() -> None:
    class Forgetful(MemoryFolder):
        async def read(self, name: str) -> bytes:
            return (await super().read(name))[:-1]

    async def work() -> None:
        folder = MemoryFolder()
        folder.folders["x"] = Forgetful()
        with pytest.raises(CheckpointError):
            await RunStore(folder, None).write("x", "a.safetensors", file(3), ROWS_FILE)

    asyncio.run(work())


def test_the_run_that_was_stopped_last_is_found_and_others_are_forgotten() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        store = RunStore(folder, None)
        assert await store.newest() is None
        for id, saved_at, step in (("old", "2025", 9), ("new", "2026", 4), ("broken", "2027", 7)):
            data = file(step, saved_at)
            await store.write(id, "a.safetensors", data, ROWS_FILE)
            if id == "broken":
                (await folder.folder(id)).files["a.safetensors"] = data[:-1]
        found = await store.newest()
        assert found is not None and (found.id, found.checkpoint.state.step) == ("new", 4)
        run = KeptRun(store, found)
        await run.keep(file(5), 5, b"")  # its rows are there
        assert sorted((await folder.folder("new")).files) == ["a.safetensors", "b.safetensors", ROWS]
        await KeptRun(store).keep(file(1), 1, ROWS_FILE)
        assert len(await folder.names()) == 1
        await store.forget()
        assert await folder.names() == []

    asyncio.run(work())


def test_damaged_rows_are_an_error() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        store = RunStore(folder, None)
        await store.write("x", "a.safetensors", file(3), ROWS_FILE)
        found = await store.newest()
        assert found is not None
        for data in (b"", ROWS_FILE[:-1], b"x" * 50):
            (await folder.folder("x")).files[ROWS] = data
            with pytest.raises(CheckpointError, match="rows of the stopped run cannot be read"):
                await store.rows(found)
        with pytest.raises(CheckpointError):
            await store.rows(replace(found, id="none"))

    asyncio.run(work())


def test_only_one_tab_holds_it() -> None:
    async def work() -> None:
        locks = FakeLocks()
        ours, theirs = RunStore(MemoryFolder(), locks), RunStore(MemoryFolder(), locks)
        async with ours.held() as first, theirs.held() as second:
            assert (first, second) == (True, False)
        async with theirs.held() as again:
            assert again
        assert issubclass(StorageError, LoraLabError)

    asyncio.run(work())
