"""The chat's model: its weights on the GPU, given back and brought again, the adapter that is on it, the template.

A reply is written with the template that the adapter brings, else the model's own, else in the format that was chosen.
"""

from __future__ import annotations

from collections.abc import Callable

from lora_lab.data.tokens.chat_formats import chosen_template
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import KernelError, LoraLabError, ModelError
from lora_lab.formats.peft import TEMPLATE_FILE
from lora_lab.generate import ChatEngine
from lora_lab.generate.comparison import Side
from lora_lab.gpu import Device
from lora_lab.model import Model, load_model
from lora_lab.model.chat_choice import AUTO, ChatChoice
from lora_lab.model.files import ModelFiles
from lora_lab.workers.model.adapter_set import AdapterFiles, AdapterSet
from lora_lab.workers.model.opened import open_files
from lora_lab.workers.protocol import (
    AdapterApplied,
    AdapterPart,
    AdaptersApplied,
    ApplyAdapter,
    ApplyAdapters,
    Failed,
    ModelProgress,
    ModelReady,
    ModelReleased,
    Notice,
    OpenModel,
    ReleaseModel,
    RemoveAdapter,
    WakeModel,
)
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import READ_WITHIN_S
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.seldom import seldom

MOST_LOSSES = 3  # of the GPU in a row: a model that brings it down each time would do so for ever
CONTEXT_LENGTH = 2048  # tokens of a conversation; the cache for keys and values is made for so many


class ChatModel:
    """Answers the page's commands about the model that writes, and about its adapter."""

    def __init__(self, host: Host, gpu: Gpu) -> None:
        self._host, self._gpu = host, gpu
        self.tokenizer: Tokenizer | None = None
        self.chat: ChatEngine | None = None  # the engine, while the weights are on the GPU
        self.adapter: AdapterSet | None = None  # what shall be applied, also while no model is loaded
        self.strength = 1.0  # of it on the engine, at a reply's strength of 1
        self.held = AdapterFiles()
        self._files: ModelFiles | None = None
        self._own: ChatTemplate | None = None  # the model's template
        self._brought: ChatTemplate | None = None  # the adapter's
        self._choice: ChatChoice | None = None
        self._model: Model | None = None
        self._making: ChatEngine | None = None  # that is not ready yet
        self._device: Device | None = None  # that the model is on, or was last

    # --- the model ---

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Take the files that the train worker has found good, and bring the weights to the GPU."""
        self._release()
        self.held.forget()
        if self.adapter is not None:  # it was for another model
            self.adapter = self._brought = None
            self._host.post(AdapterApplied(None))
        with busy(self._host, "reading the model", READ_WITHIN_S):
            self._files, self.tokenizer, self._own = await open_files(command.files or (), self._host.post)
        self._choice = ChatChoice(self._files, self.tokenizer)
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
        for chat in (self.chat, self._making):
            if chat is not None:
                chat.close()
        if self._model is not None:
            self._model.release()
        self.chat = self._making = self._model = None

    async def engine(self) -> ChatEngine:
        """Return the engine with the wanted adapter on, loading the weights if they are not on the GPU.

        Where the GPU is lost meanwhile it begins again on the next one.
        """
        losses = 0
        while self.chat is None:
            if self._files is None or self.tokenizer is None:
                raise ModelError("The chat has no model yet.")
            device = await self._gpu.device()
            try:
                await self._load(device, self._files, self.tokenizer)
            except BaseException as error:
                self._release()
                if isinstance(error, KernelError) and device.use_plainer_kernels():
                    self._host.post(Notice(f"{error}\nPlainer kernels, which are slower, take its place."))
                    continue
                losses += 1
                if not isinstance(error, Exception) or losses > MOST_LOSSES or not await self._gpu.is_lost(device):
                    raise
        return self.chat

    async def _load(self, device: Device, files: ModelFiles, tokenizer: Tokenizer) -> None:
        self._device = device
        self._model = model = await load_model(device, files, self._progress("gpu"))
        context = min(CONTEXT_LENGTH, files.config.max_position_embeddings)
        chat = ChatEngine(model, tokenizer, self._template(AUTO), context_length=context)
        self._making = chat
        await chat.prepare(self._progress("kernels"))
        if self.adapter is not None:
            await self._apply(chat, self.adapter, on=None)
        self.chat, self._making = chat, None
        self._host.post(ModelReady(model.weights_bytes, device.memory_in_use_bytes))

    async def was_lost(self, chat: ChatEngine) -> bool:
        """Return whether an error of this engine came of the loss of its GPU. Then `engine` gives another one."""
        return self.chat is not chat or self._device is None or await self._gpu.is_lost(self._device)

    def gpu_lost(self) -> None:
        """What was on the GPU is gone; the page wakes the model when there is another one."""
        if self._model is not None:
            self._release()
            self._host.post(ModelReleased())

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return seldom(lambda done, total: self._host.post(ModelProgress(phase, done, total)))  # type: ignore[arg-type]

    # --- the template ---

    def use_template(self, chat_format: str, *, with_adapter: bool) -> None:
        """Write the next reply as the adapter's template says, else the model's own, else in this format."""
        if self.chat is not None and self._choice is not None:
            brought = self._brought if with_adapter else None
            self.chat.template = brought or self._template(chat_format)

    def _template(self, chat_format: str) -> ChatTemplate:
        assert self._choice is not None, "a model is open"
        return self._own or self._choice.offer(chat_format).template

    def _brought_by(self, adapter: AdapterSet) -> ChatTemplate | None:
        """Return the template that adapters bring. One that cannot be used is told of, and none takes its place."""
        if self._files is None:
            return None
        name = adapter.name
        try:
            source, name, said = adapter.chat_template()
            if said:
                self._host.post(Notice(said))
            return chosen_template(source, self._files.tokenizer.special_tokens) if source else None
        except LoraLabError as error:
            said = f"{name}: {TEMPLATE_FILE}: {error}. The model's own chat format is used in its place."
            self._host.post(Failed("adapter", said))
            return None

    # --- the adapter ---

    @handles(ApplyAdapter, "adapter", exclusive=True)
    async def apply_adapter(self, command: ApplyAdapter) -> None:
        """Use an adapter from now on. The model stays where it is."""
        part = AdapterPart(command.id, command.name, files=command.files)
        await self._use(self.held.whole([part]))
        self._host.post(AdapterApplied(command.id, command.name))

    @handles(ApplyAdapters, "adapter", exclusive=True)
    async def apply_adapters(self, command: ApplyAdapters) -> None:
        """Use these adapters together from now on."""
        await self._use(self.held.whole(command.adapters))
        self._host.post(AdaptersApplied(self.adapter.uses() if self.adapter else ()))

    async def _use(self, adapter: AdapterSet | None) -> None:
        if self.chat is not None:
            await self._apply(self.chat, adapter, on=self.adapter)
        elif self._files is not None and adapter is not None:
            adapter.read(self._files.config)  # only the check; it is applied when the weights are back
        self.adapter = adapter
        self._brought = self._brought_by(adapter) if adapter else None

    async def _apply(self, chat: ChatEngine, adapter: AdapterSet | None, on: AdapterSet | None) -> None:
        """Bring adapters to the engine; `on` are there. Where only the strength of a single one differs, it stays."""
        if adapter is None:
            await chat.set_adapter(None)
            return
        if self._files is None:
            raise ModelError("The chat has no model yet.")
        (first, *others), before = adapter.parts, on.parts if on else ()
        if not others and len(before) == 1 and (before[0].id, before[0].files) == (first.id, first.files):
            self.strength = first.strength
            return
        lora, tensors, strength = adapter.read(self._files.config)
        await chat.set_adapter(lora, tensors)
        self.strength = strength

    def side(self, adapter: AdapterSet | None, chat_format: str) -> Side:
        """Return who answers with these adapters, or as the base model. AdapterError: they are for another model."""
        if self._files is None:
            raise ModelError("The chat has no model yet.")
        if adapter is None or not adapter.uses():
            return Side(self._template(chat_format))
        template = self._brought_by(adapter) or self._template(chat_format)
        return Side(template, *adapter.read(self._files.config))

    @handles(RemoveAdapter, "adapter", exclusive=True)
    async def remove_adapter(self, _: RemoveAdapter) -> None:
        """Answer as the base model from now on."""
        self.adapter = self._brought = None
        if self.chat is not None:
            await self.chat.set_adapter(None)
        self._host.post(AdapterApplied(None))
