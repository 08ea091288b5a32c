"""The conversations that stay: kept whole at any moment, hidden and brought back, and by no tab taken from another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lora_lab.errors import LoraLabError
from lora_lab.workers.protocol import AdapterUse, Conversation, KeptTurn, Sampling, Wording
from lora_lab.workers.storage import conversation_shelf
from lora_lab.workers.storage.conversation_shelf import FILE, ConversationStore
from lora_lab.workers.storage.folders import MemoryFolder, StorageError
from tests.unit.workers.test_tabs import FakeLocks

SHIPS = (AdapterUse("1", "Ships", 0.5),)
TALK = Conversation(
    "", "", Sampling(temperature=0.3, seed=7),
    (KeptTurn("user", (Wording("Where is the  lamp?\n"),)),
     KeptTurn("assistant", (Wording("Lost."), Wording("Up there.", SHIPS, (5, 6), "stop", 7)), 1)),
    system="Answer shortly.", adapters=SHIPS, fixed_seed=True, chat_format="chatml", model="SmolLM2",
)  # fmt: skip


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


def test_a_conversation_comes_back_as_it_was() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        kept = await ConversationStore(folder).keep(TALK)
        assert kept.title == "Where is the lamp?" and kept.revision == 1 and kept.id and kept.created_at
        found = await ConversationStore(folder).open(kept.id)
        assert found == kept
        assert replace(found, id="", title="", created_at="", updated_at="", revision=0) == TALK
        store = ConversationStore(folder)
        (info,) = await store.all()
        assert (info.id, info.title, info.turns, info.model, info.adapters) == (
            kept.id, "Where is the lamp?", 2, "SmolLM2", SHIPS,
        )  # fmt: skip
        longer = replace(found, turns=(*found.turns, KeptTurn("user", (Wording("Thanks"),))))
        again = await store.keep(longer)
        assert (again.id, again.revision, again.created_at) == (kept.id, 2, kept.created_at)
        assert await ConversationStore(folder).open(kept.id) == again
        assert [one.turns for one in await store.all()] == [3]

    run(work)


@pytest.mark.parametrize(
    ("title", "asked", "wanted"),
    [
        ("", "", "New conversation"),
        ("  My \n talk ", "x", "My talk"),
        ("", "word " * 40, "word " * 11 + "word…"),
        ("", "x" * 100, "x" * 60 + "…"),
        ("y" * 500, "", "y" * 120),
    ],
)
def test_every_conversation_has_a_title(title: str, asked: str, wanted: str) -> None:
    async def work() -> None:
        kept = await ConversationStore(MemoryFolder()).keep(
            replace(TALK, title=title, turns=(KeptTurn("user", (Wording(asked),)),))
        )
        assert kept.title == wanted

    run(work)


def test_the_last_written_stands_first_and_a_name_changes_no_place() -> None:
    async def work() -> None:
        store = ConversationStore(MemoryFolder())
        kept = []
        for name in "abc":
            kept.append(await store.keep(replace(TALK, title=name)))
            await asyncio.sleep(0.002)  # the clock of the dates goes in milliseconds
        assert [info.title for info in await store.all()] == ["c", "b", "a"]
        await store.rename(kept[0].id, " first ")
        await store.rename(kept[1].id, "  ")
        assert [info.title for info in await store.all()] == ["c", "b", "first"]
        await store.keep(replace(await store.open(kept[1].id), system=""))
        assert [info.title for info in await store.all()] == ["b", "c", "first"]

    run(work)


def test_a_deleted_one_comes_back_until_it_is_forgotten() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        store = ConversationStore(folder)
        kept = await store.keep(TALK)
        await store.all()
        assert (await store.delete(kept.id)).title == kept.title
        assert await store.all() == [] == await ConversationStore(folder).all()
        with pytest.raises(LoraLabError, match="not in the browser's storage"):
            await store.open(kept.id)
        assert await store.restore(kept.id) == kept and [one.id for one in await store.all()] == [kept.id]
        await store.delete(kept.id)
        await ConversationStore(folder).forget_deleted()
        assert await folder.names() == []
        with pytest.raises(LoraLabError, match="not in the browser's storage"):
            await store.restore(kept.id)
        assert await folder.names() == []

    run(work)


def test_two_tabs_take_nothing_from_each_other() -> None:
    async def work() -> None:
        folder, lock = MemoryFolder(), FakeLocks()
        here, there = ConversationStore(folder, lock), ConversationStore(folder, lock)
        kept = await here.keep(TALK)
        mine = replace(kept, system="mine")
        theirs = replace(await there.open(kept.id), system="theirs")
        first, second = await asyncio.gather(here.keep(mine), there.keep(theirs))
        assert (first.id, first.revision) == (kept.id, 2) and second.id != kept.id
        assert second.title == "Where is the lamp? (copy)" and second.revision == 1
        told = {(await here.open(one.id)).system for one in await here.all(anew=True)}
        assert told == {"mine", "theirs"} and lock.held == []
        # Another title is no other content.
        await there.rename(kept.id, "Lamps")
        assert (await here.keep(replace(first, title="Lamps", system="later"))).id == kept.id
        # One that was deleted elsewhere while it is written here is a new one, and can still be brought back there.
        await there.delete(kept.id)
        again = await here.keep(replace(first, revision=3))
        assert again.id != kept.id and (await there.restore(kept.id)).system == "later"

    run(work)


def test_a_death_in_the_middle_leaves_the_one_before_or_the_new_one() -> None:
    class Died(Exception):
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
        kept = await ConversationStore(folder).keep(TALK)
        whole = dict(folder.folders[kept.id].files)
        found = []
        for left in range(2 * len(whole[FILE]) + 40):
            mortal = Mortal()
            mortal.files, mortal.left = dict(whole), left
            folder.folders[kept.id] = mortal
            with contextlib.suppress(Died):
                await ConversationStore(folder).keep(replace(kept, system="Answer at length."))
            again = ConversationStore(folder)
            await again.forget_deleted()
            assert [info.id for info in await again.all()] == [kept.id]
            found.append((await again.open(kept.id)).system)
        assert set(found) == {"Answer shortly.", "Answer at length."}
        assert found == sorted(found, reverse=True)  # from the old to the new, once

    run(work)


def test_what_was_never_whole_is_removed_and_what_another_version_wrote_is_left_alone() -> None:
    async def work() -> None:
        folder = MemoryFolder()
        half, other, damaged = [await folder.folder(name) for name in ("half", "other", "damaged")]
        half.files[f"{FILE}.new"] = b'{"id": "half", "ti'
        other.files[FILE] = json.dumps({"id": "other", "of": "the future"}).encode()
        damaged.files[FILE] = b"\0\0\0"
        store = ConversationStore(folder)
        await store.forget_deleted()
        assert await store.all() == [] and await folder.names() == ["damaged", "other"]
        with pytest.raises(LoraLabError, match="not in the browser's storage"):
            await store.open("other")

    run(work)


def test_a_full_storage_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MemoryFolder):
        async def write(self, name: str, data: bytes) -> None:
            raise StorageError("full")

        async def folder(self, name: str) -> MemoryFolder:
            return self.folders.setdefault(name, Full())

    async def work() -> None:
        with pytest.raises(StorageError):
            await ConversationStore(full := Full()).keep(TALK)
        assert await full.names() == []
        folder = MemoryFolder()
        kept = await ConversationStore(folder).keep(TALK)
        full.folders[kept.id] = Full()
        full.folders[kept.id].files = dict(folder.folders[kept.id].files)
        with pytest.raises(StorageError):
            await ConversationStore(full).keep(replace(kept, system="x"))
        assert await ConversationStore(full).open(kept.id) == kept
        monkeypatch.setattr(conversation_shelf, "MAX_BYTES", 20)
        with pytest.raises(LoraLabError, match=r"has 49 characters; at most 20"):
            await ConversationStore(folder).keep(kept)
        assert await ConversationStore(folder).open(kept.id) == kept

    run(work)
