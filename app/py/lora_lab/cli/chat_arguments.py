"""The arguments of what runs a model: `generate`, `logits`, `diff`. Imports no engine: --help answers at once."""

from __future__ import annotations

import argparse

from lora_lab.cli.options import Options, add_option, add_template_option, number, option_help, path
from lora_lab.settings import SAMPLING, STRENGTH, Bounds

ADAPTER_HELP = "a folder or zip of PEFT's or mlx-lm's files, or a GGUF"
MOST_ALTERNATIVES = 50


def add_generate_options(command: argparse.ArgumentParser) -> None:
    """Add what `generate` takes."""
    command.add_argument("--prompt", required=True, metavar="TEXT", help="what the user says")
    command.add_argument("--system", metavar="TEXT", help="the system message; default: the model's own")
    compare_help = (
        "answer twice, with the same chance at each place: with the adapters above, and without any (base, the "
        "default), at another strength (a number), or with others, each PATH or PATH@STRENGTH"
    )
    command.add_argument("--compare", nargs="*", metavar="OTHER", help=compare_help)
    json_help = "print one object as JSON: text, tokens, who wrote it"
    command.add_argument("--json", action="store_true", help=json_help)
    add_template_option(command)
    add_adapter_options(command)
    add_sampling_options(command)


def add_logits_options(command: argparse.ArgumentParser) -> None:
    """Add what `logits` takes."""
    text_help = "taken as it is: no template, nothing added; special tokens in it are recognised"
    command.add_argument("--text", required=True, metavar="TEXT", help=text_help)
    out_help = "float32, tokens x vocabulary"
    command.add_argument("--out", required=True, type=path, metavar="FILE.npy", help=out_help)
    add_adapter_options(command)


def add_diff_options(command: argparse.ArgumentParser) -> None:
    """Add what `diff` takes."""
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", metavar="TEXT", help="a text, taken as it is; its second token is the first told")
    what.add_argument("--prompt", metavar="TEXT", help="what the user says; the answer's tokens are told")
    command.add_argument("--reply", metavar="TEXT", help="the answer to --prompt; default: what the adapter answers")
    command.add_argument("--system", metavar="TEXT", help="the system message; default: the model's own")
    count_help = f"how many of the likeliest tokens are told at each place; default: 3, at most {MOST_ALTERNATIVES}"
    count = number(Bounds(0, MOST_ALTERNATIVES), whole=True)
    command.add_argument("--alternatives", type=count, default=3, metavar="N", help=count_help)
    command.add_argument("--json", action="store_true", help="print one object as JSON, with natural logarithms")
    add_template_option(command)
    add_adapter_options(command)
    add_sampling_options(command)


def add_adapter_options(group: Options) -> None:
    """Add --adapter and --strength, which may come several times."""
    adapter_help = f"{ADAPTER_HELP}; given several times: all of them together"
    group.add_argument("--adapter", type=path, action="append", metavar="PATH", help=adapter_help)
    assert STRENGTH.option is not None
    strength_help = f"{option_help(STRENGTH)}; of several adapters: one for all, or one for each in their order"
    strength = number(STRENGTH.bounds)
    group.add_argument(STRENGTH.option, type=strength, action="append", metavar="X", help=strength_help)


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """Add the settings of replies."""
    how = command.add_argument_group("sampling")
    for setting in SAMPLING:
        add_option(how, setting)
