"""The dataset that the page has open: read once, tokenized once a model and masking, cut to any length at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from lora_lab.data import Dataset, EncodedTable, Examples, RowTable, encode_rows
from lora_lab.data.dataset import Rows
from lora_lab.data.rows.overlap import Overlap
from lora_lab.data.rows.schema import Row
from lora_lab.data.tokens.batches import split_indices
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.evaluation.neutral import Encoded, encode_neutral, mix_in, neutral_rows
from lora_lab.evaluation.prompts import NUM_PROMPTS, Prompt, choose_prompts
from lora_lab.settings import (
    ALPHA,
    BATCH,
    CHAT_FORMAT,
    LEARNING_RATE,
    MASKING,
    MAX_LENGTH,
    ON_LONG,
    RANK,
    SEED,
    STEPS,
    TARGETS,
)
from lora_lab.workers.protocol import ChatMessage, Probe, TrainSettings

# Tokens of a row that are kept on reading: longer settings are not offered.
READ_LENGTH = int(MAX_LENGTH.form_bounds.most)
VALIDATION_MIN_ROWS = 50
VALIDATION_FRACTION = 0.1
VALIDATION_MAX_ROWS = 100  # they are gone through ten times in a run
# Between one and three passes; a small dataset gets more of them, or the adapter would hardly move.
MIN_STEPS, MANY_STEPS = STEPS.start, 600

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reader:
    """What turns rows into tokens: a model's tokenizer and template, and how many tokens of a row are of use.

    `formats` are the values of the setting chat_format that mean this template.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    context_length: int
    formats: frozenset[str] = frozenset(CHAT_FORMAT.values)

    @property
    def keep(self) -> int:
        """Tokens of a row that are kept."""
        return min(READ_LENGTH, self.context_length)


@dataclass(frozen=True)
class Choices:
    """What decides which rows and tokens are trained: the length, the masking, what becomes of long rows, the format.

    As a wish, before the rows are in tokens, the length 0 is the one that suits them.
    """

    max_length: int
    masking: str = MASKING.default
    on_long: str = ON_LONG.default
    chat_format: str = CHAT_FORMAT.default

    @classmethod
    def of(cls, settings: TrainSettings) -> Choices:
        """Return those of the settings form."""
        return cls(settings.max_length, settings.masking, settings.on_long, settings.chat_format)


@dataclass(frozen=True)
class Split:
    """What a run trains on and what it validates on, as examples and as rows; `rows[i]` is that of `examples[i]`.

    The last `mixed` of the examples that are trained are everyday ones (evaluation/neutral.py), without a row here.
    """

    trained: Examples
    held: Examples
    trained_rows: Sequence[Row]
    held_rows: Sequence[Row]
    needs_held: bool = False  # there is a validation file
    mixed: int = 0

    @property
    def own(self) -> int:
        """How many of the trained examples are the dataset's."""
        return len(self.trained) - self.mixed


class TokenizedTable:
    """A table of rows, in tokens once there is a model. Keeps the last cut."""

    def __init__(self, table: RowTable) -> None:
        self.table = table
        self.encoded: EncodedTable | None = None
        self._formats: frozenset[str] = frozenset()
        self._cut: tuple[tuple[int, str], Dataset] | None = None

    async def encode(self, reader: Reader, masking: str, on_progress: Progress) -> None:
        """Tokenize all rows. Cancelled in between it leaves what was there."""
        self.take(await self.encoded_by(reader, masking, on_progress), reader.formats)

    async def encoded_by(self, reader: Reader, masking: str, on_progress: Progress) -> EncodedTable:
        """Return all rows in tokens, without taking them for this table's."""
        return await encode_rows(
            self.table, reader.tokenizer, reader.template, reader.keep, on_progress, masking,  # type: ignore[arg-type]
        )  # fmt: skip

    def take(self, encoded: EncodedTable, formats: frozenset[str]) -> None:
        """Use these tokens from now on; `formats` as in Reader."""
        self.encoded, self._formats, self._cut = encoded, formats, None

    def forget_tokens(self) -> None:
        """Another model counts otherwise."""
        self.encoded = self._cut = None

    def is_encoded(self, masking: str, chat_format: str = CHAT_FORMAT.default) -> bool:
        """Whether the rows are in tokens, masked and written like this."""
        return self.encoded is not None and self.encoded.masking == masking and chat_format in self._formats

    def cut(self, choices: Choices) -> Dataset:
        """Return the rows as they are trained on. They must be in tokens, masked as the choices say."""
        assert self.encoded is not None and self.encoded.masking == choices.masking, "tokenized before"
        key = (min(choices.max_length, self.encoded.keep), choices.on_long)
        if self._cut is None or self._cut[0] != key:
            self._cut = key, self.encoded.cut(key[0], choices.on_long)  # type: ignore[arg-type]
        return self._cut[1]


@dataclass
class Validation:
    """Validation rows from a file of their own; `overlap` are the training rows that say the same as one of them."""

    name: str
    rows: TokenizedTable
    overlap: Overlap


@dataclass
class OpenDataset:
    """One dataset. A sample may bring questions (`probes`) and settings of its own."""

    name: str
    title: str
    rows: TokenizedTable
    probes: tuple[Probe, ...] = ()
    own_settings: dict[str, Any] = field(default_factory=dict)
    validation: Validation | None = None
    shown: Choices | None = None  # what the page was last told about
    request: int = 0  # of the command that opened it
    _split: tuple[Dataset, tuple[float, int], tuple[np.ndarray, np.ndarray]] | None = None
    _reader: Reader | None = None  # that the rows were tokenized with last
    _neutral: tuple[tuple, Encoded] | None = None  # everyday rows in tokens, and what for

    @classmethod
    def of(cls, name: str, title: str, table: RowTable, about: dict[str, Any], request: int = 0) -> OpenDataset:
        """Take a table that was read. `about` is a sample's JSON, else empty."""
        names = {f.name for f in fields(TrainSettings)}
        own = {name: value for name, value in about.get("settings", {}).items() if name in names}
        return cls(name, title, TokenizedTable(table), _sample_probes(about), own, request=request)

    @property
    def table(self) -> RowTable:
        """The rows as they were read."""
        return self.rows.table

    @property
    def asks(self) -> tuple[str, ...]:
        """Why a person has to say how the rows are to be read, before training on them."""
        return self.table.asks()

    @property
    def parts(self) -> tuple[TokenizedTable, ...]:
        """The tables that are to be tokenized."""
        return (self.rows,) if self.validation is None else (self.rows, self.validation.rows)

    @property
    def first_masking(self) -> str:
        """The masking to begin with, where the form says none."""
        return str(self.own_settings.get("masking", MASKING.default))

    @property
    def first_format(self) -> str:
        """The chat format to begin with, where the form says none."""
        return str(self.own_settings.get("chat_format", CHAT_FORMAT.default))

    def is_encoded(self, masking: str, chat_format: str = CHAT_FORMAT.default) -> bool:
        """Whether everything is in tokens, masked and written like this."""
        return all(part.is_encoded(masking, chat_format) for part in self.parts)

    def forget_tokens(self) -> None:
        """Another model counts otherwise."""
        for part in self.parts:
            part.forget_tokens()

    async def encode(self, reader: Reader, masking: str, on_progress: Progress) -> None:
        """Tokenize what is not in tokens yet, masked like this. `on_progress(done_rows, total_rows)`.

        Cancelled in between it leaves what was there: training and validation rows are always masked alike.
        """
        self._reader = reader
        one = next(iter(reader.formats))  # they all mean the same
        missing = [part for part in self.parts if not part.is_encoded(masking, one)]
        total, before = sum(len(part.table) for part in missing), 0

        def tell(done: int, _: int) -> None:
            on_progress(before + done, total)

        found = []
        for part in missing:
            found.append(await part.encoded_by(reader, masking, tell))
            before += len(part.table)
        for part, encoded in zip(missing, found, strict=True):
            part.take(encoded, reader.formats)

    def cut(self, choices: Choices) -> Dataset:
        """Return the training rows at these choices; those that the validation file holds too are still among them."""
        return self.rows.cut(choices)

    def split(self, settings: TrainSettings) -> Split:
        """Return what a run with these settings trains on, and what is held back or stands in the validation file."""
        choices = Choices.of(settings)
        cut = self.cut(choices)
        if self.validation is None:
            trained, held = self._held_back(cut, settings)
            examples, mixed = self._mixed(cut.examples.subset(trained), settings)
            return Split(examples, cut.examples.subset(held), _rows(cut, trained), _rows(cut, held), mixed=mixed)
        other = self.validation.rows.cut(choices)
        trained = self._without_overlap(cut)
        examples, mixed = self._mixed(cut.examples.subset(trained), settings)
        return Split(examples, other.examples, _rows(cut, trained), other.rows, True, mixed)

    def _mixed(self, examples: Examples, settings: TrainSettings) -> tuple[Examples, int]:
        """Return the examples with everyday ones behind them, as many as the settings say; and how many."""
        reader = self._reader
        if not settings.mix_neutral or reader is None:
            return examples, 0
        key = (reader, settings.masking, min(settings.max_length, reader.keep))
        if self._neutral is None or self._neutral[0] != key:
            rows = neutral_rows("mixed")
            found = encode_neutral(rows, reader.tokenizer, reader.template, key[2], settings.masking)  # type: ignore[arg-type]
            self._neutral = key, found
        return mix_in(examples, self._neutral[1], settings.mix_neutral, settings.seed)

    def _held_back(self, cut: Dataset, settings: TrainSettings) -> tuple[np.ndarray, np.ndarray]:
        # Half a million rows take seconds, and every change of any setting asks for the same split again.
        key = (settings.validation_fraction, settings.seed)
        if self._split is None or self._split[0] is not cut or self._split[1] != key:
            self._split = cut, key, split_indices(cut.examples, *key)
        return self._split[2]

    def _without_overlap(self, cut: Dataset) -> np.ndarray:
        if self.validation is None:
            return np.arange(len(cut.examples))
        return np.flatnonzero(~np.isin(cut.places, list(self.validation.overlap.indices)))

    def trained_count(self, choices: Choices) -> int:
        """Return how many rows there are to train on (and to hold some back of)."""
        return len(self._without_overlap(self.cut(choices)))

    def suggest(self, choices: Choices | None = None, targets: tuple[str, ...] = TARGETS.default) -> TrainSettings:
        """Return the settings that suit this dataset, or its own; `choices` are those that the form has already,
        `targets` the layers that the model has.

        Without a length there the one that suits the rows is taken. They must be in tokens, masked as asked for.
        """
        masking = choices.masking if choices else self.first_masking
        encoded = self.rows.encoded
        assert encoded is not None and encoded.masking == masking, "tokenized before"
        # The lengths are the same at any cut, so the longest that is kept tells what suits them.
        length = self.cut(Choices(encoded.keep, masking)).report.suggested_max_length
        if choices is not None and choices.max_length:
            length = choices.max_length
        on_long = choices.on_long if choices else ON_LONG.default
        chat_format = choices.chat_format if choices else self.first_format
        good = self.trained_count(Choices(length, masking, on_long))
        fraction = min(VALIDATION_FRACTION, VALIDATION_MAX_ROWS / good) if good >= VALIDATION_MIN_ROWS else 0.0
        if self.validation is not None:
            fraction = 0.0
        batch = min(BATCH.default, max(1, good))
        a_pass = max(1, round(good * (1 - fraction) / batch))
        passes = 1 if a_pass > MANY_STEPS else min(3, max(1, MANY_STEPS // a_pass))
        suited = TrainSettings(
            steps=max(MIN_STEPS, passes * a_pass),
            batch=batch,
            learning_rate=LEARNING_RATE.default,
            rank=RANK.default,
            alpha=ALPHA.default,
            max_length=length,
            seed=SEED.default,
            targets=targets,
            validation_fraction=fraction,
            masking=masking,
            on_long=on_long,
            chat_format=chat_format,
        )
        own = replace(suited, **self.own_settings)
        if choices is None:
            return own
        own_length = own.max_length if not choices.max_length else length
        return replace(own, max_length=own_length, masking=masking, on_long=on_long, chat_format=chat_format)

    def choose_probes(self, split: Split) -> tuple[Probe, ...]:
        """Return the validation card's questions: a sample's own, else rows held back, else rows trained on."""
        if self.probes:
            return self.probes[:NUM_PROMPTS]
        return tuple(map(as_probe, choose_prompts(split.held_rows, split.trained_rows)))


def _rows(cut: Dataset, indices: np.ndarray) -> Sequence[Row]:
    return Rows(cut.table, cut.places[indices])


def _sample_probes(about: dict[str, Any]) -> tuple[Probe, ...]:
    """Return the questions of a sample's JSON: `"probes": [{"prompt": "…", "reference": "…"}, …]`."""
    entries = about.get("probes", [])
    return tuple(
        Probe(entry["prompt"], (ChatMessage("user", entry["prompt"]),), entry.get("reference")) for entry in entries
    )


def as_probe(prompt: Prompt) -> Probe:
    """Return a question as the page takes it."""
    messages = tuple(ChatMessage(role, content) for role, content in prompt.messages)
    return Probe(prompt.prompt, messages, prompt.expected)


def as_prompt(probe: Probe) -> Prompt:
    """The inverse of as_probe."""
    return Prompt(probe.prompt, tuple((one.role, one.content) for one in probe.messages), probe.reference)
