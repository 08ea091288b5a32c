"""`lora-lab generate`: a prompt answered once, or by two side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from lora_lab.cli.adapters import (
    Chosen,
    bringing_a_template,
    chosen_adapters,
    other_adapters,
    read_adapters,
    written_by,
)
from lora_lab.cli.commands import on_gpu
from lora_lab.cli.models import FoundModel, OpenedModel, find_model, open_found
from lora_lab.cli.templates import choose_template
from lora_lab.cli.terminal import run_interruptible, say
from lora_lab.config import SamplingConfig
from lora_lab.errors import LoraLabError
from lora_lab.generate import ChatEngine, Piece, ReplyStats
from lora_lab.generate.comparison import Comparison, Side


def generate(options: argparse.Namespace, sampling: SamplingConfig) -> int:
    """Answer one prompt on standard output, piece by piece."""
    chosen = chosen_adapters(options)
    if options.compare is None:
        run_interruptible(_answer(options, sampling, chosen, find_model(options.model)))
    else:
        other = other_adapters(options.compare, chosen)
        if written_by(other) == written_by(chosen):
            raise LoraLabError(
                f"--compare: both sides are {written_by(chosen)}; give an --adapter, or name another after --compare"
            )
        # The one without adapters first, as one reads: before and after.
        sides = [other, chosen] if chosen and not other else [chosen, other]
        run_interruptible(_compare(options, sampling, sides, find_model(options.model)))
    return 0


def messages_of(options: argparse.Namespace) -> list[dict[str, str]]:
    """Return the conversation that --prompt and --system begin."""
    messages = [{"role": "system", "content": options.system}] if options.system is not None else []
    return [*messages, {"role": "user", "content": options.prompt}]


@dataclass
class Written:
    """What one of the sides has written."""

    chosen: Sequence[Chosen]
    text: str = ""
    ids: list[int] = field(default_factory=list)
    stats: ReplyStats | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.ids.append(piece.token_id)

    def as_json(self) -> dict[str, Any]:
        """Return it with who wrote it."""
        assert self.stats is not None, "a reply that has ended leaves its numbers"
        return {
            "adapters": [{"path": str(one.path), "strength": one.strength} for one in self.chosen if one.strength],
            "text": self.text,
            "token_ids": self.ids[: self.stats.new_tokens],
            "finish_reason": self.stats.finish_reason,
        }


class Printer:
    """Prints replies that are written at once: the first as it comes, each other one when all before it are whole."""

    def __init__(self, replies: Sequence[Written]) -> None:
        self._replies = replies
        self._now = 0  # whose turn it is
        self._printed = -1  # characters of it; -1: not even its label

    def print_new(self) -> None:
        """Print what has come."""
        while self._now < len(self._replies):
            reply = self._replies[self._now]
            if self._printed < 0:
                print(f"--- {written_by(reply.chosen)}")
                self._printed = 0
            print(reply.text[self._printed :], end="", flush=True)
            self._printed = len(reply.text)
            if reply.stats is None:
                return
            print(flush=True)
            self._now, self._printed = self._now + 1, -1


async def _answer(
    options: argparse.Namespace, sampling: SamplingConfig, chosen: Sequence[Chosen], found: FoundModel
) -> None:  # fmt: skip
    opened = await open_found(found)
    messages = messages_of(options)
    tuned = await read_adapters(chosen, opened.files.config)
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, bringing_a_template(chosen))
    async with on_gpu(opened.files, options.gpu) as model:
        length = len(opened.tokenizer.encode(template.render(messages, add_generation_prompt=True)))
        wanted = min(length + sampling.max_new_tokens, model.config.max_position_embeddings)
        chat = ChatEngine(model, opened.tokenizer, template, context_length=wanted)
        try:
            await chat.prepare()
            if tuned is not None:
                await chat.set_adapter(tuned.lora, tuned.tensors)
            written = Written(chosen)
            strength = tuned.strength if tuned is not None else 0.0
            async with aclosing(chat.reply(messages, sampling, adapter_strength=strength)) as pieces:
                async for piece in pieces:
                    written.add(piece)
                    if not options.json:
                        print(piece.text, end="", flush=True)
            written.stats = chat.last_stats
        finally:
            chat.close()
        print(json.dumps(written.as_json(), ensure_ascii=False) if options.json else "", flush=True)
        _say_speed(written)


async def _compare(
    options: argparse.Namespace, sampling: SamplingConfig, sides: Sequence[Sequence[Chosen]], found: FoundModel
) -> None:  # fmt: skip
    opened = await open_found(found)
    engines = [await _side(options, chosen, opened) for chosen in sides]
    written = [Written(chosen) for chosen in sides]
    async with on_gpu(opened.files, options.gpu) as model:
        comparison = Comparison(model, opened.tokenizer, engines, model.config.max_position_embeddings)
        printer = Printer(written)
        try:
            async with aclosing(comparison.reply(messages_of(options), sampling)) as saying:
                async for index, said in saying:
                    if isinstance(said, Piece):
                        written[index].add(said)
                    else:
                        written[index].stats = said
                    if not options.json:
                        printer.print_new()
        finally:
            comparison.close()
    if options.json:
        replies = [one.as_json() for one in written]
        print(json.dumps({"seed": sampling.seed, "replies": replies}, ensure_ascii=False), flush=True)
    for one in written:
        _say_speed(one)


async def _side(options: argparse.Namespace, chosen: Sequence[Chosen], opened: OpenedModel) -> Side:
    tuned = await read_adapters(chosen, opened.files.config)
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, bringing_a_template(chosen))
    return Side(template) if tuned is None else Side(template, tuned.lora, tuned.tensors, tuned.strength)


def _say_speed(written: Written) -> None:
    stats = written.stats
    assert stats is not None, "a reply that has ended leaves its numbers"
    say(
        f"{stats.new_tokens} tokens, {stats.tokens_per_s:,.1f} tokens/s, "
        f"the first after {stats.time_to_first_token_ms:,.0f} ms"
        + (", cut off by --max-new-tokens or the model's length" if stats.finish_reason == "length" else "")
    )
