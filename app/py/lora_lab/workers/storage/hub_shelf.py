"""The models that were fetched from the hub and are kept: which there are, how far each has come, and their files.

A record is written before the first byte is asked for, so that an interrupted download can be gone on with after a
reload. The files themselves are the cache's (downloads.py); several models may share one.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lora_lab.errors import ModelError
from lora_lab.formats.hub import file_path
from lora_lab.formats.json_reader import read_json
from lora_lab.workers.protocol import KeptModel, NamedBlob
from lora_lab.workers.storage.downloads import FileCache, WantedFile
from lora_lab.workers.storage.folders import Folder
from lora_lab.workers.wire.codec import ProtocolError, from_dict, to_dict


@dataclass(frozen=True)
class KeptFile:
    """A file as the hub lists it; `sha256` None where the hub states none."""

    path: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class KeptRecord:
    """A model of the hub: what it is called, of which repository and revision, and its files.

    `base_model` is what an adapter trained on it names.
    """

    id: str
    title: str
    repository: str
    revision: str
    base_model: str
    form: str
    licence: str
    files: tuple[KeptFile, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)

    def wanted(self, hub: str = "") -> list[WantedFile]:
        """Return the files as they are fetched from `hub`. Those without a sha256 are known by their place there."""
        found = []
        for file in self.files:
            address = file_path(self.repository, self.revision, file.path)
            found.append(WantedFile(file.path, hub + address, file.size_bytes, file.sha256, address))
        return found

    @property
    def keys(self) -> set[str]:
        """What the cache stores its files under."""
        return {file.key for file in self.wanted()}


class HubShelf:
    """Keeps the records in a folder of their own, one JSON file each."""

    def __init__(self, folder: Folder, cache: FileCache) -> None:
        self._folder, self._cache = folder, cache

    async def records(self) -> list[KeptRecord]:
        """Return all records, by title. One that cannot be read is left out: its files are fetched again if wanted."""
        found = []
        for name in await self._folder.names():
            with suppress(ValueError, ProtocolError, FileNotFoundError):  # another version's, or another tab deletes it
                found.append(from_dict(KeptRecord, read_json(await self._folder.read(name))))
        return sorted(found, key=lambda record: record.title.lower())

    async def find(self, model_id: str) -> KeptRecord | None:
        """Return the record of this id; None if there is none."""
        return next((record for record in await self.records() if record.id == model_id), None)

    async def add(self, record: KeptRecord) -> None:
        """Keep a record. StorageError if the browser refuses."""
        await self._folder.write(_file_name(record.id), json.dumps(to_dict(record)).encode())

    async def remove(self, record: KeptRecord) -> None:
        """Forget a model, and delete those of its files that no other one has."""
        await self._folder.delete(_file_name(record.id))
        await self._cache.discard(record.keys - await self.keys())

    async def keys(self) -> set[str]:
        """Return what all kept files are stored under."""
        return {key for record in await self.records() for key in record.keys}

    async def describe(self, record: KeptRecord, *, in_use: bool = False, coming: bool = False) -> KeptModel:
        """Return what the page shows of a kept model."""
        wanted = record.wanted()
        done = sum([await self._cache.done_bytes(file) for file in wanted])
        is_whole = all([await self._cache.find(file) is not None for file in wanted])
        return KeptModel(
            record.id, record.title, record.repository, record.licence, record.form, record.size_bytes, done, is_whole,
            in_use, coming,
        )  # fmt: skip

    async def open(self, model_id: str) -> tuple[KeptRecord, tuple[NamedBlob, ...]]:
        """Return a kept model's files, without any request. ModelError if they are not all there."""
        record = await self.find(model_id)
        if record is None:
            raise ModelError(f"{model_id} is not kept in this browser any more. Fetch it again.")
        blobs: list[Any] = [await self._cache.find(file) for file in record.wanted()]
        if missing := [file.path for file, blob in zip(record.files, blobs, strict=True) if blob is None]:
            raise ModelError(f"{record.title} is not all here: {', '.join(missing)} is missing. Fetch the rest first.")
        folder = record.repository.split("/")[1]  # a folder's name is the model's, where no file says one
        files = zip(record.files, blobs, strict=True)
        return record, tuple(NamedBlob(f"{folder}/{file.path}", blob) for file, blob in files)


def _file_name(model_id: str) -> str:
    return hashlib.sha256(model_id.encode()).hexdigest()[:32] + ".json"
