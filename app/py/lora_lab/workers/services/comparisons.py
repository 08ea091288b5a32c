"""Two replies side by side, by any adapters at any strength: both told piece by piece, both ended by one stop."""

from __future__ import annotations

import asyncio

from lora_lab.config import SamplingConfig
from lora_lab.generate.chat import Piece, ReplyStats
from lora_lab.generate.comparison import Comparison
from lora_lab.workers.model.adapter_set import AdapterSet
from lora_lab.workers.protocol import (
    AdapterUse,
    Command,
    ComparedPiece,
    ComparedReply,
    CompareReplies,
    ComparisonEnded,
)
from lora_lab.workers.protocol.chat import SideName
from lora_lab.workers.run.sampling import sampling_config
from lora_lab.workers.services.chat_model import MOST_LOSSES, ChatModel
from lora_lab.workers.services.replies import given_time_for
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Host, failure, handles, hears

NAMES: tuple[SideName, SideName] = ("left", "right")


class Told:
    """What the page has heard of one side, and what it will be told of it."""

    def __init__(self, host: Host, turn: int, name: SideName, adapters: tuple[AdapterUse, ...]) -> None:
        self._host, self._turn, self._name, self._adapters = host, turn, name, adapters
        self._told = 0  # characters
        self.is_done = False
        self.begin_again()

    def begin_again(self) -> None:
        """Take the reply from its beginning: what is told already is not told again."""
        self._text, self._ids = "", list[int]()

    def piece(self, piece: Piece) -> None:
        """Tell what is new."""
        self._text += piece.text
        self._ids.append(piece.token_id)
        if len(self._text) > self._told:
            self._host.post(ComparedPiece(self._turn, self._name, self._adapters, self._text[self._told :]))
            self._told = len(self._text)

    def end(self, stats: ReplyStats) -> None:
        """Tell the whole, once."""
        if not self.is_done:
            self.is_done = True
            self._host.post(
                ComparedReply(
                    self._turn, self._name, self._adapters, self._text, tuple(self._ids[: stats.new_tokens]),
                    stats.prompt_tokens, stats.tokens_per_s, stats.time_to_first_token_ms, stats.finish_reason,
                    stats.dropped_messages,
                )
            )  # fmt: skip


class Comparisons:
    """Answers CompareReplies."""

    def __init__(self, host: Host, model: ChatModel, turns: Turns) -> None:
        self._host, self._model, self._turns = host, model, turns

    @hears(CompareReplies)
    def number(self, _: Command) -> None:
        """Count a comparison as it comes: it can be stopped while it waits for its turn."""
        self._turns.come()

    @handles(CompareReplies, "chat", exclusive=True)
    async def compare_replies(self, command: CompareReplies) -> None:
        """Write both replies. The page hears the end in any case."""
        self._turns.begin()
        is_whole = False
        try:
            sampling = sampling_config(command.sampling)
            adapters = [self._model.held.whole(parts) for parts in (command.left, command.right)]
            if not self._turns.stop_asked:
                with given_time_for(self._host, command.messages):
                    is_whole = await self._write(command, sampling, adapters)
        except Exception as error:
            self._host.post(failure("chat", error))
        self._host.post(ComparisonEnded(command.turn, is_whole))

    async def _write(
        self, command: CompareReplies, sampling: SamplingConfig, adapters: list[AdapterSet | None]
    ) -> bool:  # fmt: skip
        """Return whether both replies are whole. Where the GPU is lost they are written again on the next one."""
        told = [Told(self._host, command.turn, name, adapter.uses() if adapter else ())
                for name, adapter in zip(NAMES, adapters, strict=True)]  # fmt: skip
        losses = 0
        while True:
            chat = await self._model.engine()
            assert self._model.tokenizer is not None  # there is an engine
            sides = [self._model.side(adapter, command.chat_format) for adapter in adapters]
            comparison = Comparison(chat.model, self._model.tokenizer, sides, chat.context_length)
            try:
                async for index, said in comparison.reply([vars(turn) for turn in command.messages], sampling):
                    if isinstance(said, Piece):
                        told[index].piece(said)
                    else:
                        told[index].end(said)
                    if self._turns.stop_asked:
                        comparison.stop()
                    await asyncio.sleep(0)
                return not self._turns.stop_asked
            except Exception:
                losses += 1
                if losses > MOST_LOSSES or not await self._model.was_lost(chat):
                    raise
                for side in told:
                    side.begin_again()
            finally:
                comparison.close()
