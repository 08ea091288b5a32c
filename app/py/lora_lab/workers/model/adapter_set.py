"""Adapters that are applied together: what they are called, which template they bring, and the one that they add up to.

Files come once: those of the last few adapters are held, so that a strength can change without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.peft import read_adapter, read_chat_template
from lora_lab.model.adapter_mix import WeightedAdapter, mix
from lora_lab.setting_schema import plain, small
from lora_lab.settings import STRENGTH
from lora_lab.workers.protocol import AdapterPart, AdapterUse

HELD_BYTES = 256 << 20  # of files; some adapters of a rank of 64 for a model of a billion parameters


@dataclass(frozen=True)
class AdapterSet:
    """One adapter or several, each with its files."""

    parts: tuple[AdapterPart, ...]

    @property
    def id(self) -> str:
        """What the page knows it by: an adapter's id, or those of all."""
        return "+".join(part.id for part in self.parts)

    @property
    def name(self) -> str:
        """What people call it."""
        return " + ".join(part.name for part in self.parts)

    def uses(self, strength: float = 1.0) -> tuple[AdapterUse, ...]:
        """Return the label of a reply that is written with them, all `strength` times as strong. 0 is no part of it."""
        strengths = [(part, part.strength * strength) for part in self.parts]
        return tuple(AdapterUse(part.id, part.name, how_strong) for part, how_strong in strengths if how_strong)

    def chat_template(self) -> tuple[str, str, str]:
        """Return the first template that one of them brings, whose it is, and what to say of others that bring another.

        All are "" where none brings one. AdapterError: it is no text.
        """
        brought = [(part.name, read_chat_template(part.files or {})) for part in self.parts]
        brought = [(name, source) for name, source in brought if source is not None]
        if not brought:
            return "", "", ""
        name, source = brought[0]
        others = ", ".join(other for other, brings in brought if brings != source)
        said = f"{others}: trained with another chat format than {name}, whose format is used." if others else ""
        return source or "", name, said

    def read(self, model: ModelConfig) -> tuple[LoraConfig, dict[str, np.ndarray], float]:
        """Return the one adapter that they add up to, and at which strength. AdapterError names whichever is wrong."""
        problems, read = [], []
        for part in self.parts:
            try:
                read.append(WeightedAdapter(part.name, *read_adapter(part.files or {}, model), part.strength))
            except AdapterError as error:
                problems.append(str(error) if len(self.parts) == 1 else f"{part.name}: {error}")
        if problems:
            raise AdapterError("\n".join(problems))
        if len(read) == 1:  # as it is: its strength is the engine's to apply
            return read[0].lora, dict(read[0].tensors), read[0].strength
        return *mix(read, model), 1.0


class AdapterFiles:
    """The files of the adapters that came last, by id."""

    def __init__(self) -> None:
        self._held: dict[str, Mapping[str, bytes]] = {}

    def whole(self, parts: Sequence[AdapterPart]) -> AdapterSet | None:
        """Return these adapters with their files, None for none of them. AdapterError, naming what cannot be used."""
        problems, found = [], []
        for part in parts:
            if (wanted := STRENGTH.problem(part.strength)) is not None:
                problems.append(f"{part.name}: the strength is {plain(part.strength)}; wanted {small(wanted)}")
            files = self._held.pop(part.id, None) if part.files is None else part.files
            if files is None:
                problems.append(f"{part.name}: its files are not here; they have to be sent with it")
                continue
            self._held.pop(part.id, None)
            self._held[part.id] = files  # the last
            found.append(AdapterPart(part.id, part.name, part.strength, dict(files)))
        if len({part.id for part in parts}) < len(parts):
            problems.append("an adapter is named twice; wanted each once, at one strength")
        if problems:
            raise AdapterError("\n".join(problems))
        self._let_go()
        return AdapterSet(tuple(found)) if found else None

    def forget(self) -> None:
        """Let go of all: they were for another model."""
        self._held.clear()

    def _let_go(self) -> None:
        sizes = {id: sum(map(len, files.values())) for id, files in self._held.items()}
        while len(sizes) > 1 and sum(sizes.values()) > HELD_BYTES:
            first = next(iter(sizes))
            del sizes[first], self._held[first]
