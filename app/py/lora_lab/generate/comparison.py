"""Two replies to one conversation, written side by side: the weights are there once, each side has a cache of its own.

Both sides draw with the same seed, and draw number n of a reply depends on the seed and on n alone (wgsl/sample.wgsl):
so at each place both meet the same chance, and where they differ it is the adapter that differs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import numpy as np

from ..config import LoraConfig, SamplingConfig
from ..data.tokens.template import ChatTemplate
from ..data.tokens.tokenizer import Tokenizer
from ..model.transformer import Model
from .chat import ChatEngine, Piece, ReplyStats

CONTEXT_STEP = 256  # tokens: a side's cache is as long as the conversation and the reply need, in whole ones


@dataclass(frozen=True)
class Side:
    """Who answers: an adapter (None is the base model itself) at a strength, and the template it is asked with."""

    template: ChatTemplate
    lora: LoraConfig | None = None
    tensors: Mapping[str, np.ndarray] | None = None
    strength: float = 1.0


class Comparison:
    """Writes several replies at once, a piece of each in turn. `close` gives back everything but the model."""

    def __init__(self, model: Model, tokenizer: Tokenizer, sides: Sequence[Side], most_context: int) -> None:
        self.model, self.tokenizer, self.sides, self.most_context = model, tokenizer, tuple(sides), most_context
        self._engines: list[ChatEngine] = []
        self._stop = False

    def stop(self) -> None:
        """Let the pieces last given be the replies' last ones, on all sides."""
        self._stop = True
        for engine in self._engines:
            engine.stop()

    async def reply(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig
    ) -> AsyncGenerator[tuple[int, Piece | ReplyStats], None]:
        """Yield (side, piece) in turn, and (side, how it went) once for each side at its reply's end."""
        self.close()
        self._stop = False
        for side in self.sides:
            self._engines.append(self._engine(side, messages, sampling.max_new_tokens))
            await self._engines[-1].set_adapter(side.lora, side.tensors)
        async with AsyncExitStack() as stack:
            writing = {}
            for index, (side, engine) in enumerate(zip(self.sides, self._engines, strict=True)):
                reply = engine.reply(messages, sampling, adapter_strength=side.strength)
                writing[index] = await stack.enter_async_context(aclosing(reply))
            begun: set[int] = set()
            while writing:
                for index in tuple(writing):
                    if self._stop and index not in begun:
                        del writing[index]
                        yield index, ReplyStats(0, 0, 0, 0.0, 0.0, "stopped")
                        continue
                    begun.add(index)
                    piece = await anext(writing[index], None)
                    if piece is None:
                        del writing[index]
                        stats = self._engines[index].last_stats
                        assert stats is not None, "a reply that has ended leaves its numbers"
                        yield index, stats
                    else:
                        yield index, piece

    def _engine(self, side: Side, messages: Sequence[Mapping[str, str]], max_new_tokens: int) -> ChatEngine:
        prompt = self.tokenizer.encode(side.template.render(list(messages), add_generation_prompt=True))
        wanted = -(-(len(prompt) + max_new_tokens) // CONTEXT_STEP) * CONTEXT_STEP
        return ChatEngine(self.model, self.tokenizer, side.template, min(wanted, self.most_context))

    def close(self) -> None:
        """Give the caches and the adapters back."""
        for engine in self._engines:
            engine.close()
        self._engines.clear()
