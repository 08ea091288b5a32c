"""The chat's model: its weights on the GPU, given back and brought again, and the adapter that is on it."""

from __future__ import annotations

from collections.abc import Callable

from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import ModelError
from lora_lab.formats.peft import read_adapter
from lora_lab.generate import ChatEngine
from lora_lab.model import Model, load_model
from lora_lab.model.files import ModelFiles
from lora_lab.workers.model.opened import open_files
from lora_lab.workers.protocol import (
    AdapterApplied,
    ApplyAdapter,
    ModelProgress,
    ModelReady,
    ModelReleased,
    OpenModel,
    ReleaseModel,
    RemoveAdapter,
    WakeModel,
)
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.seldom import seldom

# For models without a chat template: the model goes on with what was written.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CONTEXT_LENGTH = 2048  # tokens of a conversation; the cache for keys and values is made for so many


class ChatModel:
    """Answers the page's commands about the model that writes, and about its adapter."""

    def __init__(self, host: Host, gpu: Gpu) -> None:
        self._host, self._gpu = host, gpu
        self.tokenizer: Tokenizer | None = None
        self.chat: ChatEngine | None = None  # the engine, while the weights are on the GPU
        self.adapter: ApplyAdapter | None = None  # what shall be applied, also while no model is loaded
        self._files: ModelFiles | None = None
        self._template: ChatTemplate | None = None
        self._model: Model | None = None

    # --- the model ---

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Take the files that the train worker has found good, and bring the weights to the GPU."""
        self._release()
        if self.adapter is not None:  # it was for another model
            self.adapter = None
            self._host.post(AdapterApplied(None))
        self._files, self.tokenizer, self._template = await open_files(command.files or (), self._host.post)
        await self.engine()

    @handles(ReleaseModel, "chat", exclusive=True)
    async def release_model(self, _: ReleaseModel) -> None:
        """Give the GPU's memory back; the next reply takes it again."""
        self._release()
        self._host.post(ModelReleased())

    @handles(WakeModel, "model", exclusive=True)
    async def wake_model(self, _: WakeModel) -> None:
        """Bring the weights back to the GPU."""
        await self.engine()

    def _release(self) -> None:
        if self.chat is not None:
            self.chat.close()
        if self._model is not None:
            self._model.release()
        self.chat = self._model = None

    async def engine(self) -> ChatEngine:
        """Return the engine with the wanted adapter on, loading the weights if they are not on the GPU."""
        if self.chat is not None:
            return self.chat
        if self._files is None or self.tokenizer is None:
            raise ModelError("The chat has no model yet.")
        device = await self._gpu.device()
        try:
            self._model = await load_model(device, self._files, self._progress("gpu"))
            context = min(CONTEXT_LENGTH, self._files.config.max_position_embeddings)
            template = self._template or ChatTemplate(PLAIN_TEMPLATE)
            self.chat = ChatEngine(self._model, self.tokenizer, template, context_length=context)
            await self.chat.prepare(self._progress("kernels"))
            if self.adapter is not None:
                await self._apply(self.chat, self.adapter)
        except BaseException:
            self._release()
            raise
        self._host.post(ModelReady(self._model.weights_bytes, device.memory_in_use_bytes))
        return self.chat

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return seldom(lambda done, total: self._host.post(ModelProgress(phase, done, total)))  # type: ignore[arg-type]

    # --- the adapter ---

    @handles(ApplyAdapter, "adapter", exclusive=True)
    async def apply_adapter(self, command: ApplyAdapter) -> None:
        """Use an adapter from now on. The model stays where it is."""
        if self.chat is not None:
            await self._apply(self.chat, command)
        elif self._files is not None:
            read_adapter(command.files, self._files.config)  # only the check; it is applied when the weights are back
        self.adapter = command
        self._host.post(AdapterApplied(command.id, command.name))

    async def _apply(self, chat: ChatEngine, adapter: ApplyAdapter) -> None:
        if self._files is None:
            raise ModelError("The chat has no model yet.")
        await chat.set_adapter(*read_adapter(adapter.files, self._files.config))

    @handles(RemoveAdapter, "adapter", exclusive=True)
    async def remove_adapter(self, _: RemoveAdapter) -> None:
        """Answer as the base model from now on."""
        self.adapter = None
        if self.chat is not None:
            await self.chat.set_adapter(None)
        self._host.post(AdapterApplied(None))
