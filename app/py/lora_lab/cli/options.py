"""The options that settings are: made of the table in settings.py, with its bounds and its help."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lora_lab.data.files.encodings import CHOICES, label_of
from lora_lab.formats.hub_id import hub_id
from lora_lab.setting_schema import Bounds, Setting, small
from lora_lab.settings import ALL_LAYERS, CHAT_FORMAT, ROWS, TARGET_LAYERS


class Options(Protocol):
    """What options are added to: a parser or a group of one."""

    def add_argument(self, *flags: str, **about: Any) -> argparse.Action: ...


def path(text: str) -> Path:
    """An argument's type. "" is no path: it would be the current folder, which nobody means by it."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} found; wanted a path")
    return Path(text)


def add_row_options(group: Options) -> None:
    """Add --mask, --on-long, --map and --encoding: which rows, and what of them is trained."""
    for setting in ROWS:
        if setting is not CHAT_FORMAT:
            add_option(group, setting)
    add_template_option(group)
    map_help = (
        "which columns are what: prompt=NAME,reply=NAME, perhaps with context=, history=, system=, and label=NAME or "
        "label=NAME>=NUMBER for good answers only; or conversation=NAME; or text=NAME; or as=known, the known names "
        'without what they leave unused. "NAME" in double quotes may hold commas'
    )
    group.add_argument("--map", metavar="COLUMNS", help=map_help)
    encoding_help = "of files that are not UTF-8: " + ", ".join(map(label_of, CHOICES))
    group.add_argument("--encoding", choices=tuple(CHOICES), metavar="NAME", help=encoding_help)


def add_template_option(group: Options) -> None:
    """Add --chat-template: one of the setting's values, or a file."""
    assert CHAT_FORMAT.option is not None
    words = f"{option_help(CHAT_FORMAT)}; or the path to a file with a jinja template"
    group.add_argument(CHAT_FORMAT.option, default=CHAT_FORMAT.default, metavar="FORMAT|FILE", help=words)


def add_option(group: Options, setting: Setting, *, known: bool = False) -> None:
    """Add a setting's option. With `known` it is None where it was not given, for what asks whether it was."""
    assert setting.option is not None, f"{setting.name} has no option"
    about: dict[str, Any] = {"help": option_help(setting)}
    if setting.kind is bool:
        group.add_argument(setting.option, action="store_true", **about)
        return
    about["default"] = None if known else setting.default
    if setting.choices and setting.kind is str:
        about["choices"] = setting.values
    else:
        about["type"] = targets if setting.kind is tuple else number(setting.bounds, whole=setting.kind is int)
        about["metavar"] = setting.metavar or ("N" if setting.kind is int else "X")
    group.add_argument(setting.option, **about)


def option_help(setting: Setting) -> str:
    """Return an option's help: what it is, plainly and in the field's word, what is usual, the default."""
    if setting.kind is bool:
        return setting.more
    name = f"{setting.label} ({setting.term})" if setting.term else setting.label
    what = f"share {setting.help}" if setting.percent else setting.help
    parts = [f"{small(name)}: {small(what.rstrip('.'))}", setting.more]
    if setting.kind is tuple:
        parts.append(f"separated by commas: {', '.join(setting.values)}")
    else:
        parts += [f"{choice.value}: {small(choice.help)}" for choice in setting.choices]
    if setting.usual_words:
        parts.append(f"usual: {setting.usual_words}")
    parts.append(f"default: {setting.default_said}")
    return "; ".join(part for part in parts if part).replace("%", "%%")


def number(bounds: Bounds, *, whole: bool = False) -> Callable[[str], float]:
    """Return an argument type: numbers within the bounds, whole ones only if `whole`."""

    def convert(text: str) -> float:
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' * whole}number") from None
        if bounds.hold(value):
            return value
        if whole and value < bounds.least:
            raise argparse.ArgumentTypeError(f"{value} is less than {bounds.least}")
        if not whole and (not math.isfinite(value) or value <= bounds.least):
            least = f"{'more than' if bounds.above else 'at least'} {bounds.least:g}"
            raise argparse.ArgumentTypeError(f"{text} must be {least}")
        most = bounds.most if whole else f"{bounds.most:g}"
        raise argparse.ArgumentTypeError(f"{text} must be {'less than' if bounds.below else 'at most'} {most}")

    return convert


def hub_name(text: str) -> str:
    """Return what a model is called on the hub, which --base-model names: OWNER/NAME, or the address of its page."""
    found = hub_id(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no model's name on huggingface.co; wanted OWNER/NAME")
    return found


def targets(text: str) -> tuple[str, ...]:
    """Return the layers that --targets names, in the order of the data."""
    names = {name for name in text.replace(",", " ").split() if name}
    if names == {"all-linear"}:
        return TARGET_LAYERS
    unknown = sorted(names - set(ALL_LAYERS))
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown) or 'nothing'} found; wanted all-linear or some of {', '.join(ALL_LAYERS)}"
        )
    return tuple(name for name in ALL_LAYERS if name in names)
