"""Everything about datasets that the page asks and the train worker answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lora_lab.settings import CHAT_FORMAT
from lora_lab.workers.protocol.parts import Command, Event, Fact, NamedBlob, TrainSettings

# Where a step through the rows leads; `next` and `previous` go round.
RowJump = Literal["next", "previous", "longest", "shortest", "truncated", "random", "most-trained", "least-trained"]

# ------------------------------------------------------------------------------------------------------------ Commands


@dataclass(frozen=True)
class ReadDataset(Command):
    """Read one or several files, pasted text, or one of the site's samples (its name without the ending).

    `mapping` says which column is what (`ColumnMapping.as_dict()`; None reads the names that are known, {"as": "known"}
    says that a person has seen what is not used then); `use_mended` takes the rows that can be mended; `encoding` is
    that of files which are not UTF-8 (a name of `report.encodings`). `settings` are those that the form shows, where
    the person has changed some: length, masking and what becomes of long rows follow them. `request` comes back with
    every description of this dataset.
    """

    files: tuple[NamedBlob, ...] = ()
    text: str | None = None
    sample: str | None = None
    mapping: dict[str, str] | None = None
    use_mended: bool = False
    encoding: str | None = None
    settings: TrainSettings | None = None
    request: int = 0


@dataclass(frozen=True)
class StopReading(Command):
    """Give up what is being read or counted.

    DatasetCleared follows when the dataset was being read; else DatasetReady, without the validation file that was
    being read, or without tokens when those were being counted (CountTokens counts them after all).
    """


@dataclass(frozen=True)
class CountTokens(Command):
    """Count the tokens of the dataset that is open, after that was stopped. DatasetReady follows."""


@dataclass(frozen=True)
class ClearDataset(Command):
    """Forget the dataset."""


@dataclass(frozen=True)
class PreviewMapping(Command):
    """Ask what a mapping makes of the first rows (MappingPreviewed)."""

    mapping: dict[str, str]
    request: int = 0


@dataclass(frozen=True)
class ReadValidation(Command):
    """Take the validation part from files of its own; none: from the dataset again. DatasetReady follows."""

    files: tuple[NamedBlob, ...] = ()


@dataclass(frozen=True)
class ShowRow(Command):
    """Ask for one row as the model sees it (RowShown): row `index`, or where `jump` or `search` leads from there.

    `search` finds the next row behind `index` that holds the words, going round; with `jump="previous"` the one before.
    `line` asks for the row that begins on this line, as duplicates and problems are told (of several files the first
    that has such a row, or the one named by `source`).
    """

    index: int = 0
    jump: RowJump | None = None
    search: str = ""
    line: int | None = None
    source: str = ""
    request: int = 0


@dataclass(frozen=True)
class SaveCleaned(Command):
    """Ask for the good rows as JSON Lines: CleanedPiece again and again, then CleanedDone.

    Another SaveCleaned, or another dataset, ends it without that.

    `mended`: with the rows that can be mended; `as_conversations`: all as `messages` (or `text`) rows.
    """

    mended: bool = True
    as_conversations: bool = False


# -------------------------------------------------------------------------------------------------------------- Events


@dataclass(frozen=True)
class DatasetProgress(Event):
    """How much of a dataset has been read (bytes), then tokenized (rows); `name` is the file that is being read."""

    done: int
    total: int
    unit: Literal["bytes", "rows"] = "bytes"
    name: str = ""
    left_ms: float | None = None  # an estimate, when there is ground for one


@dataclass(frozen=True)
class ValidationPart:
    """The validation file: its rows that can be used, those left out, and what stands in the training data too."""

    name: str
    rows: int
    good_rows: int
    problem_count: int
    overlap: int  # training rows that are left out, because the validation file holds them
    overlap_lines: tuple[tuple[int, int], ...]  # (line in the training data, line in the validation file), the first
    report: dict[str, Any] = field(default_factory=dict)  # as DatasetReady's, of the validation file


@dataclass(frozen=True)
class DatasetReady(Event):
    """What is in the files: numbers from the real tokenizer, problems, the defaults that suit them.

    `report` is `DatasetReport.as_dict()` with at most 200 `problems`: see docs/data.md. Its `tokens` are those at
    `max_length`, `masking`, `on_long` and `chat_format`. The event comes again, without `suggested`, when another
    length, masking, choice for long rows, chat format or validation file changes what is trained.

    While no model is open, and for many rows before their tokens are counted, it comes first without them:
    `report.tokens` is None and `can_train` false then. Files stay read when another model is opened: this event comes
    without tokens at once, and with them (and `suggested`) when they are counted anew.

    `request` is that of the ReadDataset that opened this dataset.
    """

    name: str
    title: str
    rows: int
    good_rows: int  # that are trained on as things stand: mended ones too if they were asked for
    problem_count: int  # rows that are not
    report: dict[str, Any]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    max_length: int
    masking: str
    on_long: str
    suggested: TrainSettings | None
    can_train: bool
    use_mended: bool = False
    validation: ValidationPart | None = None
    request: int = 0
    chat_format: str = CHAT_FORMAT.default


@dataclass(frozen=True)
class DatasetCleared(Event):
    """The dataset was forgotten."""


@dataclass(frozen=True)
class MappingPreviewed(Event):
    """What a mapping makes of the first rows: `{"messages": […]}`, `{"text": …}` or `{"problem": …}`; or `problem`."""

    request: int
    rows: tuple[dict[str, Any], ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class RowShown(Event):
    """One row as the model sees it, token by token; or, with `why`, the reason why there is none to show.

    `texts`, `token_ids`, `trained`, `special` stand side by side and joined are the rendered row; `length` is the
    row's whole number of tokens, of which the first few thousand are sent and `kept` are left after the cut.
    """

    request: int
    index: int
    count: int  # rows that can be shown
    line: int = 0
    source: str = ""
    format: str = ""
    texts: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    trained: tuple[bool, ...] = ()
    special: tuple[bool, ...] = ()
    length: int = 0
    kept: int = 0
    notes: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class CleanedPiece(Event):
    """A piece of the cleaned file."""

    data: bytes
    done_rows: int
    total_rows: int


@dataclass(frozen=True)
class CleanedDone(Event):
    """The cleaned file is complete; the name to save it by."""

    file_name: str
    rows: int


COMMANDS: tuple[type[Command], ...] = (
    ReadDataset, StopReading, CountTokens, ClearDataset, PreviewMapping, ReadValidation, ShowRow, SaveCleaned,
)  # fmt: skip
EVENTS: tuple[type[Event], ...] = (
    DatasetProgress, DatasetReady, DatasetCleared, MappingPreviewed, RowShown, CleanedPiece, CleanedDone,
)  # fmt: skip
