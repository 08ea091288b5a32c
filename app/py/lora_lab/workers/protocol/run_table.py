"""Runs that are kept: listed, noted, compared, reported; and settings that come and go."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.workers.protocol.parts import Command, Event, FieldProblem, TrainSettings


@dataclass(frozen=True)
class RunRow:
    """A kept adapter's run as the table shows it. `id` is the adapter's.

    `total_steps` are those it was to have. None and "" where it is not known: an adapter of an older version, or of
    another program, has no record. `rose`: by how much the loss on everyday rows did, in nats a token.
    """

    id: str
    name: str
    created_at: str
    dataset: str
    data_sha256: str
    model: str
    rows: int
    steps: int
    total_steps: int
    rank: int
    learning_rate: float | None
    batch: int | None
    loss: float | None
    validation_loss: float | None
    perplexity: float | None
    accuracy: float | None
    rose: float | None
    training_s: float | None
    verdict: str
    notes: str
    imported: bool
    has_record: bool


@dataclass(frozen=True)
class ComparedRun:
    """A run among others: its sentence, and its curves as (step, loss)."""

    id: str
    name: str
    headline: str
    loss_curve: tuple[tuple[float, float], ...]
    validation_curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SettingDifference:
    """A setting, or what a run was of (model, data), that differs: its words, and each run's value in theirs."""

    name: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ListRuns(Command):
    """Ask for all runs that are kept: RunList."""


@dataclass(frozen=True)
class NoteRun(Command):
    """Keep a person's notes with an adapter, in place of those before; RunList follows."""

    id: str
    notes: str


@dataclass(frozen=True)
class CompareRuns(Command):
    """Lay runs beside each other, two or more: RunsCompared."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class MakeReport(Command):
    """Ask for a run's report: ReportMade."""

    id: str


@dataclass(frozen=True)
class TakeSettings(Command):
    """Ask for the settings of a run (`id`), of a file (`text`, called `name`) or of a link: one of them. SettingsTaken.

    `current` are those of the form: what is not named stays as it is there. None where they cannot be used.
    `request` is the answer's too.
    """

    id: str | None = None
    text: str | None = None
    link: str | None = None
    name: str = "the file"
    current: TrainSettings | None = None
    request: int = 0


@dataclass(frozen=True)
class ShareSettings(Command):
    """Ask for settings as a file, a link's end and a command: those given, or a run's. SettingsShared."""

    settings: TrainSettings | None = None
    id: str | None = None
    request: int = 0


@dataclass(frozen=True)
class RunList(Event):
    """All runs that are kept, the newest first."""

    runs: tuple[RunRow, ...]


@dataclass(frozen=True)
class RunsCompared(Event):
    """Runs beside each other, in the order asked for; what of them differs, each with a value for each run."""

    runs: tuple[ComparedRun, ...]
    differences: tuple[SettingDifference, ...]


@dataclass(frozen=True)
class ReportMade(Event):
    """A run's report: its sentence, and two files. The bytes are the page's."""

    id: str
    headline: str
    file_name: str  # without its ending
    html: bytes
    json: bytes


@dataclass(frozen=True)
class SettingsTaken(Event):
    """Settings for the form, all of them. `remarks`: what was not taken. `problems`: what the open model cannot do."""

    settings: TrainSettings
    remarks: tuple[str, ...] = ()
    problems: tuple[FieldProblem, ...] = ()
    request: int = 0


@dataclass(frozen=True)
class SettingsShared(Event):
    """Settings to be saved, to stand behind the # of the page's address, and as a command for a shell."""

    file_name: str
    file: bytes
    fragment: str
    command: str
    request: int = 0


COMMANDS: tuple[type[Command], ...] = (ListRuns, NoteRun, CompareRuns, MakeReport, TakeSettings, ShareSettings)
EVENTS: tuple[type[Event], ...] = (RunList, RunsCompared, ReportMade, SettingsTaken, SettingsShared)
