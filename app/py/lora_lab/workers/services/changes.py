"""What the adapters have changed about a text, token by token, told as it is worked out; a stop ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from lora_lab.data.tokens.tokenizer import StreamDecoder, Tokenizer
from lora_lab.errors import LoraLabError
from lora_lab.generate import ChatEngine
from lora_lab.generate.changes import Likely, TokenChange, token_changes
from lora_lab.model import Adapter
from lora_lab.workers.model.adapter_set import AdapterSet
from lora_lab.workers.protocol import (
    AdapterUse,
    ChangedToken,
    ChangesEnded,
    ChangesPart,
    Command,
    LikelyToken,
    ShowChanges,
)
from lora_lab.workers.run.sampling import refuse_strength
from lora_lab.workers.services.chat_model import ChatModel
from lora_lab.workers.services.replies import given_time_for
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Host, failure, handles, hears

AT_ONCE = 16  # tokens that are told together
MOST_ALTERNATIVES = 50


class Changes:
    """Answers ShowChanges."""

    def __init__(self, host: Host, model: ChatModel, turns: Turns) -> None:
        self._host, self._model, self._turns = host, model, turns

    @hears(ShowChanges)
    def number(self, _: Command) -> None:
        """Count a look as it comes: it can be stopped while it waits for its turn."""
        self._turns.come()

    @handles(ShowChanges, "chat", exclusive=True)
    async def show_changes(self, command: ShowChanges) -> None:
        """Tell every token. The page hears the end in any case."""
        self._turns.begin()
        is_whole = False
        uses: tuple[AdapterUse, ...] = ()
        try:
            given = command.adapters
            refuse_strength(command.strength)
            if not 0 <= command.alternatives <= MOST_ALTERNATIVES:
                found = f"{command.alternatives} alternatives of each token are asked for"
                raise LoraLabError(f"{found}; wanted 0 to {MOST_ALTERNATIVES}")
            adapter = self._model.adapter if given is None else self._model.held.whole(given)
            if not self._turns.stop_asked:
                uses = adapter.uses(command.strength) if adapter else ()
                chat = await self._model.engine()
                with given_time_for(self._host, command.messages):
                    is_whole = await self._look(chat, command, adapter)
        except Exception as error:
            self._host.post(failure("chat", error))
        self._host.post(ChangesEnded(command.request, is_whole, uses))

    async def _look(self, chat: ChatEngine, command: ShowChanges, adapter: AdapterSet | None) -> bool:
        """Return whether all of the text was looked at."""
        made: Adapter | None = None
        try:
            if adapter is not None and adapter is self._model.adapter:  # they are on the GPU
                self._model.use_template(command.chat_format, with_adapter=True)
                on, strength = chat.adapter, self._model.strength
            else:
                side = self._model.side(adapter, command.chat_format)
                chat.template, strength = side.template, side.strength
                if side.lora is not None:
                    made = Adapter.from_tensors(chat.model.device, chat.model.config, side.lora, side.tensors or {})
                on = made
            return await self._tell_all(chat, command, on, strength * command.strength)
        finally:
            if made is not None:
                made.release()

    async def _tell_all(self, chat: ChatEngine, command: ShowChanges, on: Adapter | None, strength: float) -> bool:
        ids, first = _text(chat, command)
        total, done = len(ids) - first, 0
        decoder = StreamDecoder(chat.tokenizer, skip_special_tokens=False)
        part: list[ChangedToken] = []
        looking = token_changes(chat.model, on, ids, first=first, strength=strength, top=command.alternatives)
        async with aclosing(looking):
            async for change in looking:
                done += 1
                text = decoder.push(change.token_id) + (decoder.finish() if done == total else "")
                part.append(_told(change, text, chat.tokenizer))
                if len(part) == AT_ONCE or done == total:
                    self._host.post(ChangesPart(command.request, tuple(part), done, total))
                    part.clear()
                    await asyncio.sleep(0)
                    if self._turns.stop_asked:
                        return False
        return True


def _text(chat: ChatEngine, command: ShowChanges) -> tuple[list[int], int]:
    """Return the tokens, and which of them is the first to look at."""
    said = list(command.token_ids) or chat.tokenizer.encode(command.text)
    vocab_size = chat.model.config.vocab_size
    if wrong := [token for token in said if not 0 <= token < vocab_size]:
        raise LoraLabError(f"the text has token {wrong[0]}; this model's are 0 to {vocab_size - 1}")
    if not command.messages:
        return said, 1
    window = chat.window([vars(turn) for turn in command.messages], command.max_new_tokens or len(said))
    return [*window.prompt, *said], len(window.prompt)


def _told(change: TokenChange, text: str, tokenizer: Tokenizer) -> ChangedToken:
    def likely(found: Sequence[Likely]) -> tuple[LikelyToken, ...]:
        return tuple(LikelyToken(one.token_id, shown(tokenizer, one.token_id), one.base, one.tuned) for one in found)

    base_top, tuned_top = likely(change.base_top), likely(change.tuned_top)
    return ChangedToken(change.token_id, text, change.base, change.tuned, base_top, tuned_top)


def shown(tokenizer: Tokenizer, token_id: int) -> str:
    """Return what a token stands for by itself; a number that stands for nothing by its number."""
    return tokenizer.decode([token_id]) or tokenizer.id_to_token(token_id) or f"[{token_id}]"
