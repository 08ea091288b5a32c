"""Everyday rows on the command line: mixed into a run, and measured after it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lora_lab.cli.terminal import say
from lora_lab.config import TrainConfig
from lora_lab.data import Example
from lora_lab.data.tokens.examples import Examples
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.evaluation.neutral import encode_neutral, mix_in, neutral_rows


def mixed_with_neutral(
    options: argparse.Namespace, examples: Sequence[Example], tokenizer: Tokenizer, template: ChatTemplate | None,
    config: TrainConfig,
) -> Sequence[Example]:  # fmt: skip
    """Return the examples with everyday ones behind them, as many as --mix-neutral says; tell how many."""
    if not options.mix_neutral:
        return examples
    assert isinstance(examples, Examples), "they come from files"
    encoded = encode_neutral(neutral_rows("mixed"), tokenizer, template, config.max_length, options.mask)
    together, count = mix_in(examples, encoded, options.mix_neutral, config.seed)
    rows = "everyday row is" if count == 1 else "everyday rows are"
    say(f"{count:,} {rows} mixed in: {len(together):,} rows a pass")
    return together
