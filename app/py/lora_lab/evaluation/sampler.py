"""Greedy answers of the model that is being trained, on its own weights and its own adapter as it is now.

Nothing of the run is touched: the values inside of a step are nobody's between two steps, so its pool is lent for these
plans; everything else that they write is their own. While it answers nothing else may be in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from ..config import SamplingConfig
from ..data.tokens.template import ChatTemplate
from ..data.tokens.tokenizer import Tokenizer
from ..generate import ChatEngine
from ..generate.plans import GenerationPlans
from ..train import Trainer
from .prompts import Prompt

CONTEXT = 384  # tokens of a prompt and its answer: of more the oldest messages are left out
PREFILL_SIZES = (16, 64)
NEW_TOKENS = 48
GREEDY = SamplingConfig(max_new_tokens=NEW_TOKENS, temperature=0.0)


@dataclass(frozen=True)
class Said:
    """An answer. `is_cut`: the time that it may take was over before it had come to its end or its length."""

    text: str
    is_cut: bool = False


def sampler_bytes(trainer: Trainer) -> int:
    """Return what a Sampler takes on the GPU beside the run, in bytes. Allocates nothing."""
    trainer.plans.sizes()
    return _plans_of(trainer).size_bytes(trainer.adapter, trainer.plans.pool_sizes)


def _plans_of(trainer: Trainer) -> GenerationPlans:
    context = min(CONTEXT, trainer.model.config.max_position_embeddings)
    return GenerationPlans(trainer.model, context, prefill_sizes=PREFILL_SIZES, pool=trainer.plans.pool, planned=True)


class Sampler:
    """Answers with a run's model. It takes `sampler_bytes`; the plans are built with the first answer."""

    def __init__(self, trainer: Trainer, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        """Takes nothing yet. `template` writes conversations as the run's rows are written."""
        self._trainer = trainer
        self._plans = _plans_of(trainer)
        self._engine = ChatEngine(trainer.model, tokenizer, template, plans=self._plans)
        self._is_built = False

    def allocate(self) -> None:
        """Take the memory, but for that of the plans. The run's own must be there. Raises OutOfMemoryError."""
        self._plans.allocate()

    async def begin(self) -> float:
        """Get ready for the adapter as it is now; return the seconds of what is done the first time only."""
        if self._is_built:
            await self._plans.adapter_changed()
            return 0.0
        begun = time.perf_counter()
        self._engine.lend_adapter(self._trainer.adapter)
        await self._plans.prepare(adapter_on=True)
        self._is_built = True
        return time.perf_counter() - begun

    async def answer(self, prompt: Prompt, limit_s: float, is_stopped: Callable[[], bool]) -> Said | None:
        """Return what the model says to a prompt; None when it was stopped. Raises LoraLabError for one too long."""
        begun, parts, is_cut = time.perf_counter(), [], False
        messages = [{"role": role, "content": content} for role, content in prompt.messages]
        async with aclosing(self._engine.reply(messages, GREEDY)) as pieces:
            async for piece in pieces:
                parts.append(piece.text)
                await asyncio.sleep(0)  # let a stop in
                if is_stopped():
                    return None
                if time.perf_counter() - begun > limit_s:
                    is_cut = True
                    break
        return Said("".join(parts).strip(), is_cut)

    def close(self) -> None:
        """Give everything back. Before the run's pool is."""
        self._engine.close()
