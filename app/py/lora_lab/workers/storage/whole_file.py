"""A small JSON file that is whole at any moment, also where the page dies in the middle of writing it.

A browser replaces no file in one go everywhere. So the new content is written beside the old one first (`NAME.new`),
and only when it stands there does it take the old one's place. No beginning of a JSON object is one itself: what was
cut off is told from what is whole by reading it.
"""

from __future__ import annotations

import json
from typing import Any

from lora_lab.formats.json_reader import JsonError, read_json
from lora_lab.workers.storage.folders import Folder, StorageError


async def read_whole(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the object that was written last and is whole; None if there is none."""
    names = await folder.names()
    for one in (f"{name}.new", name):
        if one in names and (found := _parse(await folder.read(one))) is not None:
            return found
    return None


async def write_whole(folder: Folder, name: str, value: dict[str, Any]) -> None:
    """Write an object; at any moment either it or the one before can be read. StorageError leaves the one before."""
    new = f"{name}.new"
    before = await folder.read(new) if new in await folder.names() else b""
    if _parse(before) is not None:  # left by a death: perhaps the only one that is whole
        await folder.write(name, before)
    data = json.dumps(value, ensure_ascii=False).encode()
    await folder.write(new, data)
    if await folder.read(new) != data:
        await folder.delete(new)
        raise StorageError(f"{name} could not be written: the browser gives back other bytes than it was given")
    await folder.write(name, data)
    await folder.delete(new)


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        found = read_json(data)
    except JsonError:
        return None
    return found if isinstance(found, dict) else None
