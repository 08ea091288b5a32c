"""Adapters that stay: kept, renamed, hidden and brought back, and never half there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from lora_lab.errors import AdapterError
from lora_lab.formats import safetensors
from lora_lab.workers.protocol import AdapterInfo, SampleAnswer
from lora_lab.workers.storage import adapter_shelf
from lora_lab.workers.storage.adapter_shelf import AdapterStore, zip_name
from lora_lab.workers.storage.folders import FullError, MemoryFolder, OpfsFolder, StorageError

FILES = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}", "README.md": b"card"}


def info(name: str = "Ships, 10 steps") -> AdapterInfo:
    return AdapterInfo("", name, "", "base", "ships.jsonl", 60, 10, 16, 32, ("q_proj",), 0)


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_an_adapter_is_kept_with_all_that_belongs_to_it() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        kept = await AdapterStore(folder).add(info(), FILES)
        again = AdapterStore(folder)  # as after a reload
        assert await again.all() == [kept]
        assert await again.files(kept.id) == FILES
        assert kept.size_bytes == sum(map(len, FILES.values()))
        answers = (SampleAnswer("q", "a", "b"),)
        await again.keep_answers(kept.id, answers)
        assert (await again.info(kept.id)).sample_answers == answers

    run(work())


def test_an_adding_that_is_cut_off_leaves_all_of_the_adapter_or_nothing() -> None:
    """Never its weights without its curves, as a "Recovered adapter" beside the run that can still be gone on with."""

    class Died(BaseException):
        pass

    class Mortal(MemoryFolder):
        left = 0

        async def write(self, name: str, data: bytes) -> None:
            self._live()
            await super().write(name, data)

        async def delete(self, name: str) -> None:
            self._live()
            await super().delete(name)

        async def folder(self, name: str) -> MemoryFolder:
            return self.folders.setdefault(name, Mortal())

        @classmethod
        def _live(cls) -> None:
            Mortal.left -= 1
            if Mortal.left < 0:
                raise Died

    peft = {
        "adapter_model.safetensors": safetensors.write({"a.lora_A.weight": np.ones((2, 2), np.float32)}),
        "adapter_config.json": b'{"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}',
    }

    async def work(moments: int) -> str:
        folder = Mortal()
        Mortal.left = moments
        with contextlib.suppress(Died):
            await AdapterStore(folder).add(info(), peft)
        Mortal.left = 100
        store = AdapterStore(folder)  # as after a reload
        await store.forget_deleted()
        assert await store.mend() == []
        found = await store.all()
        if not found:
            assert await folder.names() == []
            return "nothing"
        assert [one.dataset for one in found] == ["ships.jsonl"] and await store.files(found[0].id) == peft
        assert "adding" not in await (await folder.folder(found[0].id)).names()
        return "all"

    states = [run(work(moments)) for moments in range(12)]
    assert states.count("nothing") > 3 and states[-1] == "all"
    assert states == sorted(states, reverse=True)  # once it is there it stays


def test_a_rename_that_is_cut_off_at_any_byte_hides_no_adapter() -> None:
    """Its files are written in place; the tab dies after so many bytes of what a rename writes."""

    class Died(BaseException):
        pass

    class Mortal(MemoryFolder):
        left = 0

        async def write(self, name: str, data: bytes) -> None:
            self.files[name] = data[: self.left]
            self.left -= len(data)
            if self.left <= 0:
                raise Died

    async def work() -> None:
        folder = MemoryFolder()
        kept = await AdapterStore(folder).add(info(), FILES)
        whole = dict(folder.folders[kept.id].files)
        size = len(whole["lora-lab.json"]) + len("renamed")
        names = []
        for left in range(2 * size + 2):
            folder.folders[kept.id] = Mortal()
            folder.folders[kept.id].files = dict(whole)
            folder.folders[kept.id].left = left  # type: ignore[attr-defined]
            with contextlib.suppress(Died):
                await AdapterStore(folder).rename(kept.id, f"{kept.name} renamed")
            again = AdapterStore(folder)
            await again.forget_deleted()
            (found,) = await again.all()
            assert await again.files(kept.id) == FILES
            names.append(found.name)
        assert set(names) == {kept.name, f"{kept.name} renamed"}

    run(work())


def test_names_stay_apart() -> None:
    async def work() -> None:
        store = AdapterStore(MemoryFolder())
        names = [(await store.add(info(), FILES)).name for _ in range(3)]
        assert names == ["Ships, 10 steps", "Ships, 10 steps (2)", "Ships, 10 steps (3)"]
        first = (await store.all())[-1]
        assert (await store.rename(first.id, "  New \n name ")).name == "New name"
        assert (await store.rename(first.id, "   ")).name == "New name"  # an empty name changes nothing
        assert len((await store.rename(first.id, "x" * 500)).name) == 80

    run(work())


def test_the_newest_stands_first_also_of_those_kept_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        """A clock that does not go on, as a browser's stands still for a while."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(adapter_shelf, "datetime", Stopped)

    async def work() -> None:
        store = AdapterStore(MemoryFolder())
        names = [f"number {number}" for number in range(8)]  # their ids are in this order in 1 of 40,320 runs
        for name in names:
            await store.add(info(name), FILES)
        assert [kept.name for kept in await store.all()] == names[::-1]

    run(work())


def test_deleting_can_be_undone_until_the_next_start() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        store = AdapterStore(folder)
        one, two = await store.add(info("one"), FILES), await store.add(info("two"), FILES)
        await store.delete(one.id)
        assert [kept.name for kept in await store.all()] == ["two"]
        with pytest.raises(AdapterError):
            await store.files(one.id)
        await store.restore(one.id)
        assert await store.files(one.id) == FILES
        await store.delete(two.id)
        await AdapterStore(folder).forget_deleted()
        assert await folder.names() == [one.id]

    run(work())


def test_a_full_storage_leaves_no_half_adapter() -> None:
    class FullFolder(MemoryFolder):
        async def write(self, name: str, data: bytes) -> None:
            if name == "adapter_model.safetensors":
                raise StorageError("full")
            await super().write(name, data)

        async def folder(self, name: str) -> MemoryFolder:
            return self.folders.setdefault(name, FullFolder())

    async def work() -> None:
        folder = FullFolder()
        with pytest.raises(StorageError):
            await AdapterStore(folder).add(info(), FILES)
        assert await folder.names() == []

    run(work())


class SlowFolder(MemoryFolder):
    """A folder whose files can be opened for writing once at a time, as the browser's, and take a while."""

    def __init__(self) -> None:
        super().__init__()
        self.writing: set[str] = set()

    async def read(self, name: str) -> bytes:
        await asyncio.sleep(0)
        return await super().read(name)

    async def write(self, name: str, data: bytes) -> None:
        if name in self.writing:
            raise StorageError(f"{name} could not be opened for writing")
        self.writing.add(name)
        await asyncio.sleep(0)
        await super().write(name, data)
        self.writing.discard(name)

    async def folder(self, name: str) -> MemoryFolder:
        return self.folders.setdefault(name, SlowFolder())


def test_two_changes_at_once_are_both_kept() -> None:
    async def work() -> None:
        store = AdapterStore(SlowFolder())
        kept, other = await asyncio.gather(store.add(info(), FILES), store.add(info(), FILES))
        assert kept.name != other.name
        answers = (SampleAnswer("q", "a", "b"),)
        await asyncio.gather(store.rename(kept.id, "New name"), store.keep_answers(kept.id, answers))
        now = await store.info(kept.id)
        assert (now.name, now.sample_answers) == ("New name", answers)
        await asyncio.gather(store.delete(kept.id), store.restore(kept.id), store.rename(kept.id, "Newer"))
        assert (await store.info(kept.id)).name == "Newer"

    run(work())


def test_a_folder_that_cannot_be_forgotten_stops_nothing() -> None:
    class LockedFolder(MemoryFolder):
        async def delete(self, name: str) -> None:
            if name == "a":
                raise StorageError("another tab has it open")
            await super().delete(name)

        async def folder(self, name: str) -> MemoryFolder:
            if name == "b":
                raise StorageError("it is gone")
            return await super().folder(name)

    async def work() -> None:
        folder = LockedFolder()
        for name in "abc":
            folder.folders[name] = MemoryFolder()
        store = AdapterStore(folder)
        await store.forget_deleted()
        assert await folder.names() == ["a", "b"]
        assert await store.all() == []

    run(work())


def test_what_the_browser_refuses_is_an_error_of_ours() -> None:
    class QuotaExceededError(Exception): ...

    class NotFoundError(Exception): ...

    class Handle:
        name = "adapters"

        async def getDirectoryHandle(self, name: str, options: dict) -> Any:
            raise QuotaExceededError("no room")

        def keys(self) -> Any:
            raise NotFoundError("gone")

    with pytest.raises(FullError, match="new could not be opened: QuotaExceededError"):
        run(OpfsFolder(Handle()).folder("new"))
    with pytest.raises(StorageError, match="adapters could not be listed: NotFoundError"):
        run(OpfsFolder(Handle()).names())


def test_what_another_version_wrote_is_neither_shown_nor_lost() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        strange = await folder.folder("strange")
        await strange.write("lora-lab.json", b'{"a field of the future": 1}')
        store = AdapterStore(folder)
        await store.forget_deleted()
        assert await store.all() == []
        assert await folder.names() == ["strange"]

    run(work())


@pytest.mark.parametrize("left", [b"", b'{"id": "1", "name": "Sh', None])
def test_an_adapter_outlives_what_was_known_of_it(left: bytes | None) -> None:
    weights = safetensors.write({"a": np.ones((2, 2), np.float32)}, {})
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "owner/base"}
    peft = {"adapter_model.safetensors": weights, "adapter_config.json": json.dumps(config).encode()}

    async def work() -> None:
        folder = MemoryFolder()
        store = AdapterStore(folder)
        kept, other = await store.add(info(), peft), await store.add(info("other"), FILES)
        inside = folder.folders[kept.id].files
        if left is None:
            del inside["lora-lab.json"]
        else:
            inside["lora-lab.json"] = left
        assert [one.id for one in await store.all()] == [other.id]  # hidden, until it is mended
        await store.forget_deleted()
        (said,) = await store.mend()
        assert "Recovered adapter" in said
        found = await store.info(kept.id)
        assert (found.rank, found.alpha, found.targets, found.base_model) == (2, 4.0, ("q_proj",), "owner/base")
        assert await store.files(kept.id) == peft and await store.mend() == []
        # the control: weights that are not whole are no adapter
        inside["lora-lab.json"], inside["adapter_model.safetensors"] = b"", weights[:-1]
        (said,) = await store.mend()
        assert "damaged" in said and [one.id for one in await store.all()] == [other.id]

    run(work())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("Ships, 10 steps", "ships-10-steps-lora.zip"), ("…", "adapter-lora.zip"), ("a/../b", "a-b-lora.zip")],
)
def test_file_names_are_plain(name: str, wanted: str) -> None:
    assert zip_name(name) == wanted
