"""A small file that is whole at any moment: every write, cut off at every byte, leaves the old content or the new."""

from __future__ import annotations

import asyncio
import json

import pytest

from lora_lab.errors import LoraLabError
from lora_lab.workers.storage.folders import MemoryFolder, StorageError
from lora_lab.workers.storage.whole_file import read_whole, write_whole

OLD, NEW = {"name": "old", "n": 1}, {"name": "the new one, longer than the old", "n": [2, 3]}


class Death(Exception):
    """The page is gone."""


class DyingFolder(MemoryFolder):
    """A folder whose page dies after so many bytes were written; emptying or deleting a file counts as one."""

    def __init__(self, bytes_left: int) -> None:
        super().__init__()
        self.left = bytes_left

    def _spend(self, wanted: int) -> int:
        given = min(wanted, self.left)
        self.left -= given
        return given

    async def write(self, name: str, data: bytes) -> None:
        if not self._spend(1):
            raise Death
        written = self._spend(len(data))
        self.files[name] = bytes(data[:written])  # it was emptied first
        if written < len(data):
            raise Death

    async def delete(self, name: str) -> None:
        if not self._spend(1):
            raise Death
        await super().delete(name)


def after_death(bytes_left: int, stored: dict[str, bytes], value: dict) -> tuple[dict[str, bytes], bool]:
    """Write `value` until death; return the files that are left, and whether the page lived through it."""
    folder = DyingFolder(bytes_left)
    folder.files = dict(stored)
    try:
        asyncio.run(write_whole(folder, "about.json", value))
    except Death:
        return folder.files, False
    return folder.files, True


def read(files: dict[str, bytes]) -> dict | None:
    folder = MemoryFolder()
    folder.files = dict(files)
    return asyncio.run(read_whole(folder, "about.json"))


def test_a_death_at_any_byte_leaves_one_of_the_two() -> None:
    before = {"about.json": json.dumps(OLD).encode()}
    found, deaths = [], 0
    for bytes_left in range(1000):
        files, lived = after_death(bytes_left, before, NEW)
        found.append(read(files))
        assert found[-1] in (OLD, NEW), (bytes_left, files)
        # and a second death, in the middle of the next write, changes nothing about that
        for more in range(0, 200, 7):
            assert read(after_death(more, files, {"third": 3})[0]) in (found[-1], {"third": 3})
        if lived:
            break
        deaths += 1
    assert deaths > 100 and found[0] == OLD and found[-1] == NEW and sorted(files) == ["about.json"]


def test_the_control_a_file_rewritten_in_place_is_lost() -> None:
    folder = DyingFolder(5)
    folder.files = {"about.json": json.dumps(OLD).encode()}
    with pytest.raises(Death):
        asyncio.run(folder.write("about.json", json.dumps(NEW).encode()))
    assert read(folder.files) is None


def test_a_full_store_leaves_the_one_before() -> None:
    class FullFolder(MemoryFolder):
        async def write(self, name: str, data: bytes) -> None:
            self.files[name] = data[:3]
            raise StorageError("full")

    folder = FullFolder()
    folder.files = {"about.json": json.dumps(OLD).encode()}
    with pytest.raises(LoraLabError):
        asyncio.run(write_whole(folder, "about.json", NEW))
    assert asyncio.run(read_whole(folder, "about.json")) == OLD
