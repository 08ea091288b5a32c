"""Everyday rows on the command line: mixed into a run, and measured after it."""

from __future__ import annotations

import argparse
from dataclasses import replace

from lora_lab.cli.data_check import RunRows
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.terminal import ByteBar, say
from lora_lab.config import TrainConfig
from lora_lab.data.tokens.examples import Examples
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.measure import measure_neutral
from lora_lab.evaluation.neutral import Neutral, encode_neutral, in_words, mix_in, neutral_rows
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model
from lora_lab.train import Trainer


def mixed_with_neutral(
    options: argparse.Namespace, rows: RunRows, tokenizer: Tokenizer, template: ChatTemplate | None,
    config: TrainConfig,
) -> RunRows:  # fmt: skip
    """Return the rows with everyday ones behind those that are trained, as --mix-neutral says; tell how many."""
    if not options.mix_neutral:
        return rows
    assert isinstance(rows.trained, Examples), "they come from files"
    encoded = encode_neutral(neutral_rows("mixed"), tokenizer, template, config.max_length, options.mask)
    together, count = mix_in(rows.trained, encoded, options.mix_neutral, config.seed)
    words = "everyday row is" if count == 1 else "everyday rows are"
    say(f"{count:,} {words} mixed in: {len(together):,} rows a pass")
    return replace(rows, trained=together, mixed=count)


def measures_neutral(options: argparse.Namespace, device: Device) -> bool:
    """Whether it is measured after the run what else changed: on a GPU, unless --neutral says otherwise."""
    return options.neutral == "on" or (options.neutral == "auto" and not device.info.is_software)


async def measured(
    model: Model, adapter: Adapter, tokenizer: Tokenizer, template: ChatTemplate | None, trainer: Trainer
) -> Neutral | None:
    """Measure what else a run changed, and tell it; None where that could not be done, or Ctrl-C came.

    The run's own memory is given back before: the adapter stays.
    """
    trainer.close()
    bar = ByteBar("everyday rows", unit="row")
    try:
        found = await measure_neutral(model, adapter, tokenizer, template, bar, lambda: interrupts.asked)
    except LoraLabError as error:  # what was learned matters more
        say(f"What else changed could not be measured: {error}")
        return None
    finally:
        bar.close()
    if found is None:
        return None
    say(f"Everyday questions and texts: loss {found.base:.3f} -> {found.tuned:.3f}; {in_words(found.rose)}")
    for one in found.advice:
        say(f"  {one}")
    return found
