"""What the browser keeps: opened at once, told of, and what is hidden forgotten only by a tab that is alone."""

from __future__ import annotations

import asyncio

import pytest

from lora_lab.workers.protocol import AdapterInfo, Storage
from lora_lab.workers.services import stores as store_service
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.adapter_shelf import AdapterStore
from lora_lab.workers.storage.folders import Home, MemoryFolder, StorageError
from tests.unit.workers.helpers import Page

INFO = AdapterInfo("", "Ships", "", "base", "ships.jsonl", 60, 10, 16, 32, ("q_proj",), 0)


def use(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    async def open_home() -> Home:
        return home

    async def storage_numbers() -> tuple[int, int, bool]:
        return 5, 100, True

    monkeypatch.setattr(store_service, "open_home", open_home)
    monkeypatch.setattr(store_service, "storage_numbers", storage_numbers)


@pytest.mark.parametrize("reason", ["", "This browser lets the site store nothing."])
def test_the_page_is_told_whether_it_lasts(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    use(monkeypatch, Home(MemoryFolder(), reason))
    page = Page()

    async def main() -> None:
        stores = Stores(page)
        await stores.opened()
        assert page.events == []
        await stores.tell_storage()
        stores.cache.on_trouble("The model is kept in memory only.")

    asyncio.run(main())
    assert page.events == [
        Storage(not reason, True, 5, 100, reason),
        Storage(False, reason="The model is kept in memory only."),
    ]


def test_what_was_hidden_is_gone_when_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = MemoryFolder()
    use(monkeypatch, Home(folder))

    async def main() -> None:
        before = AdapterStore(await folder.folder("adapters"))
        kept, hidden = [await before.add(INFO, {"adapter_model.safetensors": b"weights"}) for _ in range(2)]
        await before.delete(hidden.id)
        stores = Stores(Page())
        await stores.opened()
        assert [info.id for info in await stores.shelf.all()] == [kept.id]
        assert await stores.shelf.folder.names() == [kept.id]

    asyncio.run(main())


def test_a_storage_that_does_not_open_says_so_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(MemoryFolder):
        async def folder(self, name: str) -> MemoryFolder:
            raise StorageError(f"the folder {name} could not be opened")

    use(monkeypatch, Home(Refusing()))

    async def main() -> None:
        stores = Stores(Page())
        for _ in range(2):
            with pytest.raises(StorageError, match="the folder adapters"):
                await stores.opened()

    asyncio.run(main())
