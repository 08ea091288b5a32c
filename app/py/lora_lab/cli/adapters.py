"""The adapters that a command is to apply: which, how strongly, and the one that several add up to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_lab.cli.adapter_path import brought_template, read_adapter_path
from lora_lab.cli.terminal import say
from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.model.adapter_mix import WeightedAdapter, mix
from lora_lab.setting_schema import plain
from lora_lab.settings import STRENGTH

BASE = "base"


@dataclass(frozen=True)
class Chosen:
    """An adapter where a command found its name, and how strongly it is to be applied."""

    path: Path
    strength: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in what is printed."""
        return f"{self.path} at {plain(self.strength)}"


@dataclass(frozen=True)
class Applied:
    """Adapters as the engine takes them. `strength` is the engine's to apply."""

    lora: LoraConfig
    tensors: Mapping[str, np.ndarray]
    strength: float


def chosen_adapters(options: argparse.Namespace) -> tuple[Chosen, ...]:
    """Return what --adapter and --strength say. LoraLabError where their numbers do not fit each other."""
    paths, strengths = options.adapter or [], options.strength or []
    if strengths and not paths:
        raise LoraLabError(f"{STRENGTH.option} is given without --adapter; wanted the adapter that it is for")
    if len(strengths) not in (0, 1, len(paths)):
        raise LoraLabError(
            f"{STRENGTH.option} is given {len(strengths)} times for {len(paths)} adapters; wanted one for all of them, "
            "or one for each in their order"
        )
    if len(strengths) < 2:
        strengths = (strengths or [STRENGTH.default]) * len(paths)
    return tuple(Chosen(path, strength) for path, strength in zip(paths, strengths, strict=True))


def other_adapters(names: Sequence[str], chosen: Sequence[Chosen]) -> tuple[Chosen, ...]:
    """Return whom --compare names: none for the base model, or the same at another strength, or others."""
    if list(names) in ([], [BASE]):
        return ()
    if len(names) == 1 and (strength := _strength(names[0])) is not None:
        if not chosen:
            raise LoraLabError(f"--compare {names[0]}: a strength, and there is no --adapter that it is for")
        return tuple(Chosen(one.path, _checked(names[0], strength)) for one in chosen)
    return tuple(map(_other, names))


def _other(name: str) -> Chosen:
    path, at, written = name.rpartition("@")
    if at and not Path(name).exists():
        strength = _strength(written)
        if strength is None:
            raise LoraLabError(f"--compare {name}: {written!r} is no number; wanted PATH or PATH@STRENGTH")
        return Chosen(Path(path), _checked(name, strength))
    return Chosen(Path(name))


def _strength(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _checked(name: str, strength: float) -> float:
    if not (STRENGTH.bounds.hold(strength) and math.isfinite(strength)):
        raise LoraLabError(f"--compare {name}: the strength is {plain(strength)}; wanted {plain(0)} or more")
    return strength


async def read_adapters(chosen: Sequence[Chosen], model: ModelConfig) -> Applied | None:
    """Return the one adapter that all of these add up to; None for none of them. AdapterError names the path."""
    if not chosen:
        return None
    read = []
    for one in chosen:
        brought = await read_adapter_path(one.path, model)
        read.append((WeightedAdapter(str(one.path), brought.lora, brought.tensors, one.strength), brought.base_model))
    bases = {base for _, base in read if base is not None}
    if len(bases) > 1:  # they fit, and may have been made for two trainings of one model
        said = ", ".join(f"{part.name} for {base}" for part, base in read if base is not None)
        say(f"Warning: these adapters say that they were made for other models: {said}")
    parts = [part for part, _ in read]
    if len(parts) == 1:  # as it is
        return Applied(parts[0].lora, parts[0].tensors, parts[0].strength)
    return Applied(*mix(parts, model), 1.0)


def bringing_a_template(chosen: Sequence[Chosen]) -> Path | None:
    """Return the first adapter that brings a chat template, for `choose_template`; None where none does."""
    for one in chosen:
        try:
            if brought_template(one.path) is not None:
                return one.path
        except AdapterError:  # choose_template says what is wrong
            return one.path
    return None


def written_by(chosen: Sequence[Chosen]) -> str:
    """Return in words who writes with these adapters."""
    return " + ".join(one.name for one in chosen if one.strength) or BASE
