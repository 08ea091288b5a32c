"""Several tabs on one storage: one that starts takes nothing away from another that works."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from lora_lab.workers.protocol import AdapterInfo
from lora_lab.workers.services import stores
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.folders import Home, MemoryFolder
from lora_lab.workers.storage.tabs import Release, join_tabs
from tests.unit.workers.helpers import Page

INFO = AdapterInfo("", "Ships", "", "base", "ships.jsonl", 60, 10, 16, 32, ("q_proj",), 0)


class FakeLocks:
    """One lock of one browser, as `navigator.locks` hands it out."""

    def __init__(self) -> None:
        self.held: list[str] = []

    async def take(self, mode: Literal["exclusive", "shared"], *, if_available: bool = False) -> Release | None:
        while "exclusive" in self.held or (mode == "exclusive" and self.held):
            if if_available:
                return None
            await asyncio.sleep(0)
        self.held.append(mode)
        return lambda: self.held.remove(mode)


def test_only_a_tab_that_is_alone_does_it() -> None:
    async def main() -> None:
        locks, did = FakeLocks(), []

        async def start(tab: str) -> None:
            async def when_alone() -> None:
                assert locks.held == ["exclusive"]
                await asyncio.sleep(0.001)
                did.append(tab)

            await join_tabs(locks, when_alone)

        await asyncio.gather(start("a"), start("b"))
        await start("c")
        assert (did, locks.held) == (["a"], ["shared"] * 3)
        locks.held.clear()  # all tabs are closed
        await start("d")
        assert did == ["a", "d"]

    asyncio.run(main())


def test_what_fails_while_alone_keeps_nobody_out() -> None:
    async def main() -> None:
        locks = FakeLocks()

        async def fail() -> None:
            raise RuntimeError("storage")

        with pytest.raises(RuntimeError):
            await join_tabs(locks, fail)
        assert locks.held == []

    asyncio.run(main())


@pytest.mark.parametrize("knows_tabs", [True, False])
def test_a_tab_that_starts_leaves_what_another_is_writing(monkeypatch: pytest.MonkeyPatch, knows_tabs: bool) -> None:
    class SlowFolder(MemoryFolder):
        async def write(self, name: str, data: bytes) -> None:
            await asyncio.sleep(0.005)
            await super().write(name, data)

        async def folder(self, name: str) -> MemoryFolder:
            return self.folders.setdefault(name, SlowFolder())

    home = Home(SlowFolder(), locks=FakeLocks() if knows_tabs else None)

    async def open_home() -> Home:
        return home

    monkeypatch.setattr(stores, "open_home", open_home)

    async def main() -> None:
        first = Stores(Page())
        await first.opened()
        adding = asyncio.ensure_future(first.shelf.add(INFO, {"adapter_model.safetensors": b"weights"}))
        await asyncio.sleep(0.001)
        second = Stores(Page())
        await second.opened()
        assert not adding.done()
        kept = await adding
        files = await (await first.shelf.folder.folder(kept.id)).names()
        assert ("adapter_model.safetensors" in files) is knows_tabs  # without: the control

    asyncio.run(main())
