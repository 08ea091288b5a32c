"""The options of `lora-lab export` and `lora-lab push`. Imports nothing that takes time."""

from __future__ import annotations

import argparse

from lora_lab.cli.options import add_option, add_row_options, hub_name, path
from lora_lab.settings import MAX_LENGTH

ADAPTER_HELP = "a folder or zip of PEFT's or mlx-lm's files, or a GGUF"
# Those of export/plan.py, which takes its time to import; a test holds them together.
EXPORTS = ("peft", "gguf-adapter", "mlx", "merged", "gguf", "ollama")


def add_export_options(command: argparse.ArgumentParser) -> None:
    """Add what `lora-lab export` takes besides the model."""
    command.add_argument("adapter", type=path, metavar="ADAPTER", help=ADAPTER_HELP)
    kinds = (
        "peft: with record, model card and chat template; gguf-adapter: for llama.cpp's --lora; mlx: for mlx-lm; "
        "merged: a whole model as a Hugging Face folder; gguf: a whole model for llama.cpp; ollama: that with a "
        "Modelfile"
    )
    command.add_argument("--to", required=True, choices=EXPORTS, help=kinds)
    form_help = (
        "how numbers are kept; gguf-adapter: f32 or f16; merged: bf16, f16 or f32; gguf and ollama: same (each tensor "
        "as the model has it), f16, q8_0, bf16 or f32. Default: the first of these"
    )
    command.add_argument("--form", choices=("same", "f16", "q8_0", "bf16", "f32"), help=form_help)
    out_help = "the new file or folder; default: in this folder, named after the adapter"
    command.add_argument("--out", type=path, metavar="PATH", help=out_help)
    command.add_argument("--system", metavar="TEXT", help="the system message of an Ollama folder; default: none")
    measuring = command.add_argument_group("measuring")
    measure_help = "tell the loss on the rows of these files with the adapter on, and of the merged model"
    measuring.add_argument("--measure", nargs="+", type=path, metavar="FILE", help=measure_help)
    add_option(measuring, MAX_LENGTH)
    add_row_options(measuring)
    _add_base_option(command)


def add_push_options(command: argparse.ArgumentParser) -> None:
    """Add what `lora-lab push` takes besides the model."""
    command.add_argument("adapter", type=path, metavar="ADAPTER", help=ADAPTER_HELP)
    command.add_argument(
        "repository", type=hub_name, metavar="OWNER/NAME", help="the repository; made if there is none"
    )
    command.add_argument(
        "--private", action="store_true", help="make it a private one; one that is there stays as it is"
    )
    command.add_argument("--revision", default="main", metavar="BRANCH", help="the branch; default: main")
    message = "Upload a LoRA adapter trained with LoRA Lab"
    command.add_argument("--message", default=message, metavar="TEXT", help=f"of the commit; default: {message}")
    _add_base_option(command)


def _add_base_option(command: argparse.ArgumentParser) -> None:
    base_help = "the base model's name on huggingface.co; default: what is known of it, as for train"
    command.add_argument("--base-model", type=hub_name, metavar="OWNER/NAME", help=base_help)
