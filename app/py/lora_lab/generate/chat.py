"""Chat: messages in, text out piece by piece, with the adapter on, off or in between."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from ..config import LoraConfig, SamplingConfig
from ..data.tokens.chat_formats import end_token
from ..data.tokens.template import ChatTemplate
from ..data.tokens.tokenizer import StreamDecoder, Tokenizer
from ..errors import LoraLabError
from ..gpu.device import Progress
from ..model.lora import Adapter
from ..model.transformer import Model
from ..ops.step import StepValues
from ..setting_schema import plain
from ..settings import SAMPLING
from .plans import GenerationPlans
from .text_stop import TextStop
from .tokens import TokenSource
from .window import Window, fit


@dataclass(frozen=True)
class Piece:
    """What one token adds to the reply. `text` may be empty: a character can take several tokens."""

    text: str
    token_id: int


@dataclass(frozen=True)
class ReplyStats:
    """How a reply went. `finish_reason`: "stop" (end of turn), "length", or "stopped" (by the person)."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, kept from the turn before
    new_tokens: int
    time_to_first_token_ms: float
    tokens_per_s: float  # after the first token
    finish_reason: str
    dropped_messages: int = 0  # the oldest of the conversation, which its prompt had no room for


class ChatEngine:
    """Holds one conversation's cache. One reply at a time; `stop` ends it after the piece last given.

    `template` may be another for each reply. Where it is not the model's own, its end of a turn ends replies too.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer, template: ChatTemplate, context_length: int = 2048,
        plans: GenerationPlans | None = None,
    ) -> None:  # fmt: skip
        """`plans`: of this model and, whatever `context_length` says, of their own length."""
        if plans is not None:
            context_length = plans.context_length
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.context_length = min(context_length, model.config.max_position_embeddings)
        self.plans = plans or GenerationPlans(model, self.context_length)
        self.source = TokenSource(self.plans)
        self.adapter: Adapter | None = None
        self._adapter_is_lent = False
        self.last_stats: ReplyStats | None = None
        self._cached_strength = 0.0  # that the cache's rows were computed with; 0 is off
        self._stop = False

    async def prepare(self, on_progress: Progress | None = None) -> None:
        """Compile every kernel. `on_progress(done, total)` counts the plans."""
        await self.plans.prepare(on_progress)

    async def set_adapter(self, config: LoraConfig | None, tensors: Mapping[str, np.ndarray] | None = None) -> None:
        """Apply other matrices, or none, without reloading the model. Raises AdapterError; the old one then stays."""
        new = None
        if config is not None:
            new = Adapter.from_tensors(self.model.device, self.model.config, config, tensors or {})
        await self.plans.device.finished()
        self._use(new, is_lent=False)

    def lend_adapter(self, adapter: Adapter) -> None:
        """Apply an adapter that stays somebody else's, who says so with `plans.adapter_changed` when it has changed.

        Nothing of a reply may be in flight.
        """
        self._use(adapter, is_lent=True)

    def _use(self, adapter: Adapter | None, is_lent: bool) -> None:
        self.plans.set_adapter(adapter)
        self._release_adapter()
        self.adapter, self._adapter_is_lent = adapter, is_lent

    def _release_adapter(self) -> None:
        if self.adapter is not None and not self._adapter_is_lent:
            self.adapter.release()
        self.adapter = None

    def stop(self) -> None:
        """Let the piece last given be the reply's last one. What was drawn ahead of it is dropped."""
        self._stop = True

    async def reply(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, adapter_strength: float = 1.0
    ) -> AsyncGenerator[Piece, None]:
        """Yield the assistant's next turn. `adapter_strength` 0 is the base model itself, 1 the adapter as trained.

        Of a conversation that outgrows the context the oldest turns are left out (`window.fit`); `last_stats` has how
        many messages.
        """

        window = self.window(messages, sampling.max_new_tokens)
        async with aclosing(self._complete(window, sampling, adapter_strength)) as pieces:
            async for piece in pieces:
                yield piece

    def window(self, messages: Sequence[Mapping[str, str]], max_new_tokens: int) -> Window:
        """Return what `reply` gives the model of a conversation. LoraLabError where its newest turn is too long."""

        def encode(some: Sequence[Mapping[str, str]]) -> list[int]:
            return list(self.tokenizer.encode(self.template.render(list(some), add_generation_prompt=True)))

        return fit(messages, lambda one: one["role"], encode, self.context_length, max_new_tokens)

    async def complete(
        self, prompt: Sequence[int], sampling: SamplingConfig, adapter_strength: float = 1.0
    ) -> AsyncGenerator[Piece, None]:
        """Yield what follows the tokens of `prompt`. `last_stats` tells how it went once the last piece is out."""
        async with aclosing(self._complete(Window(list(prompt)), sampling, adapter_strength)) as pieces:
            async for piece in pieces:
                yield piece

    async def _complete(
        self, window: Window, sampling: SamplingConfig, adapter_strength: float
    ) -> AsyncGenerator[Piece, None]:  # fmt: skip
        _check(sampling)
        prompt = window.prompt
        room = self.context_length - len(prompt)
        if not prompt or room < 1:
            raise LoraLabError(
                f"the prompt is {len(prompt):,} tokens long; the context holds {self.context_length:,}, and an answer "
                "needs room too. Shorten it."
            )
        self._stop = False
        strength = adapter_strength if self.adapter is not None else 0.0
        adapter_on = strength != 0.0
        cache = self.plans.cache
        if strength != self._cached_strength:
            cache.clear()
            self._cached_strength = strength
        started = time.perf_counter()
        cached = cache.keep_prefix(prompt)
        seen = np.zeros(self.model.config.vocab_size, np.uint32)
        seen[np.asarray(prompt, np.int64)] = 1
        values = StepValues(
            strength=strength, seed=sampling.seed, temperature=sampling.temperature, top_k=sampling.top_k,
            top_p=sampling.top_p, min_p=sampling.min_p, repetition_penalty=sampling.repetition_penalty,
        )  # fmt: skip
        stops = {*self.model.config.eos_token_ids, *sampling.stop_token_ids}
        end = end_token(self.template, self.tokenizer)
        if end is not None:
            stops.add(end)
        # A special token is not shown; what is written of several tokens, or of a common one, is found in the text.
        marker = TextStop("" if end in self.tokenizer.special_ids else self.template.end_of_turn)
        decoder = StreamDecoder(self.tokenizer)
        reason, count, first_at, token = "length", 0, started, -1
        limit = min(room, sampling.max_new_tokens)
        async with aclosing(self.source.draw(prompt[cached:], adapter_on, values, seen, limit)) as tokens:
            async for token in tokens:
                if count == 0:
                    first_at = time.perf_counter()
                if token in stops:
                    reason = "stop"
                    break
                count += 1
                yield Piece(marker.push(decoder.push(token)), token)
                if marker.found:
                    reason = "stop"
                    break
                if self._stop:
                    reason = "stopped"
                    break
        rest = marker.push(decoder.finish()) + marker.finish()
        now = time.perf_counter()
        self.last_stats = ReplyStats(
            prompt_tokens=len(prompt), cached_tokens=cached, new_tokens=count,
            time_to_first_token_ms=(first_at - started) * 1e3,
            tokens_per_s=(count - 1) / (now - first_at) if count > 1 else 0.0, finish_reason=reason,
            dropped_messages=window.dropped,
        )  # fmt: skip
        if rest:
            yield Piece(rest, token)

    def close(self) -> None:
        """Give back everything but the model."""
        self._release_adapter()
        self.plans.close()

    @property
    def memory_bytes(self) -> int:
        """What chat takes on the GPU with the model, in bytes."""
        return self.model.device.memory_in_use_bytes


def _check(sampling: SamplingConfig) -> None:
    problems = []
    for setting in SAMPLING:
        value, bounds = getattr(sampling, setting.name), setting.bounds
        if not bounds.hold(value):
            between = f"{plain(bounds.least)} and {plain(bounds.most)}"
            problems.append(f"{setting.name} is {value}; it must be between {between}")
    if problems:
        raise LoraLabError("; ".join(problems))
