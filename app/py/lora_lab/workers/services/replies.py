"""Replies and comparisons: written piece by piece, and stopped, also while they wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

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
    StopReply,
)
from lora_lab.workers.run.sampling import sampling_config
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.chat_model import MOST_LOSSES, ChatModel
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Host, failure, handles, hears

LONG_CONVERSATION, CHARACTERS_PER_S = 100_000, 1e5  # the time for one of fewer is no matter; at its slowest


def given_time_for(host: Host, messages: tuple[ChatMessage, ...]) -> AbstractContextManager[None]:
    """A conversation is made into tokens in one go, also one into which somebody has put a book."""
    size = sum(len(message.content) for message in messages)
    if size < LONG_CONVERSATION:
        return nullcontext()
    return busy(host, "reading the conversation", size / CHARACTERS_PER_S)


class Replies:
    """Answers the page's commands about the conversation."""

    def __init__(self, host: Host, model: ChatModel, turns: Turns) -> None:
        self._host, self._model, self._turns = host, model, turns

    @hears(Reply, Compare)
    def number(self, _: Command) -> None:
        """Count what is asked for as it comes: it can be stopped while it waits for its turn."""
        self._turns.come()

    @handles(StopReply, "chat")
    async def stop_reply(self, _: StopReply) -> None:
        """End what is being written after the token in flight, and what waits before it begins."""
        self._turns.stop()
        if self._model.chat is not None:
            self._model.chat.stop()

    @handles(Reply, "chat", exclusive=True)
    async def reply(self, command: Reply) -> None:
        """Write a reply, piece by piece."""
        self._turns.begin()
        sampling = sampling_config(command.sampling, command.strength)
        chat = None if self._turns.stop_asked else await self._model.engine()
        if chat is None or self._turns.stop_asked:
            self._host.post(ReplyDone(command.turn, "", 0, 0, 0.0, 0.0, "stopped"))
            return
        adapter = self._model.adapter if command.use_adapter else None
        strength = command.strength * self._model.strength if adapter is not None else 0.0
        with given_time_for(self._host, command.messages):
            text, ids, stats = await self._write(
                chat, command.messages, sampling, strength, command.chat_format,
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
                cached_tokens=stats.cached_tokens,
                token_ids=ids,
                adapters=adapter.uses(command.strength) if adapter is not None else (),
            )
        )

    @handles(Compare, "compare", exclusive=True)
    async def compare(self, command: Compare) -> None:
        """Answer a probe greedily, first without the adapter, then with it. The page hears the end in any case."""
        self._turns.begin()
        answer = None
        try:
            chat = None if self._turns.stop_asked else await self._model.engine()
            if chat is not None and self._model.adapter is not None and self._model.adapter.id == command.adapter_id:
                base = await self._answer(chat, command, tuned=False)
                tuned = await self._answer(chat, command, tuned=True)
                if not self._turns.stop_asked:
                    answer = SampleAnswer(command.probe.prompt, base, tuned, command.probe.reference)
        except Exception as error:
            self._host.post(failure("compare", error, subject=command.adapter_id))
        self._host.post(CompareDone(command.adapter_id, command.index, answer))

    async def _answer(self, chat: ChatEngine, command: Compare, tuned: bool) -> str:
        if self._turns.stop_asked:
            return ""
        place = (command.adapter_id, command.index, "tuned" if tuned else "base")
        greedy = SamplingConfig(max_new_tokens=command.max_new_tokens, temperature=0.0)

        def tell(text: str, done: bool = False) -> None:
            self._host.post(ComparePiece(*place, text, done))  # type: ignore[arg-type]

        strength = 1.0 if tuned else 0.0  # as it was trained, however strongly it is applied in chat
        with given_time_for(self._host, command.probe.messages):
            text, _, _ = await self._write(chat, command.probe.messages, greedy, strength, command.chat_format, tell)
        tell("", True)
        return text.strip()

    async def _write(
        self, chat: ChatEngine, messages: tuple[ChatMessage, ...], sampling: SamplingConfig, strength: float,
        chat_format: str, tell: Callable[[str], None],
    ) -> tuple[str, tuple[int, ...], ReplyStats]:  # fmt: skip
        """Generate a reply; return it, its tokens, and how it went. `tell` hears each piece. Lets a stop in between.

        When the GPU is lost the reply is written again on the next one, from its beginning: the same, as its seed is.
        Only what is new is told.
        """
        told = losses = 0
        while True:
            self._model.use_template(chat_format, with_adapter=strength != 0)
            text = ""
            ids: list[int] = []
            try:
                async for piece in chat.reply([vars(turn) for turn in messages], sampling, adapter_strength=strength):
                    text += piece.text
                    ids.append(piece.token_id)
                    if len(text) > told:
                        tell(text[told:])
                        told = len(text)
                    if self._turns.stop_asked:  # also one that came before the engine had begun
                        chat.stop()
                    await asyncio.sleep(0)
                assert chat.last_stats is not None  # the reply has ended
                # What a decoder held back comes as a last piece, without a token of its own.
                return text, tuple(ids[: chat.last_stats.new_tokens]), chat.last_stats
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
        adapter = chat.adapter if command.use_adapter else None
        values = await logits(chat.model, adapter, ids, self._model.strength)
        self._host.post(Logits(tuple(ids), values.shape[1], values.astype("<f4").tobytes()))
