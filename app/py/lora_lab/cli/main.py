"""The command line, `lora-lab train | generate | logits | diff | export | push | data | report`: the page's engine.

Exit codes: 0 all is well; 1 something expected went wrong and standard error says what; 2 a mistake in the arguments;
130 Ctrl-C. Standard output holds results only; everything said to a person goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lora_lab import __version__
from lora_lab.cli.builtin import BUILT_IN
from lora_lab.cli.chat_arguments import ADAPTER_HELP, add_diff_options, add_generate_options, add_logits_options
from lora_lab.cli.export_options import add_export_options, add_push_options
from lora_lab.cli.interrupt import EXIT_INTERRUPTED, interrupts
from lora_lab.cli.options import add_option, add_row_options, hub_name, number, path
from lora_lab.config import SamplingConfig, TrainConfig
from lora_lab.errors import LoraLabError
from lora_lab.settings import (
    ACCUMULATE,
    ADAPTER,
    BATCH,
    ELSE,
    EPOCHS,
    MAX_LENGTH,
    ROWS_AT_ONCE,
    RUN,
    SAMPLING,
    SEED,
    STEPS,
    SWITCH,
    VALIDATION_FRACTION,
    Bounds,
)

EXIT_ERROR = 1
MODEL_HELP = (
    "a .gguf file, a Hugging Face folder (config.json, tokenizer.json, *.safetensors), or a model on the Hugging Face "
    "hub, hf:OWNER/NAME[@REVISION][:FILE]"
)

# Options whose absence says something: what the others then mean, or that an adapter brings its own.
KNOWN = (*ADAPTER, EPOCHS, ROWS_AT_ONCE, ACCUMULATE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Mistakes in the arguments raise SystemExit(2), as argparse does."""
    if "XDG_RUNTIME_DIR" not in os.environ:
        # Without a desktop, Mesa's device-select layer complains of that on standard error for every Vulkan call.
        os.environ.setdefault("NODEVICE_SELECT", "1")
    try:
        with interrupts.listening():
            options = parse(arguments)
            return options.run(options)
    except LoraLabError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said, not even by Python's own last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}")
    except KeyboardInterrupt:
        interrupts.tell()
        return EXIT_INTERRUPTED


def _fail(message: str) -> int:
    print(f"lora-lab: {message}", file=sys.stderr)
    return EXIT_ERROR


# ---------------------------------------------------------------------------------------------------- the arguments


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options that the arguments give, those of a file of settings (--settings) in place of the defaults."""
    options = make_parser().parse_args(arguments)
    if getattr(options, "settings", None) is None:
        return options
    from lora_lab.cli.settings_option import defaults_of

    return make_parser(defaults_of(options)).parse_args(arguments)


def make_parser(train_defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `train_defaults` take the place of some of `train`'s, by dest."""
    parser = argparse.ArgumentParser(
        prog="lora-lab",
        description="Train LoRA adapters with real gradients on any GPU that speaks Vulkan, Metal or Direct3D 12, "
        "and run models with them.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lora-lab {__version__}")
    _add_device_options(parser, default=None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        # Also before the command: without SUPPRESS this one's absence would wipe out that one's value.
        _add_device_options(command, default=argparse.SUPPRESS)
        built_in = f"default: {BUILT_IN}, the site's own, which is fetched the first time"
        command.add_argument("--model", default=BUILT_IN, metavar="MODEL", help=f"{MODEL_HELP}; {built_in}")
        return command

    train = add_command("train", _train, "Train a LoRA adapter on a JSONL file.")
    _add_train_options(train)
    train.set_defaults(**(train_defaults or {}))
    add_generate_options(add_command("generate", _generate, "Answer a prompt, with adapters or without, or both."))
    add_logits_options(add_command("logits", _logits, "Write a text's logits to a .npy file."))
    text = "Tell what adapters change about a text or a reply: each token's probability with them and without."
    add_diff_options(add_command("diff", _diff, text))
    add_export_options(add_command("export", _export, "Write an adapter for another program, alone or merged."))
    add_push_options(add_command("push", _push, "Put an adapter on the Hugging Face hub."))
    _add_data_commands(commands)
    _add_report_command(commands)
    return parser


def _add_device_options(parser: argparse.ArgumentParser, default: Any) -> None:
    device = parser.add_argument_group("device")
    name_help = "use the GPU whose name contains TEXT (default: the fastest kind there is)"
    device.add_argument("--gpu", metavar="TEXT", default=default, help=name_help)
    # Its name of before, which people took for a LoRA adapter's.
    device.add_argument("--adapter-name", dest="gpu", metavar="TEXT", default=default, help=argparse.SUPPRESS)
    device.add_argument("--list-gpus", action=_ListGpus, nargs=0, help="list the GPUs and exit")


def _add_train_options(command: argparse.ArgumentParser) -> None:
    files = command.add_argument_group("files")
    data_help = "the rows: JSON Lines, JSON, CSV, TSV or plain text; gzip of any of them; several files are one dataset"
    files.add_argument("--data", required=True, nargs="+", type=path, metavar="FILE", help=data_help)
    files.add_argument("--out", required=True, type=path, metavar="DIR", help="where the adapter goes")
    dry_help = "print the memory and, measured in a few steps, the time that the run takes; train and write nothing"
    files.add_argument("--dry-run", action="store_true", help=dry_help)
    files.add_argument(
        "--init-adapter", type=path, metavar="PATH", help=f"go on from this adapter, not from zero: {ADAPTER_HELP}"
    )
    resume_help = (
        "go on with a run that was stopped, from its checkpoint (default: the one beside --out), as if it never had "
        "been; the other arguments must be the same"
    )
    # True: the one beside --out.
    files.add_argument("--resume", nargs="?", const=True, type=path, metavar="CHECKPOINT", help=resume_help)
    base_help = (
        "the model's name on huggingface.co, which the adapter is to name as its base; default: where the model came "
        "from, what its GGUF says, what was said the last time, what --init-adapter says, else none"
    )
    files.add_argument("--base-model", type=hub_name, metavar="OWNER/NAME", help=base_help)
    settings_help = (
        "a file of settings, saved on the page or out of a run's lora-lab-run.json, in place of the defaults; what is "
        "given beside it counts more"
    )
    files.add_argument("--settings", type=path, metavar="FILE", help=settings_help)
    files.add_argument("--log", type=path, metavar="FILE", help="write a JSON line for each step")
    rows = command.add_argument_group("rows")
    rows.add_argument("--skip-bad-rows", action="store_true", help="train on the good rows when some are bad")
    rows.add_argument("--repair", action="store_true", help="train on rows too whose slips can be mended")
    add_row_options(rows)

    size = command.add_argument_group("adapter")
    for setting in ADAPTER:
        add_option(size, setting, known=setting in KNOWN)
    run = command.add_argument_group("run")
    length, validation = run.add_mutually_exclusive_group(), run.add_mutually_exclusive_group()
    groups = {STEPS: length, EPOCHS: length, VALIDATION_FRACTION: validation}
    for setting in RUN:
        if setting.option is not None:
            add_option(groups.get(setting, run), setting, known=setting in KNOWN)
    for setting in ELSE:
        add_option(run, setting)
    file_help = "measure on the rows of these files; rows of --data that stand in them too are left out"
    prompt_help = (
        "ask this while the model learns, in place of prompts of rows held back; may be given several times (see "
        "--sample-every)"
    )
    run.add_argument("--sample-prompt", action="append", default=[], metavar="TEXT", help=prompt_help)
    validation.add_argument("--val-file", nargs="+", type=path, metavar="FILE", help=file_help)


def _add_data_commands(commands: Any) -> None:
    text = "Look at datasets before training."
    data = commands.add_parser("data", help=text, description=text, allow_abbrev=False)
    inside = data.add_subparsers(required=True, metavar="COMMAND")
    files_help = "JSON Lines, JSON, CSV, TSV or plain text; gzip of any of them"

    text = "Read dataset files as training would; tell what is in them, and every problem. Exit code 1 for errors."
    command = inside.add_parser("check", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=_check_data)
    command.add_argument("files", nargs="+", type=path, metavar="FILE", help=files_help)
    model_help = f"count tokens with this model: {MODEL_HELP}; or {BUILT_IN}"
    command.add_argument("--model", metavar="MODEL", help=model_help)
    command.add_argument("--json", action="store_true", help="print the whole report as JSON")
    add_option(command, MAX_LENGTH)
    add_row_options(command)
    command.add_argument("--repair", action="store_true", help="count rows as good whose slips can be mended")
    command.add_argument("--cleaned", type=path, metavar="OUT", help="write the good and the mended rows to this file")
    validation_help = "tell which rows stand in this file too"
    command.add_argument("--validation", type=path, metavar="FILE", help=validation_help)

    text = "Print rows of a dataset file as they are read and, with a model, as it sees them, trained parts marked."
    command = inside.add_parser("show", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=_show_data)
    command.add_argument("file", type=path, metavar="FILE", help=files_help)
    which = command.add_mutually_exclusive_group()
    count = number(Bounds(1, 1 << 31), whole=True)
    which.add_argument(
        "--row", type=count, metavar="N", help="the Nth row of the file, bad ones counted; 1 is the first"
    )
    which.add_argument("--line", type=count, metavar="N", help="the row that begins on this line")
    which.add_argument("--random", type=count, metavar="K", help="K rows by lot; default: the first three")
    add_option(command, SEED)
    model_help = f"show the tokens of this model: {MODEL_HELP}; or {BUILT_IN}"
    command.add_argument("--model", metavar="MODEL", help=model_help)
    command.add_argument("--json", action="store_true", help="print a list of the rows as JSON")
    add_option(command, MAX_LENGTH)
    add_row_options(command)
    command.add_argument("--repair", action="store_true", help="show rows mended whose slips can be mended")


def _add_report_command(commands: Any) -> None:
    text = "Tell what came of the run that an adapter is of."
    command = commands.add_parser("report", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=_report)
    adapter_help = "the folder or zip of an adapter that was trained here, or its lora-lab-run.json"
    command.add_argument("adapter", type=path, metavar="ADAPTER", help=adapter_help)
    html_help = "write the report as one HTML file that needs nothing else"
    command.add_argument("--html", type=path, metavar="FILE", help=html_help)
    command.add_argument("--json", type=path, metavar="FILE", help="write it as JSON")


class _ListGpus(argparse.Action):
    """Like --version: answers and ends, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from lora_lab.cli.commands import list_gpus

        try:
            parser.exit(list_gpus())
        except LoraLabError as error:
            parser.exit(_fail(str(error)))


# ---------------------------------------------------------------------------------------------------- the commands
# The engine is imported only when a command runs, so that --help and mistakes in the arguments answer at once.


def _train(options: argparse.Namespace) -> int:
    from lora_lab.cli.training import train

    return train(options, train_config(options))


def _generate(options: argparse.Namespace) -> int:
    from lora_lab.cli.generate import generate

    return generate(options, sampling_config(options))


def _logits(options: argparse.Namespace) -> int:
    from lora_lab.cli.commands import write_logits

    return write_logits(options)


def _diff(options: argparse.Namespace) -> int:
    from lora_lab.cli.diff import diff

    return diff(options, sampling_config(options))


def _export(options: argparse.Namespace) -> int:
    from lora_lab.cli.export import export

    return export(options)


def _push(options: argparse.Namespace) -> int:
    from lora_lab.cli.push import push

    return push(options)


def _check_data(options: argparse.Namespace) -> int:
    from lora_lab.cli.data_check import check

    return check(options)


def _show_data(options: argparse.Namespace) -> int:
    from lora_lab.cli.data_show import show

    return show(options)


def _report(options: argparse.Namespace) -> int:
    from lora_lab.cli.report import report

    return report(options)


def sampling_config(options: argparse.Namespace) -> SamplingConfig:
    """Return how a reply is drawn, as the arguments give it."""
    return SamplingConfig(**{setting.name: getattr(options, setting.name) for setting in SAMPLING})


def train_config(options: argparse.Namespace) -> TrainConfig:
    """Return the settings of a run as the arguments of `train` give them."""
    default_accumulate = BATCH.default if options.batch is None else 1
    return TrainConfig(
        steps=options.steps,
        epochs=TrainConfig.epochs if options.epochs is None else options.epochs,
        batch=options.batch or 1,
        accumulate=options.accumulate or default_accumulate,
        learning_rate=options.lr,
        schedule=options.schedule,
        warmup_steps=options.warmup_steps,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        max_length=options.max_length,
        recompute=SWITCH[options.recompute],
        activation_budget_bytes=options.activation_memory << 20,
        seed=options.seed,
        shuffle=not options.no_shuffle,
        validation_fraction=options.val_fraction,
        packing=SWITCH[options.packing],
    )
