"""What a run did to everything else, measured: everyday rows with the adapter and without, on the run's weights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from lora_lab.config import SamplingConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.evaluation.neutral import (
    Encoded,
    Neutral,
    NeutralAnswer,
    asked,
    encode_neutral,
    neutral_rows,
    sum_up,
)
from lora_lab.generate import ChatEngine
from lora_lab.gpu.device import Progress
from lora_lab.model import Adapter, Model
from lora_lab.train.score import Scorer

MAX_LENGTH = 512  # tokens of a row; the longest has some 80
ANSWER_TOKENS, CONTEXT = 40, 256
GREEDY = SamplingConfig(max_new_tokens=ANSWER_TOKENS, temperature=0.0)


class _GivenUp(Exception):
    pass


async def measure_neutral(
    model: Model, adapter: Adapter, tokenizer: Tokenizer, template: ChatTemplate | None,
    on_progress: Progress | None = None, stopped: Callable[[], bool] = lambda: False,
) -> Neutral | None:  # fmt: skip
    """Return the loss of the everyday rows without the adapter and with it, and a few answers of both.

    None when `stopped` said so, which is asked now and then, or where the model has no tokens for any of the rows.
    `on_progress(done, total)` counts rows and answers. What it takes on the GPU is given back.
    """
    length = min(MAX_LENGTH, model.config.max_position_embeddings)
    encoded = encode_neutral(neutral_rows("measured"), tokenizer, template, length)
    if not encoded.rows:
        return None
    questions = asked(encoded) if template is not None else []
    total, done = 2 * (len(encoded.rows) + len(questions)), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)
        if stopped():
            raise _GivenUp

    try:
        base, tuned = await _losses(model, adapter, encoded, advance)
        answers = await _answers(model, adapter, tokenizer, template, questions, advance) if template else []
    except _GivenUp:
        return None
    return sum_up(encoded, base, tuned, answers)


async def _losses(
    model: Model, adapter: Adapter, encoded: Encoded, advance: Callable[[], None]
) -> tuple[list[float], list[float]]:
    scorer = Scorer(model, adapter, int(encoded.examples.input_lengths.max()))
    found: tuple[list[float], list[float]] = ([], [])
    try:
        for example in encoded.examples:
            for losses, strength in zip(found, (0.0, 1.0), strict=True):
                losses += await scorer.losses([example], strength)
                advance()
                await asyncio.sleep(0)  # let a stop in
        return found
    finally:
        scorer.close()


async def _answers(
    model: Model, adapter: Adapter, tokenizer: Tokenizer, template: ChatTemplate,
    questions: list[tuple[str, str]], advance: Callable[[], None],
) -> list[NeutralAnswer]:  # fmt: skip
    chat = ChatEngine(model, tokenizer, template, CONTEXT)
    chat.plans.set_adapter(adapter)
    chat.adapter = adapter
    found: dict[float, list[str]] = {0.0: [], 1.0: []}
    try:
        for strength, texts in found.items():
            for prompt, _ in questions:
                said = ""
                async with aclosing(chat.reply([{"role": "user", "content": prompt}], GREEDY, strength)) as pieces:
                    async for piece in pieces:
                        said += piece.text
                texts.append(said)
                advance()
    finally:
        chat.adapter = None  # the run's own, which closing would release
        chat.close()
    return [
        NeutralAnswer(prompt, base, tuned, reference)
        for (prompt, reference), base, tuned in zip(questions, *found.values(), strict=True)
    ]
