"""Settings as a file, as a link and as a command line: by name, each value checked against the table of settings.

The names are those of the page's settings (`batch` is rows a step, `rows_at_once` a micro-batch), and of those that
only the command line has. None of what is read here has to be complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_lab.errors import LoraLabError
from lora_lab.setting_schema import Setting, plain
from lora_lab.settings import ALL_LAYERS, BATCH, ROWS_AT_ONCE, TRAINING

BY_NAME = {setting.name: setting for setting in TRAINING}
MAY_BE_NONE = frozenset(one.name for one in TRAINING if one.empty or one.default is None)
MAX_TOLD = 10  # unknown names that are told
# Those that only the command line has; the page has others in their place.
ELSEWHERE = {
    "epochs": "the page has Steps",
    "accumulate": "the page has Rows a step and Rows at once",
    "recompute": "the page has Save GPU memory",
    "activation_memory": "the page chooses it",
}


@dataclass(frozen=True)
class Settings:
    """Settings by name, every value checked; `remarks` are what a person should hear of what was not taken."""

    values: dict[str, Any]
    remarks: tuple[str, ...] = ()


def checked(found: Mapping[str, Any], where: str) -> Settings:
    """Return the settings among `found`, each as its kind has it. Unknown names are told of, and left out.

    LoraLabError names every value that cannot be used; `where` is the file or link that they come from.
    """
    values: dict[str, Any] = {}
    problems, unknown = [], []
    for name, value in found.items():
        setting = BY_NAME.get(name)
        if setting is None:
            unknown.append(name)
            continue
        taken, problem = _taken(setting, value)
        if problem:
            problems.append(f"{name} is {_shown(value)}; wanted {problem}")
        else:
            values[name] = taken
    at_once, batch = values.get(ROWS_AT_ONCE.name), values.get(BATCH.name)
    if at_once is not None and batch is not None and batch % at_once:
        problems.append(f"rows_at_once is {at_once}; wanted a divisor of batch, which is {batch}")
    if problems:
        raise LoraLabError(f"{where}: " + "; ".join(problems))
    remarks = []
    if unknown:
        more = f" and {len(unknown) - MAX_TOLD} more" if len(unknown) > MAX_TOLD else ""
        names = ", ".join(repr(name)[:60] for name in unknown[:MAX_TOLD])
        remarks.append(f"{where} names what is no setting of this version: {names}{more}. It was left out.")
    return Settings({name: values[name] for name in BY_NAME if name in values}, tuple(remarks))


def _taken(setting: Setting, value: Any) -> tuple[Any, str]:
    """Return a value as the engine takes it, and "", or else what is wanted in its place."""
    if value is None:
        return None, "" if setting.name in MAY_BE_NONE else _wanted(setting)
    if setting.kind is tuple:
        known = isinstance(value, (list, tuple)) and value and all(one in ALL_LAYERS for one in value)
        return (tuple(name for name in ALL_LAYERS if name in value), "") if known else (None, _wanted(setting))
    if setting.kind is str:
        return (value, "") if isinstance(value, str) and value in setting.values else (None, _wanted(setting))
    if setting.kind is bool:
        return (value, "") if isinstance(value, bool) else (None, "true or false")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None, _wanted(setting)
    if setting.kind is int:
        if value != int(value) or not setting.bounds.hold(value):
            return None, _wanted(setting)
        return int(value), ""
    return (float(value), "") if setting.bounds.hold(value) else (None, _wanted(setting))


def _wanted(setting: Setting) -> str:
    if setting.kind is tuple:
        return f"some of {', '.join(setting.values)}"
    if setting.kind is str:
        return f"one of {', '.join(setting.values)}"
    what = "a whole number" if setting.kind is int else "a number"
    least, most = setting.bounds.least, setting.bounds.most
    if math.isfinite(least):
        what += f" {'above' if setting.bounds.above else 'from'} {plain(least)}"
    if math.isfinite(most):
        what += f" {'to below' if setting.bounds.below else 'to'} {plain(most)}"
    return what + (", or null" if setting.name in MAY_BE_NONE else "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def said(setting: Setting, value: Any) -> str:
    """Return a value in words, as reports and tables have it."""
    if value is None:
        return setting.empty or setting.default_said
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, (tuple, list)) else plain(value)


def for_page(settings: Settings) -> Settings:
    """Return them as the page's settings: what only the command line has is told of, and said in the page's way."""
    values, remarks = dict(settings.values), list(settings.remarks)
    recompute = values.get("recompute")
    if recompute in ("on", "off") and "save_memory" not in values:
        values["save_memory"] = recompute == "on"
    for name, instead in ELSEWHERE.items():
        if name in values:
            del values[name]
            if name != "recompute":
                remarks.append(f"{name} is a setting of the command line only ({instead}). It was left out.")
    return Settings(values, tuple(remarks))


def as_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the options of `lora-lab train`, by their option (`--lr`); a switch is True or left out.

    What an option's absence means is left out: None, and a run of `epochs` where there are `steps`.
    """
    found: dict[str, Any] = {}
    given = dict(values)
    batch, at_once, accumulate = (given.pop(name, None) for name in ("batch", "rows_at_once", "accumulate"))
    if batch is not None:
        found["--batch"], found["--accumulate"] = at_once or 1, batch // (at_once or 1)
    else:
        found |= {option: value for option, value in (("--batch", at_once), ("--accumulate", accumulate)) if value}
    if given.pop("save_memory", False):
        given["recompute"] = "on"
    if given.get("steps") is not None:
        given.pop("epochs", None)
    if given.pop("shuffle", True) is False:
        found["--no-shuffle"] = True
    for name, value in given.items():
        option = BY_NAME[name].option
        assert option is not None, name
        if value is not None:
            found[option] = value
    return found
