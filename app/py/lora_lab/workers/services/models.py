"""The model that is open in the train worker: fetched or taken, checked, handed to the page for the chat worker.

Knows nothing of what is done with a model. Who has to do with the one that is open is told when it leaves and when
the next has come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lora_lab.errors import ModelError
from lora_lab.workers.model.opened import OpenedModel, open_files, open_sources
from lora_lab.workers.protocol import OpenModel
from lora_lab.workers.run.words import describe_model
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.downloads import find_site_model, open_on_site
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import phase

Listener = Callable[[], Awaitable[None] | None]


class Models:
    """Answers OpenModel; `model` is the one that is open."""

    def __init__(self, host: Host, gpu: Gpu, stores: Stores) -> None:
        self._host, self._gpu, self._stores = host, gpu, stores
        self.model: OpenedModel | None = None
        self._leaves: tuple[Listener, ...] = ()
        self._came: tuple[Listener, ...] = ()

    def when_it_leaves(self, *listeners: Listener) -> None:
        """Call these, one after the other, when another model will be opened: from then on none is open."""
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
        """Fetch or take a model's files, check them, and hand them to the page for the chat worker."""
        with phase("storage"):
            await self._stores.opened()
        self.model = None
        await _call(self._leaves)
        tell = self._host.post
        files, title, base_model, built_in = command.files, command.title, None, command.files is None
        if files is not None:
            parts = await open_files(files, tell)
        else:
            with phase("site index"):
                site_model, known = await find_site_model(command.model_id)
            title, base_model = site_model.title, site_model.base_model
            with phase("wait for the gpu"):
                has_gpu = await self._gpu.has_gpu()
            if has_gpu:
                with phase("model file"):
                    files = await self._stores.cache.files(site_model, known)
                parts = await open_files(files, tell)
            else:  # only the tokenizer is of use then: the weights are not fetched
                parts = await open_sources(await open_on_site(site_model), tell)
        opened, tokenizer, template = parts
        self.model = OpenedModel(opened, tokenizer, template, base_model or opened.name, title or opened.name)
        self._host.post(describe_model(self.model, files or (), built_in))
        await _call(self._came)


async def _call(listeners: tuple[Listener, ...]) -> None:
    for listener in listeners:
        if (work := listener()) is not None:
            await work
