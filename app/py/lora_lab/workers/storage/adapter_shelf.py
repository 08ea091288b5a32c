"""The adapters that stay: one folder each, PEFT's files as they are exported, and a `lora-lab.json` about the rest.

An adapter whose `lora-lab.json` is lost or damaged is still one: what it is stands in PEFT's files, too (`mend`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.formats.json_reader import read_json
from lora_lab.formats.peft import RUN_FILE, WEIGHTS_FILE
from lora_lab.formats.peft_config import CONFIG_FILE
from lora_lab.formats.safetensors import read_arrays
from lora_lab.workers.protocol import AdapterInfo, SampleAnswer
from lora_lab.workers.storage.folders import Folder
from lora_lab.workers.storage.whole_file import read_whole, write_whole
from lora_lab.workers.wire.codec import from_dict, to_dict

ABOUT = "lora-lab.json"
DELETED = "deleted"
ADDING = "adding"  # stands in an adapter's folder until all of it does
OURS = (ABOUT, f"{ABOUT}.new", DELETED, ADDING)
MAX_NAME_LENGTH = 80
MAX_NOTES = 10_000


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
            others = await self.all()
            taken = {other.name for other in others}
            info = replace(
                info,
                id=secrets.token_hex(8),
                name=_free_name(_clean_name(info.name), taken),
                created_at=_now_but_for({other.created_at for other in others}),
                size_bytes=sum(map(len, files.values())),
            )
            try:
                folder = await self.folder.folder(info.id)
                await folder.write(ADDING, b"")
                for name, data in files.items():
                    await folder.write(name, data)
                await self._write_about(info)  # last: a folder that is being added and has none is none
                await folder.delete(ADDING)
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
        return {name: await folder.read(name) for name in await folder.names() if name not in OURS}

    async def record_file(self, id: str) -> dict[str, bytes]:
        """Return the record of an adapter's run by its name; nothing where it has none."""
        folder = await self.folder.folder(id)
        return {RUN_FILE: await folder.read(RUN_FILE)} if RUN_FILE in await folder.names() else {}

    async def keep_notes(self, id: str, notes: str) -> AdapterInfo:
        """Keep a person's notes with an adapter, cut to MAX_NOTES characters."""
        async with self._changing:
            return await self._write_about(replace(await self.info(id), notes=notes[:MAX_NOTES]))

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
                folder = await self.folder.folder(id)
                names = await folder.names()
                if ADDING in names:  # if its weights are whole, their run has still its last checkpoint, and the curves
                    is_half = await self._about(id) is None
                else:
                    is_half = not await _has_about(folder) and await _read_peft(folder) is None
                if is_half or DELETED in names:
                    await self.folder.delete(id)
                elif ADDING in names:
                    await folder.delete(ADDING)

    async def mend(self) -> list[str]:
        """Write anew what is known of adapters whose `lora-lab.json` is lost; return what there is to say of them.

        Not while another tab is open: it may be in the middle of `add`.
        """
        said = []
        for id in await self.folder.names():
            folder = await self.folder.folder(id)
            names = await folder.names()
            if DELETED in names or await self._about(id) is not None:
                continue
            about = await read_whole(folder, ABOUT)
            if about is not None:
                said.append(f"The adapter in {id} is of another version of LoRA Lab: it is kept and not shown.")
            elif (found := await _read_peft(folder)) is None:
                left = ", ".join(names) or "nothing"
                said.append(f"The adapter in {id} is damaged and cannot be shown: {left} is left.")
            else:
                taken = {other.name for other in await self.all()}
                info = replace(found, id=id, name=_free_name("Recovered adapter", taken))
                await self._write_about(info)
                said.append(f"What was known of an adapter is lost, its weights are not: it is kept as {info.name!r}.")
        return said

    async def _about(self, id: str) -> AdapterInfo | None:
        if id not in await self.folder.names():
            return None
        try:
            folder = await self.folder.folder(id)
            if DELETED in await folder.names() or (about := await read_whole(folder, ABOUT)) is None:
                return None
            info: AdapterInfo = from_dict(AdapterInfo, about)
        except Exception:  # written by another version: its files are kept, the list goes on without it
            return None
        return info

    async def _write_about(self, info: AdapterInfo) -> AdapterInfo:
        await write_whole(await self.folder.folder(info.id), ABOUT, to_dict(replace(info, fits=None)))
        return info


async def _has_about(folder: Folder) -> bool:
    names = await folder.names()
    return ABOUT in names or f"{ABOUT}.new" in names


async def _read_peft(folder: Folder) -> AdapterInfo | None:
    """Return what PEFT's files say of an adapter; None unless both are there and whole."""
    try:
        config, weights = [await folder.read(name) for name in (CONFIG_FILE, WEIGHTS_FILE)]
        read_arrays(weights, WEIGHTS_FILE)
        about = read_json(config)
        rank, alpha, targets = int(about["r"]), float(about["lora_alpha"]), tuple(map(str, about["target_modules"]))
        base_model = str(about.get("base_model_name_or_path") or "")
    except (FileNotFoundError, LoraLabError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return AdapterInfo(
        id="", name="", created_at=datetime.now(UTC).isoformat(timespec="seconds"), base_model=base_model, dataset="",
        rows=0, steps=0, rank=rank, alpha=alpha, targets=targets, size_bytes=len(config) + len(weights),
    )  # fmt: skip


def zip_name(name: str) -> str:
    """Return a file name for an adapter of this name that every system takes."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return f"{slug or 'adapter'}-lora.zip"


def _now_but_for(taken: set[str]) -> str:
    """Return the time in UTC, which no other adapter has: the list is ordered by it, and clocks are coarse."""
    now = datetime.now(UTC)
    while (written := now.isoformat(timespec="microseconds")) in taken:
        now += timedelta(microseconds=1)
    return written


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
