"""The model that is open in the train worker: fetched or taken, checked, handed to the page for the chat worker.

Knows nothing of what is done with a model. Who has to do with the one that is open is told when it leaves and when
the next has come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from lora_lab.errors import ModelError
from lora_lab.formats.hub_id import hub_id
from lora_lab.workers.model.opened import OpenedModel, open_files, open_sources
from lora_lab.workers.protocol import BaseModelNamed, ModelProgress, NameBaseModel, NamedBlob, OpenModel
from lora_lab.workers.run.words import describe_model
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.progress import Fetched
from lora_lab.workers.storage.site_models import open_on_site, read_site_index, site_answer
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import phase

READ_WITHIN_S = 60.0  # a tokenizer of a quarter of a million tokens is read in one go
T = TypeVar("T")
Listener = Callable[[], Awaitable[None] | None]


class Models:
    """Answers OpenModel and NameBaseModel; `model` is the one that is open."""

    def __init__(self, host: Host, gpu: Gpu, stores: Stores) -> None:
        self._host, self._gpu, self._stores = host, gpu, stores
        self.model: OpenedModel | None = None
        self._leaves: tuple[Listener, ...] = ()
        self._came: tuple[Listener, ...] = ()

    def when_it_leaves(self, *listeners: Listener) -> None:
        """Call these, one after the other, when another model is about to take its place: none is open just then."""
        self._leaves += listeners

    def when_it_came(self, *listeners: Listener) -> None:
        """Call these, one after the other, when a model is open and the page has been told of it."""
        self._came += listeners

    def need_model(self, why: str) -> OpenedModel:
        """Return the open model; ModelError, saying `why` one is needed, if there is none."""
        if self.model is None:
            raise ModelError(f"{why}, and none is open.")
        return self.model

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Fetch or take a model's files, check them, and hand them to the page for the chat worker.

        The model that is open stays so until the next one's files are found good, and for ever if they are not.
        """
        with phase("storage"):
            await self._stores.opened()
        opened, files = await self._open(command)
        self.model = None
        await _call(self._leaves)
        self.model = opened
        self._host.post(describe_model(opened, files, built_in=command.files is None and command.kept is None))
        await _call(self._came)

    @handles(NameBaseModel, "model")
    async def name_base_model(self, command: NameBaseModel) -> None:
        """Take a person's word for what the open model is called on the hub."""
        opened = self.need_model("A name is given to a model")
        named = hub_id(command.base_model)
        if named is None and command.base_model.strip():
            said = "Wanted is OWNER/NAME, as on huggingface.co; a file or a folder on this computer is no name there."
            self._host.post(BaseModelNamed(opened.hub_id or "", said))
            return
        self.model = replace(opened, base_model=named or opened.files.name)
        self._host.post(BaseModelNamed(self.model.hub_id or ""))

    async def _open(self, command: OpenModel) -> tuple[OpenedModel, tuple[NamedBlob, ...]]:
        if command.kept is not None:
            record, files = await self._stores.hub_shelf.open(command.kept)
            parts = await self._read(open_files(files, self._host.post))
            ggufs = [file.name for file in files if file.name.lower().endswith(".gguf")]
            source = f"hf:{record.repository}@{record.revision}" + (f":{ggufs[0]}" if len(ggufs) == 1 else "")
            return OpenedModel(*parts, record.base_model, record.title, record.id, source), files
        if command.files is not None:
            opened, tokenizer, template = await self._read(open_files(command.files, self._host.post))
            folder, _, name = command.files[0].name.rpartition("/")
            source = folder.rpartition("/")[2] or (name if len(command.files) == 1 else opened.name)
            title = command.title or opened.name
            named = OpenedModel(opened, tokenizer, template, opened.name, title, source=source)
            return named, command.files
        return await self._open_of_site(command.model_id)

    async def _open_of_site(self, model_id: str | None) -> tuple[OpenedModel, tuple[NamedBlob, ...]]:
        with phase("site index"):
            index = await read_site_index()
        model = index.find(model_id)
        with phase("wait for the gpu"):
            has_gpu = await self._gpu.has_gpu()
        files: tuple[NamedBlob, ...] = ()
        if has_gpu:
            with phase("model file"):
                blobs = await self._stores.cache.obtain(model.files, self._tell_fetched, site_answer)
            files = tuple(NamedBlob(file.path, blob) for file, blob in zip(model.files, blobs, strict=True))
            await self._stores.cache.keep_only(index.keys | await self._stores.hub_shelf.keys())
            parts = await self._read(open_files(files, self._host.post))
        else:  # only the tokenizer is of use then: the weights are not fetched
            parts = await self._read(open_sources(await open_on_site(model), self._host.post))
        source = "" if model.id == index.default else model.id  # the default is the one that comes with the program
        base, title = model.base_model or parts[0].name, model.title or parts[0].name
        return OpenedModel(*parts, base, title, source=source), files

    def _tell_fetched(self, how: Fetched) -> None:
        self._host.post(
            ModelProgress("download", how.done_bytes, how.total_bytes, how.rate_bytes_per_s, how.left_ms, how.file)
        )

    async def _read(self, reading: Awaitable[T]) -> T:
        with busy(self._host, "reading the model", READ_WITHIN_S):
            return await reading


async def _call(listeners: tuple[Listener, ...]) -> None:
    for listener in listeners:
        if (work := listener()) is not None:
            await work
