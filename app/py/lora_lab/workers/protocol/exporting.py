"""Adapters on their way to other programs: what the page asks and the train worker answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lora_lab.workers.protocol.parts import Command, Event, NamedBlob

ExportKind = Literal["peft", "gguf-adapter", "mlx", "merged", "gguf", "ollama"]

# ------------------------------------------------------------------------------------------------------------ Commands


@dataclass(frozen=True)
class PlanExport(Command):
    """What would an export be, and how large? ExportPlanned, or Failed at "export" where it cannot be made."""

    id: str
    kind: ExportKind
    form: str = ""


@dataclass(frozen=True)
class ExportTo(Command):
    """Write a kept adapter for another program, alone or merged into the open model: ExportProgress again and again,
    then ExportWritten, or ExportEnded where it was stopped, or Failed at "export".

    One at a time: a newer one takes an older's place, of which nothing is left. `form` is how numbers are kept, "" for
    the kind's usual one; `system` the system prompt of an Ollama folder. `folder` is a FileSystemDirectoryHandle that a
    person has picked and allowed to write to: the files go straight there. Without one they are kept in the browser
    until the next export, or DropExport.
    """

    id: str
    kind: ExportKind
    form: str = ""
    system: str = ""
    folder: Any = None


@dataclass(frozen=True)
class StopExport(Command):
    """Stop what is written, if anything is. Nothing of it stays."""


@dataclass(frozen=True)
class DropExport(Command):
    """Delete what the last export has left in the browser: the page has downloaded it."""


# -------------------------------------------------------------------------------------------------------------- Events


@dataclass(frozen=True)
class ExportPlanned(Event):
    """What an export will be. `form` is the one that is taken, `files` how many. `requantised`, `remarks`: as below.

    `model` is what the command line calls the open model, as a shell takes it; "" for the one that it has built in.
    """

    id: str
    kind: str
    form: str
    size_bytes: int
    files: int
    model: str
    remarks: tuple[str, ...] = ()
    requantised: bool = False


@dataclass(frozen=True)
class ExportProgress(Event):
    """How far an export is: bytes written of bytes in all."""

    id: str
    kind: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class ExportWritten(Event):
    """All files are written. `files` are those kept in the browser, to be downloaded under their names; none where
    they went into a person's own folder. `requantised`: the form changes the numbers. `remarks` are to be shown.
    """

    id: str
    kind: str
    form: str
    size_bytes: int
    files: tuple[NamedBlob, ...]
    remarks: tuple[str, ...] = ()
    requantised: bool = False


@dataclass(frozen=True)
class ExportEnded(Event):
    """An export was stopped, or another took its place; nothing of it is left."""

    id: str
    kind: str


COMMANDS: tuple[type[Command], ...] = (PlanExport, ExportTo, StopExport, DropExport)
EVENTS: tuple[type[Event], ...] = (ExportPlanned, ExportProgress, ExportWritten, ExportEnded)
