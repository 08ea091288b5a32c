"""What the browser keeps: adapters, stopped runs, models of the site and of the hub; what the page is told of it."""

from __future__ import annotations

import asyncio

from lora_lab.workers.protocol import Notice, Storage
from lora_lab.workers.storage.adapter_shelf import AdapterStore
from lora_lab.workers.storage.checkpoints import RunStore
from lora_lab.workers.storage.downloads import FileCache
from lora_lab.workers.storage.export_sink import EXPORTS, empty
from lora_lab.workers.storage.folders import Folder, Home, open_home, storage_numbers
from lora_lab.workers.storage.hub_shelf import HubShelf
from lora_lab.workers.storage.tabs import join_tabs
from lora_lab.workers.wire.dispatch import Host


class Stores:
    """Opens the site's storage as soon as it is made. What it holds is there once `opened` has returned."""

    shelf: AdapterStore
    runs: RunStore
    cache: FileCache
    hub_shelf: HubShelf

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
        self.runs = RunStore(await home.folder.folder("runs"), home.run_locks)
        self.cache = FileCache(home, self._tell_trouble)
        self.hub_shelf = HubShelf(await home.folder.folder("hub"), self.cache)
        await join_tabs(home.locks, self._tidy)

    async def _tidy(self) -> None:
        await self.shelf.forget_deleted()
        await empty(await self.exports())
        for said in await self.shelf.mend():
            self._host.post(Notice(said))

    async def tell_storage(self) -> None:
        """Tell the page what is stored, and whether it stays."""
        home = await self._home
        used, quota, persistent = await storage_numbers()
        self._host.post(Storage(home.lasts, persistent, used, quota, home.reason))

    async def exports(self) -> Folder:
        """Return the folder for what is on its way to another program."""
        return await (await self._home).folder.folder(EXPORTS)

    async def room(self, wanted_bytes: int) -> str:
        """Return in words what there is room for, and what can be removed so that `wanted_bytes` fit."""
        used, quota, _ = await storage_numbers()
        adapters = await self.shelf.all()
        told = f"{_size(wanted_bytes)} are needed"
        if quota:
            told += f"; {_size(used)} of the {_size(quota)} that the browser allows are in use"
        held = sum(info.size_bytes for info in adapters)
        ways = []
        if adapters:
            ways.append(f"delete adapters below ({len(adapters)} of them take {_size(held)})")
        if used - held > wanted_bytes:
            ways.append(f"remove models in the browser's settings for this site (up to {_size(used - held)})")
        ways.append("make room on the disk")
        return f"{told}. To make room, {', or '.join(ways)}; the download can be added again then."

    def _tell_trouble(self, reason: str) -> None:
        self._host.post(Storage(False, reason=reason))


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
