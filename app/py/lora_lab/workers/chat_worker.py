"""The worker that writes replies, with an adapter or without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from lora_lab.config import SamplingConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import ModelError
from lora_lab.formats.peft import read_adapter
from lora_lab.generate import ChatEngine, logits
from lora_lab.model import Model, load_model
from lora_lab.model.files import ModelFiles
from lora_lab.workers.protocol import (
    AdapterApplied,
    ApplyAdapter,
    ChatMessage,
    Command,
    Compare,
    CompareDone,
    ComparePiece,
    Logits,
    ModelProgress,
    ModelReady,
    ModelReleased,
    OpenModel,
    ReadLogits,
    ReleaseModel,
    RemoveAdapter,
    Reply,
    ReplyDone,
    ReplyPiece,
    SampleAnswer,
    Sampling,
    StopReply,
    WakeModel,
)
from lora_lab.workers.services.gpu import EngineWorker, seldom
from lora_lab.workers.wire.dispatch import Host, failure, handles
from lora_lab.workers.wire.host import serve

# For models without a chat template: the model goes on with what was written.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CONTEXT_LENGTH = 2048  # tokens of a conversation; the cache for keys and values is made for so many


class ChatWorker(EngineWorker):
    """Answers the page's commands about the conversation."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.files: ModelFiles | None = None
        self.tokenizer: Tokenizer | None = None
        self.template: ChatTemplate | None = None
        self.model: Model | None = None
        self.chat: ChatEngine | None = None
        self.adapter: ApplyAdapter | None = None  # what shall be applied, also while no model is loaded
        # Replies and comparisons are numbered as they come, and begin in that order.
        self._newest = self._current = self._stopped = 0

    async def begin(self) -> None:
        """Look for a GPU; the page sends the model when it has it."""
        self.look_for_gpu()

    async def answer(self, command: Command) -> None:
        """Run the method for `command`. A reply or a comparison can be stopped while it waits for its turn."""
        if isinstance(command, (Reply, Compare)):
            self._newest += 1
        await super().answer(command)

    @property
    def stop_asked(self) -> bool:
        """Whether a stop came after the reply or comparison that has its turn."""
        return self._current <= self._stopped

    # --- the model ---

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Take the files that the train worker has found good, and bring the weights to the GPU."""
        self._release()
        if self.adapter is not None:  # it was for another model
            self.adapter = None
            self.host.post(AdapterApplied(None))
        self.files, self.tokenizer, self.template = await self.open_files(command.files or ())
        await self._engine()

    @handles(ReleaseModel, "chat", exclusive=True)
    async def release_model(self, _: ReleaseModel) -> None:
        """Give the GPU's memory back; the next reply takes it again."""
        self._release()
        self.host.post(ModelReleased())

    @handles(WakeModel, "model", exclusive=True)
    async def wake_model(self, _: WakeModel) -> None:
        """Bring the weights back to the GPU."""
        await self._engine()

    def _release(self) -> None:
        if self.chat is not None:
            self.chat.close()
        if self.model is not None:
            self.model.release()
        self.chat = self.model = None

    async def _engine(self) -> ChatEngine:
        """Return the engine with the wanted adapter on, loading the weights if they are not on the GPU."""
        if self.chat is not None:
            return self.chat
        if self.files is None or self.tokenizer is None:
            raise ModelError("The chat has no model yet.")
        device = await self.device()
        try:
            self.model = await load_model(device, self.files, self._progress("gpu"))
            context = min(CONTEXT_LENGTH, self.files.config.max_position_embeddings)
            template = self.template or ChatTemplate(PLAIN_TEMPLATE)
            self.chat = ChatEngine(self.model, self.tokenizer, template, context_length=context)
            await self.chat.prepare(self._progress("kernels"))
            if self.adapter is not None:
                await self._apply(self.chat, self.adapter)
        except BaseException:
            self._release()
            raise
        self.host.post(ModelReady(self.model.weights_bytes, device.memory_in_use_bytes))
        return self.chat

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return seldom(lambda done, total: self.host.post(ModelProgress(phase, done, total)))  # type: ignore[arg-type]

    # --- the adapter ---

    @handles(ApplyAdapter, "adapter", exclusive=True)
    async def apply_adapter(self, command: ApplyAdapter) -> None:
        """Use an adapter from now on. The model stays where it is."""
        if self.chat is not None:
            await self._apply(self.chat, command)
        elif self.files is not None:
            read_adapter(command.files, self.files.config)  # only the check; it is applied when the weights are back
        self.adapter = command
        self.host.post(AdapterApplied(command.id, command.name))

    async def _apply(self, chat: ChatEngine, adapter: ApplyAdapter) -> None:
        if self.files is None:
            raise ModelError("The chat has no model yet.")
        await chat.set_adapter(*read_adapter(adapter.files, self.files.config))

    @handles(RemoveAdapter, "adapter", exclusive=True)
    async def remove_adapter(self, _: RemoveAdapter) -> None:
        """Answer as the base model from now on."""
        self.adapter = None
        if self.chat is not None:
            await self.chat.set_adapter(None)
        self.host.post(AdapterApplied(None))

    # --- replies ---

    @handles(StopReply, "chat")
    async def stop_reply(self, _: StopReply) -> None:
        """End what is being written after the token in flight, and what waits before it begins."""
        self._stopped = self._newest
        if self.chat is not None:
            self.chat.stop()

    @handles(Reply, "chat", exclusive=True)
    async def reply(self, command: Reply) -> None:
        """Write a reply, piece by piece."""
        self._current += 1
        chat = None if self.stop_asked else await self._engine()
        if chat is None or self.stop_asked:
            self.host.post(ReplyDone(command.turn, "", 0, 0, 0.0, 0.0, "stopped"))
            return
        strength = command.strength if command.use_adapter and self.adapter is not None else 0.0
        text = await self._write(
            chat, command.messages, _sampling(command.sampling), strength,
            lambda piece: self.host.post(ReplyPiece(command.turn, piece)),
        )  # fmt: skip
        stats = chat.last_stats
        assert stats is not None  # the reply has ended
        self.host.post(
            ReplyDone(
                turn=command.turn,
                text=text,
                prompt_tokens=stats.prompt_tokens,
                new_tokens=stats.new_tokens,
                tokens_per_s=stats.tokens_per_s,
                first_token_ms=stats.time_to_first_token_ms,
                finish_reason=stats.finish_reason,
            )
        )

    @handles(Compare, "compare", exclusive=True)
    async def compare(self, command: Compare) -> None:
        """Answer a probe greedily, first without the adapter, then with it. The page hears the end in any case."""
        self._current += 1
        answer = None
        try:
            chat = None if self.stop_asked else await self._engine()
            if chat is not None and self.adapter is not None and self.adapter.id == command.adapter_id:
                base = await self._answer(chat, command, tuned=False)
                tuned = await self._answer(chat, command, tuned=True)
                if not self.stop_asked:
                    answer = SampleAnswer(command.probe.prompt, base, tuned, command.probe.reference)
        except Exception as error:
            self.host.post(failure("compare", error, subject=command.adapter_id))
        self.host.post(CompareDone(command.adapter_id, command.index, answer))

    async def _answer(self, chat: ChatEngine, command: Compare, tuned: bool) -> str:
        if self.stop_asked:
            return ""
        place = (command.adapter_id, command.index, "tuned" if tuned else "base")
        greedy = SamplingConfig(max_new_tokens=command.max_new_tokens, temperature=0.0)

        def tell(text: str, done: bool = False) -> None:
            self.host.post(ComparePiece(*place, text, done))  # type: ignore[arg-type]

        text = await self._write(chat, command.probe.messages, greedy, 1.0 if tuned else 0.0, tell)
        tell("", True)
        return text.strip()

    async def _write(
        self, chat: ChatEngine, messages: tuple[ChatMessage, ...], sampling: SamplingConfig, strength: float,
        tell: Callable[[str], None],
    ) -> str:  # fmt: skip
        """Generate a reply; `tell` hears each piece. Lets a stop in between the tokens."""
        text = ""
        async for piece in chat.reply([vars(message) for message in messages], sampling, adapter_strength=strength):
            text += piece.text
            if piece.text:
                tell(piece.text)
            if self.stop_asked:  # also one that came before the engine had begun
                chat.stop()
            await asyncio.sleep(0)
        return text

    @handles(ReadLogits, "chat", exclusive=True)
    async def read_logits(self, command: ReadLogits) -> None:
        """Answer with the very numbers that replies are drawn from."""
        chat = await self._engine()
        assert self.tokenizer is not None  # there is an engine
        ids = self.tokenizer.encode(command.text)
        values = await logits(chat.model, chat.adapter if command.use_adapter else None, ids)
        self.host.post(Logits(tuple(ids), values.shape[1], values.astype("<f4").tobytes()))


def _sampling(sampling: Sampling) -> SamplingConfig:
    """Return the engine's settings, each brought into the range that has a meaning."""
    return replace(
        SamplingConfig(),
        max_new_tokens=max(1, sampling.max_new_tokens),
        temperature=min(100.0, max(0.0, sampling.temperature)),
        top_k=min(2**31, max(0, sampling.top_k)),
        top_p=min(1.0, max(1e-6, sampling.top_p)),
        min_p=min(1.0, max(0.0, sampling.min_p)),
        repetition_penalty=min(100.0, max(0.01, sampling.repetition_penalty)),
        seed=sampling.seed,
    )


async def main() -> None:
    """Serve the page; called by worker.js."""
    await serve(ChatWorker, ChatWorker.begin)
