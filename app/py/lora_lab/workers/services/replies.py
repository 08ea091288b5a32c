"""Replies and comparisons: written piece by piece, and stopped, also while they wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from lora_lab.config import SamplingConfig
from lora_lab.generate import ChatEngine, logits
from lora_lab.generate.chat import ReplyStats
from lora_lab.workers.protocol import (
    ChatMessage,
    Command,
    Compare,
    CompareDone,
    ComparePiece,
    Logits,
    ReadLogits,
    Reply,
    ReplyDone,
    ReplyPiece,
    SampleAnswer,
    Sampling,
    StopReply,
)
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.chat_model import MOST_LOSSES, ChatModel
from lora_lab.workers.wire.dispatch import Host, failure, handles, hears

LONG_CONVERSATION, CHARACTERS_PER_S = 100_000, 1e5  # the time for one of fewer is no matter; at its slowest


class Replies:
    """Answers the page's commands about the conversation."""

    def __init__(self, host: Host, model: ChatModel) -> None:
        self._host, self._model = host, model
        # Replies and comparisons are numbered as they come, and begin in that order.
        self._newest = self._current = self._stopped = 0

    @hears(Reply, Compare)
    def number(self, _: Command) -> None:
        """Count what is asked for as it comes: it can be stopped while it waits for its turn."""
        self._newest += 1

    @property
    def _stop_asked(self) -> bool:
        """Whether a stop came after the reply or comparison that has its turn."""
        return self._current <= self._stopped

    @handles(StopReply, "chat")
    async def stop_reply(self, _: StopReply) -> None:
        """End what is being written after the token in flight, and what waits before it begins."""
        self._stopped = self._newest
        if self._model.chat is not None:
            self._model.chat.stop()

    @handles(Reply, "chat", exclusive=True)
    async def reply(self, command: Reply) -> None:
        """Write a reply, piece by piece."""
        self._current += 1
        chat = None if self._stop_asked else await self._model.engine()
        if chat is None or self._stop_asked:
            self._host.post(ReplyDone(command.turn, "", 0, 0, 0.0, 0.0, "stopped"))
            return
        strength = command.strength if command.use_adapter and self._model.adapter is not None else 0.0
        with self._given_time_for(command.messages):
            text, stats = await self._write(
                chat, command.messages, _sampling(command.sampling), strength, command.chat_format,
                lambda piece: self._host.post(ReplyPiece(command.turn, piece)),
            )  # fmt: skip
        self._host.post(
            ReplyDone(
                turn=command.turn,
                text=text,
                prompt_tokens=stats.prompt_tokens,
                new_tokens=stats.new_tokens,
                tokens_per_s=stats.tokens_per_s,
                first_token_ms=stats.time_to_first_token_ms,
                finish_reason=stats.finish_reason,
                dropped_messages=stats.dropped_messages,
            )
        )

    @handles(Compare, "compare", exclusive=True)
    async def compare(self, command: Compare) -> None:
        """Answer a probe greedily, first without the adapter, then with it. The page hears the end in any case."""
        self._current += 1
        answer = None
        try:
            chat = None if self._stop_asked else await self._model.engine()
            if chat is not None and self._model.adapter is not None and self._model.adapter.id == command.adapter_id:
                base = await self._answer(chat, command, tuned=False)
                tuned = await self._answer(chat, command, tuned=True)
                if not self._stop_asked:
                    answer = SampleAnswer(command.probe.prompt, base, tuned, command.probe.reference)
        except Exception as error:
            self._host.post(failure("compare", error, subject=command.adapter_id))
        self._host.post(CompareDone(command.adapter_id, command.index, answer))

    async def _answer(self, chat: ChatEngine, command: Compare, tuned: bool) -> str:
        if self._stop_asked:
            return ""
        place = (command.adapter_id, command.index, "tuned" if tuned else "base")
        greedy = SamplingConfig(max_new_tokens=command.max_new_tokens, temperature=0.0)

        def tell(text: str, done: bool = False) -> None:
            self._host.post(ComparePiece(*place, text, done))  # type: ignore[arg-type]

        strength = 1.0 if tuned else 0.0
        with self._given_time_for(command.probe.messages):
            text, _ = await self._write(chat, command.probe.messages, greedy, strength, command.chat_format, tell)
        tell("", True)
        return text.strip()

    def _given_time_for(self, messages: tuple[ChatMessage, ...]) -> AbstractContextManager[None]:
        """A conversation is made into tokens in one go, also one into which somebody has put a book."""
        size = sum(len(message.content) for message in messages)
        if size < LONG_CONVERSATION:
            return nullcontext()
        return busy(self._host, "reading the conversation", size / CHARACTERS_PER_S)

    async def _write(
        self, chat: ChatEngine, messages: tuple[ChatMessage, ...], sampling: SamplingConfig, strength: float,
        chat_format: str, tell: Callable[[str], None],
    ) -> tuple[str, ReplyStats]:  # fmt: skip
        """Generate a reply; `tell` hears each piece. Lets a stop in between the tokens.

        When the GPU is lost the reply is written again on the next one, from its beginning: the same, as its seed is.
        Only what is new is told.
        """
        told = losses = 0
        while True:
            self._model.use_template(chat_format, with_adapter=strength != 0)
            text = ""
            try:
                async for piece in chat.reply([vars(turn) for turn in messages], sampling, adapter_strength=strength):
                    text += piece.text
                    if len(text) > told:
                        tell(text[told:])
                        told = len(text)
                    if self._stop_asked:  # also one that came before the engine had begun
                        chat.stop()
                    await asyncio.sleep(0)
                assert chat.last_stats is not None  # the reply has ended
                return text, chat.last_stats
            except Exception:
                losses += 1
                if losses > MOST_LOSSES or not await self._model.was_lost(chat):
                    raise
            chat = await self._model.engine()

    @handles(ReadLogits, "chat", exclusive=True)
    async def read_logits(self, command: ReadLogits) -> None:
        """Answer with the very numbers that replies are drawn from."""
        chat = await self._model.engine()
        assert self._model.tokenizer is not None  # there is an engine
        ids = self._model.tokenizer.encode(command.text)
        values = await logits(chat.model, chat.adapter if command.use_adapter else None, ids)
        self._host.post(Logits(tuple(ids), values.shape[1], values.astype("<f4").tobytes()))


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
