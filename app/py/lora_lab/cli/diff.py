"""`lora-lab diff`: what adapters change about a text, token by token."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from lora_lab.cli.adapters import Chosen, bringing_a_template, chosen_adapters, read_adapters, written_by
from lora_lab.cli.commands import on_gpu
from lora_lab.cli.generate import messages_of
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.templates import choose_template
from lora_lab.cli.terminal import run_interruptible, say
from lora_lab.config import SamplingConfig
from lora_lab.data.tokens.tokenizer import StreamDecoder, Tokenizer
from lora_lab.errors import LoraLabError
from lora_lab.generate import ChatEngine
from lora_lab.generate.changes import Likely, TokenChange, token_changes
from lora_lab.model import Adapter

SHOWN = 18  # characters of a token in a table


def diff(options: argparse.Namespace, sampling: SamplingConfig) -> int:
    """Print each token's probability with the adapters and without, and the likeliest others."""
    chosen = chosen_adapters(options)
    if not chosen:
        raise LoraLabError("diff needs an --adapter: without one there is nothing that has changed")
    if options.reply is not None and options.prompt is None:
        raise LoraLabError("--reply is the answer to a --prompt, and none is given; wanted --prompt, or --text alone")
    tokenizer, changes = run_interruptible(_changes(options, sampling, chosen, find_model(options.model)))
    rows = [_row(tokenizer, change) for change in changes]
    for row, text in zip(rows, _texts(tokenizer, changes), strict=True):
        row["text"] = text
    if options.json:
        adapters = [{"path": str(one.path), "strength": one.strength} for one in chosen]
        print(json.dumps({"adapters": adapters, "tokens": rows}, ensure_ascii=False))
        return 0
    for line in _table(rows):
        print(line)
    total = sum(change.log_ratio for change in changes)
    say(
        f"{len(rows)} tokens; with {written_by(chosen)} the text is e^{total:+.2f} times as likely as by the base model"
    )  # fmt: skip
    return 0


async def _changes(
    options: argparse.Namespace, sampling: SamplingConfig, chosen: Sequence[Chosen], found: FoundModel
) -> tuple[Tokenizer, list[TokenChange]]:
    opened = await open_found(found)
    tuned = await read_adapters(chosen, opened.files.config)
    assert tuned is not None, "some are chosen"
    tokenizer = opened.tokenizer
    async with on_gpu(opened.files, options.gpu) as model:
        if options.text is not None:
            first, ids = 1, tokenizer.encode(options.text)
        else:
            template = choose_template(
                options.chat_template, opened.files, tokenizer, bringing_a_template(chosen)
            )  # fmt: skip
            messages = messages_of(options)
            prompt = tokenizer.encode(template.render(messages, add_generation_prompt=True))
            if options.reply is not None:
                said = tokenizer.encode(options.reply)
            else:
                wanted = min(len(prompt) + sampling.max_new_tokens, model.config.max_position_embeddings)
                chat = ChatEngine(model, tokenizer, template, context_length=wanted)
                try:
                    await chat.set_adapter(tuned.lora, tuned.tensors)
                    async with aclosing(chat.complete(prompt, sampling, tuned.strength)) as pieces:
                        said = [piece.token_id async for piece in pieces]
                    assert chat.last_stats is not None, "a reply that has ended leaves its numbers"
                    said = said[: chat.last_stats.new_tokens]
                finally:
                    chat.close()
            first, ids = len(prompt), [*prompt, *said]
        adapter = Adapter.from_tensors(model.device, model.config, tuned.lora, tuned.tensors)
        try:
            looking = token_changes(model, adapter, ids, first=first, strength=tuned.strength, top=options.alternatives)
            async with aclosing(looking):
                return tokenizer, [change async for change in looking]
        finally:
            adapter.release()


def _texts(tokenizer: Tokenizer, changes: Sequence[TokenChange]) -> list[str]:
    """Return what each token adds to the text: "" while a character is incomplete."""
    decoder = StreamDecoder(tokenizer, skip_special_tokens=False)
    texts = [decoder.push(change.token_id) for change in changes]
    if texts:
        texts[-1] += decoder.finish()
    return texts


def _row(tokenizer: Tokenizer, change: TokenChange) -> dict[str, Any]:
    def likely(found: Sequence[Likely]) -> list[dict[str, Any]]:
        return [
            {"token_id": one.token_id, "text": tokenizer.decode([one.token_id]), "base": one.base, "tuned": one.tuned}
            for one in found
        ]

    return {
        "token_id": change.token_id, "text": "", "base": change.base, "tuned": change.tuned,
        "log_ratio": change.log_ratio, "base_top": likely(change.base_top), "tuned_top": likely(change.tuned_top),
    }  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a table: the token, its probabilities, the logarithm of their ratio, the likeliest others."""
    lines = [f"{'token':<{SHOWN}} {'base':>8} {'adapter':>8} {'ratio':>7}  likeliest by the base | by the adapter"]
    for row in rows:
        tops = (", ".join(f"{_quoted(one['text'])} {_share(one[by])}" for one in row[f"{by}_top"])
                for by in ("base", "tuned"))  # fmt: skip
        lines.append(
            f"{_quoted(row['text']):<{SHOWN}} {_share(row['base']):>8} {_share(row['tuned']):>8} "
            f"{row['log_ratio']:>+7.2f}  {' | '.join(tops)}".rstrip(" |")
        )
    return lines


def _share(logarithm: float) -> str:
    return f"{100 * math.exp(logarithm):.2f}%"


def _quoted(text: str) -> str:
    """Return a token as it can stand in a line."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if len(quoted) <= SHOWN else f'{quoted[: SHOWN - 2]}…"'
