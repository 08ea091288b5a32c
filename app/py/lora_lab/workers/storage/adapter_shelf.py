"""The adapters that stay: one folder each, PEFT's files as they are exported, and a `lora-lab.json` about the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from lora_lab.errors import AdapterError
from lora_lab.workers.protocol import AdapterInfo, SampleAnswer
from lora_lab.workers.storage.folders import Folder
from lora_lab.workers.wire.codec import from_dict, to_dict

ABOUT = "lora-lab.json"
DELETED = "deleted"
MAX_NAME_LENGTH = 80


class AdapterStore:
    """Keeps adapters in a folder. Deleting hides; `forget_deleted` removes for good."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._changing = asyncio.Lock()  # one change at a time: it is read, changed and written

    async def all(self) -> list[AdapterInfo]:
        """Return every adapter that is not deleted, newest first. A folder that cannot be read is passed over."""
        found = [await self._about(id) for id in await self.folder.names()]
        shown = [info for info in found if info is not None]
        return sorted(shown, key=lambda info: (info.created_at, info.id), reverse=True)

    async def add(self, info: AdapterInfo, files: dict[str, bytes]) -> AdapterInfo:
        """Keep an adapter under a fresh id and a name that no other has; return its info with both, size and date."""
        async with self._changing:
            taken = {other.name for other in await self.all()}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            info = replace(
                info,
                id=secrets.token_hex(8),
                name=_free_name(_clean_name(info.name), taken),
                created_at=now,
                size_bytes=sum(map(len, files.values())),
            )
            try:
                folder = await self.folder.folder(info.id)
                for name, data in files.items():
                    await folder.write(name, data)
                await self._write_about(info)  # last: a folder without it is none
            except Exception:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    await self.folder.delete(info.id)  # storage is full: leave no half adapter behind
                raise
        return info

    async def info(self, id: str) -> AdapterInfo:
        """Return one adapter's info. AdapterError if it is not there."""
        if (info := await self._about(id)) is None:
            raise AdapterError("This adapter is not in the browser's storage any more.")
        return info

    async def files(self, id: str) -> dict[str, bytes]:
        """Return PEFT's files of an adapter by name."""
        await self.info(id)
        folder = await self.folder.folder(id)
        return {name: await folder.read(name) for name in await folder.names() if name not in (ABOUT, DELETED)}

    async def rename(self, id: str, name: str) -> AdapterInfo:
        """Give an adapter a name that no other has; an empty one changes nothing."""
        async with self._changing:
            info = await self.info(id)
            taken = {other.name for other in await self.all() if other.id != id}
            return await self._write_about(replace(info, name=_free_name(_clean_name(name) or info.name, taken)))

    async def keep_answers(self, id: str, answers: tuple[SampleAnswer, ...]) -> AdapterInfo:
        """Keep the validation card's answers with an adapter."""
        async with self._changing:
            return await self._write_about(replace(await self.info(id), sample_answers=answers))

    async def delete(self, id: str) -> AdapterInfo:
        """Hide an adapter until `restore` or `forget_deleted`."""
        async with self._changing:
            info = await self.info(id)
            await (await self.folder.folder(id)).write(DELETED, b"")
        return info

    async def restore(self, id: str) -> AdapterInfo:
        """Bring a hidden adapter back."""
        async with self._changing:
            await (await self.folder.folder(id)).delete(DELETED)
            return await self.info(id)

    async def forget_deleted(self) -> None:
        """Remove hidden adapters and what an interrupted `add` has left. What another version wrote is left alone.

        Not while another tab is open: it may be in the middle of `add`, or want to `restore`.
        """
        for id in await self.folder.names():
            with contextlib.suppress(Exception):  # another tab holds or has removed it: the next start's business
                names = await (await self.folder.folder(id)).names()
                if DELETED in names or ABOUT not in names:
                    await self.folder.delete(id)

    async def _about(self, id: str) -> AdapterInfo | None:
        if id not in await self.folder.names():
            return None
        try:
            folder = await self.folder.folder(id)
            names = await folder.names()
            if DELETED in names or ABOUT not in names:
                return None
            info: AdapterInfo = from_dict(AdapterInfo, json.loads(await folder.read(ABOUT)))
        except Exception:  # written by another version: its files are kept, the list goes on without it
            return None
        return info

    async def _write_about(self, info: AdapterInfo) -> AdapterInfo:
        folder = await self.folder.folder(info.id)
        await folder.write(ABOUT, json.dumps(to_dict(replace(info, fits=None)), ensure_ascii=False).encode())
        return info


def zip_name(name: str) -> str:
    """Return a file name for an adapter of this name that every system takes."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return f"{slug or 'adapter'}-lora.zip"


def _clean_name(name: str) -> str:
    return " ".join(name.split())[:MAX_NAME_LENGTH].strip()


def _free_name(name: str, taken: set[str]) -> str:
    name = name or "Adapter"
    if name not in taken:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
