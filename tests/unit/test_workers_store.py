"""Adapters that stay: kept, renamed, hidden and brought back, and never half there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lora_lab.errors import AdapterError
from lora_lab.workers.adapter_store import AdapterStore, zip_name
from lora_lab.workers.messages import AdapterInfo, SampleAnswer
from lora_lab.workers.storage import MemoryFolder, StorageError

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


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("Ships, 10 steps", "ships-10-steps-lora.zip"), ("…", "adapter-lora.zip"), ("a/../b", "a-b-lora.zip")],
)
def test_file_names_are_plain(name: str, wanted: str) -> None:
    assert zip_name(name) == wanted
