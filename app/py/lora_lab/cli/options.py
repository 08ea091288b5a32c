"""What arguments may be, and those that `train` and `data check` share: which rows, and what of them is trained."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from lora_lab.config import LINEAR_LAYERS


def add_row_options(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Add --mask, --on-long and --map."""
    mask_help = "what is trained: the assistant's turns, the last one, or everything; default: %(default)s"
    group.add_argument("--mask", choices=("assistant", "last", "all"), default="assistant", help=mask_help)
    long_help = "what becomes of rows longer than --max-length; default: %(default)s"
    group.add_argument("--on-long", choices=("truncate", "drop"), default="truncate", help=long_help)
    map_help = "which columns are what: prompt=NAME,reply=NAME (and system=NAME), or text=NAME"
    group.add_argument("--map", metavar="COLUMNS", help=map_help)


def whole(least: int) -> Callable[[str], int]:
    """Return an argument type: whole numbers from `least` on."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return convert


def real(least: float, *, above: bool = False, most: float = 1e30, below: float = math.inf) -> Callable[[str], float]:
    """Return an argument type: numbers from `least` (or `above` it) to `most`, and `below` a bound if there is one.

    What is more than 1e30 by far would not go into the GPU's f32.
    """

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not math.isfinite(value) or value < least or (above and value == least):
            raise argparse.ArgumentTypeError(f"{text} must be {'more than' if above else 'at least'} {least:g}")
        if value > most or value >= below:
            bound = f"at most {most:g}" if value > most else f"less than {below:g}"
            raise argparse.ArgumentTypeError(f"{text} must be {bound}")
        return value

    return convert


def targets(text: str) -> tuple[str, ...]:
    """Return the layers that --targets names, in the order of the data."""
    names = {name for name in text.replace(",", " ").split() if name}
    if names == {"all-linear"}:
        return LINEAR_LAYERS
    unknown = sorted(names - set(LINEAR_LAYERS))
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown) or 'nothing'} found; wanted all-linear or some of {', '.join(LINEAR_LAYERS)}"
        )
    return tuple(name for name in LINEAR_LAYERS if name in names)
