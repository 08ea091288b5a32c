"""What the browser keeps: the shelf of adapters, the models of the site, and what the page is told of both."""

from __future__ import annotations

import asyncio

from lora_lab.workers.protocol import Storage
from lora_lab.workers.storage.adapter_shelf import AdapterStore
from lora_lab.workers.storage.downloads import ModelCache
from lora_lab.workers.storage.folders import Home, open_home, storage_numbers
from lora_lab.workers.storage.tabs import join_tabs
from lora_lab.workers.wire.dispatch import Host


class Stores:
    """Opens the site's storage as soon as it is made. `shelf` and `cache` are there once `opened` has returned."""

    shelf: AdapterStore
    cache: ModelCache

    def __init__(self, host: Host) -> None:
        self._host = host
        self._home: asyncio.Future[Home] = asyncio.ensure_future(open_home())
        self._opened: asyncio.Future[None] = asyncio.ensure_future(self._open())

    async def opened(self) -> None:
        """Wait until the storage is open."""
        await self._opened

    async def _open(self) -> None:
        home = await self._home
        self.shelf = AdapterStore(await home.folder.folder("adapters"))
        self.cache = ModelCache(home, self._host.post, self._tell_trouble)
        await join_tabs(home.locks, self.shelf.forget_deleted)

    async def tell_storage(self) -> None:
        """Tell the page what is stored, and whether it stays."""
        home = await self._home
        used, quota, persistent = await storage_numbers()
        self._host.post(Storage(home.lasts, persistent, used, quota, home.reason))

    def _tell_trouble(self, reason: str) -> None:
        self._host.post(Storage(False, reason=reason))
