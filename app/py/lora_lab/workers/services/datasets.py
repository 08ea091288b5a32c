"""The dataset that is open: read, counted, cleared, and its validation file. One such job at a time; a newer one wins.

Knows the open model's tokenizer and nothing of runs: who needs tokens counted says what is to be done then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from lora_lab.data import ColumnMapping, read_table
from lora_lab.data.files.source import DataSource
from lora_lab.data.rows.overlap import find_overlap
from lora_lab.data.rows.row_table import RowTable
from lora_lab.errors import DatasetError
from lora_lab.workers.dataset.inputs import encoding_of, mapping_of, progress, take, take_files, title_of
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Reader, TokenizedTable, Validation
from lora_lab.workers.dataset.words import describe, describe_rows
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    ClearDataset,
    CountTokens,
    DatasetCleared,
    ReadDataset,
    ReadValidation,
    StopReading,
)
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.models import Models
from lora_lab.workers.wire.dispatch import Host, failure, handles
from lora_lab.workers.wire.tasks import Background, OneJob

# From here on the rows are described before their tokens are counted, which takes a second or more.
MANY_ROWS = 1000
# What Python is given to read something in one go, or to do something with one row. Bytes a second are a tenth of what
# two cores take that do nothing else (a row of 10 MB is tokenized in 25 s): a busy computer is not one that hangs.
READ_WITHIN_S, READ_BYTES_PER_S, ROW_BYTES_PER_S = 20.0, 1e6, 4e4
DATASET, VALIDATION = "dataset", "validation"  # what a job is about
FIRST_LENGTH = 512  # that is told while nobody has chosen another and no token is counted


class Datasets:
    """Answers the page's commands about datasets; `dataset` is the one that is open."""

    def __init__(self, host: Host, models: Models) -> None:
        self._host, self._models = host, models
        self.dataset: OpenDataset | None = None
        self._wanted: Choices | None = None  # what the page has asked for last; None: what suits the dataset
        self._job = OneJob()
        self._background = Background(lambda error: host.post(failure("dataset", error)))
        self._counting: tuple[str, str] | None = None  # masking and chat format that the rows are being tokenized for
        self._waiting: Callable[[], Awaitable[None]] | None = None  # to be done when the tokens are counted

    @property
    def is_reading_validation(self) -> bool:
        """Whether a validation file is being read."""
        return self._job.doing == VALIDATION

    @property
    def is_busy(self) -> bool:
        """Whether anything is being read or counted, or about to be."""
        return self._background.is_busy or self._job.doing is not None

    async def _do(self, name: str, job: Coroutine[Any, Any, None]) -> bool:
        """Run a job in place of the one that is going on. Return False when it was given up itself."""
        try:
            return await self._job.do(name, job)
        except MemoryError as error:
            if name != VALIDATION:
                self.dataset = None
            raise DatasetError(
                "There is not enough memory for this dataset. Use a part of it, or the command line: lora-lab train."
            ) from error

    # --- reading and counting ---

    @handles(ReadDataset, "dataset")
    async def read_dataset(self, command: ReadDataset) -> None:
        """Read files, a text or a sample, and say what is in them. Needs no model: the tokens are counted later."""
        mapping = mapping_of(command.mapping)
        self.dataset, self._waiting = None, None
        self._wanted = None if command.settings is None else Choices.of(command.settings)
        await self._do(DATASET, self._read(command, mapping))

    async def _read(self, command: ReadDataset, mapping: ColumnMapping | None) -> None:
        found = await take(command)
        tell = progress(self._host.post, "bytes", found.sources, found.title)
        with self._reading(found.sources):
            table = await read_table(found.sources, mapping, command.use_mended, tell, encoding_of(command.encoding))
        self.dataset = OpenDataset.of(found.name, found.title, table, found.about, command.request)
        await self._count(self.dataset)

    def _reading(self, sources: Sequence[DataSource]) -> AbstractContextManager[None]:
        """A JSON array is read in one go, and so is a row, however long."""
        size_bytes = sum(source.size_bytes for source in sources)
        return busy(self._host, "reading the data", READ_WITHIN_S + size_bytes / READ_BYTES_PER_S)

    async def _count(self, dataset: OpenDataset) -> None:
        """Tokenize what is not in tokens yet and tell the page; without a model say what is known without one."""
        first = dataset.shown is None
        wanted = self._wanted
        masking = wanted.masking if wanted else dataset.first_masking
        chat_format = wanted.chat_format if wanted else dataset.first_format
        model = self._models.model
        if model is None:
            self._describe_rows(dataset)
            return
        if first and len(dataset.table) >= MANY_ROWS:
            self._describe_rows(dataset)
        self._counting = masking, chat_format
        reader = _reader(model, chat_format)
        try:
            with row_by_row(self._host, dataset.table, "counting tokens"):
                await dataset.encode(reader, masking, progress(self._host.post, "rows", (), dataset.title))
        finally:
            self._counting = None
        suggested = dataset.suggest(wanted, model.files.config.linear_names) if first else None
        choices = Choices.of(suggested) if suggested else wanted
        assert choices is not None, "a dataset that was shown has been asked for"
        self._wanted = choices
        self._host.post(describe(dataset, choices, suggested))
        self._do_what_waits()

    def _do_what_waits(self) -> None:
        if self._waiting is not None:
            then, self._waiting = self._waiting, None
            self._background.begin(then())

    def _describe_rows(self, dataset: OpenDataset) -> None:
        wanted = self._wanted or Choices(0, dataset.first_masking)
        self._host.post(describe_rows(dataset, replace(wanted, max_length=wanted.max_length or FIRST_LENGTH)))

    async def count_for(self, choices: Choices) -> bool:
        """Tokenize the dataset for these choices, if it is not; return whether that came to its end."""
        dataset = self.dataset
        if dataset is None or dataset.is_encoded(choices.masking, choices.chat_format):
            return dataset is not None
        self._wanted = choices
        return await self._do(DATASET, self._count(dataset)) and self.dataset is dataset

    def show_choices(self, choices: Choices) -> None:
        """Describe the dataset at these choices, unless the page was told of them last. It must be in tokens."""
        if self.dataset is not None and self.dataset.shown != choices:
            self._wanted = choices
            self._host.post(describe(self.dataset, choices, None))

    def when_counted(self, choices: Choices, then: Callable[[], Awaitable[None]]) -> None:
        """Tokenize the dataset for these choices in the background, then do something. The last one counts."""
        self._waiting = then
        if self.is_reading_validation or self._counting == (choices.masking, choices.chat_format):
            self._wanted = choices  # the job that is going on does it at its end
        else:
            self._background.begin(self.count_for(choices))

    async def stop_counting(self) -> None:
        """Give up tokenizing for other choices: the dataset stays as it was shown last."""
        if self._counting is not None and await self._job.give_up() and self.dataset is not None:
            self._tell()
            self._go_on()

    async def model_leaves(self) -> None:
        """Another model will be opened: what was counted with this one is void, what was read stays."""
        dataset = self.dataset
        if dataset is None:  # none, or it is still being read
            return
        await self._job.give_up()
        dataset.forget_tokens()
        dataset.shown, self._waiting = None, None
        if self._wanted is not None:
            self._wanted = replace(self._wanted, max_length=0)  # another tokenizer makes rows of other lengths
        self._describe_rows(dataset)

    def model_came(self) -> None:
        """Count the tokens of the dataset that is open already."""
        if self.dataset is not None and self._job.doing is None:
            self._background.begin(self._do(DATASET, self._count(self.dataset)))

    @handles(StopReading, "dataset")
    async def stop_reading(self, _: StopReading) -> None:
        """Give up what is being read or counted. What is read already stays: only its tokens are not counted then."""
        if self._job.doing is None:
            return
        is_validation = self.is_reading_validation
        await self._job.give_up()
        if self.dataset is None:
            self._forget()
        elif is_validation:
            self._tell()
            self._go_on()
        else:
            self._waiting = None
            self._wanted = self.dataset.shown or self._wanted
            self._tell()

    @handles(CountTokens, "dataset")
    async def count_tokens(self, _: CountTokens) -> None:
        """Count the tokens after all, where that was stopped."""
        if self._models.model is not None:
            self.model_came()

    @handles(ClearDataset, "dataset")
    async def clear_dataset(self, _: ClearDataset) -> None:
        """Forget the dataset."""
        await self._job.give_up()
        self._forget()

    def _forget(self) -> None:
        self.dataset = self._wanted = self._waiting = None
        self._host.post(DatasetCleared())

    def _go_on(self) -> None:
        """Do what made way for a job that came to nothing: count the tokens, or what waits for them."""
        if self.dataset is not None and self.dataset.shown is None and self._models.model is not None:
            self.model_came()  # does what waits, too
        else:
            self._do_what_waits()

    def _tell(self) -> None:
        """Describe the dataset as it stands."""
        dataset = self.dataset
        assert dataset is not None
        if dataset.shown is not None:
            self._host.post(describe(dataset, dataset.shown, None))
        else:
            self._describe_rows(dataset)

    # --- a validation file ---

    @handles(ReadValidation, "dataset")
    async def read_validation(self, command: ReadValidation) -> None:
        """Take the validation rows from files of their own, or from the dataset again."""
        dataset = self.need_dataset()
        if not command.files:
            gave_up = self.is_reading_validation and await self._job.give_up()
            if self.dataset is not dataset:
                return
            dataset.validation = None
            self._tell()
            if gave_up:
                self._go_on()
            return
        try:
            await self._do(VALIDATION, self._read_validation(dataset, command))
        except Exception:
            self._go_on()
            raise

    async def _read_validation(self, dataset: OpenDataset, command: ReadValidation) -> None:
        sources = take_files(command.files)
        name = title_of(sources)
        read, tell_bytes = dataset.table, progress(self._host.post, "bytes", sources, name)
        with self._reading(sources):
            table = await read_table(sources, read.mapping, read.uses_mended, tell_bytes, read.encoding)
        rows = TokenizedTable(table)
        what = "comparing the rows"
        with row_by_row(self._host, table, what), row_by_row(self._host, dataset.table, what):
            overlap = await find_overlap(dataset.table, table)
        validation = Validation(name, rows, overlap)
        if (model := self._models.model) is not None and dataset.shown is not None:
            tell = progress(self._host.post, "rows", (), name)
            with row_by_row(self._host, table, "counting tokens"):
                await rows.encode(_reader(model, dataset.shown.chat_format), dataset.shown.masking, tell)
            dataset.validation = validation
            self._tell()
            self._do_what_waits()
        else:  # the dataset itself waits to be counted: for a model, or because this came in between
            before, dataset.validation = dataset.validation, validation
            try:
                await self._count(dataset)
            except asyncio.CancelledError:  # given up before it was of any use
                dataset.validation = before
                raise

    def need_dataset(self) -> OpenDataset:
        """Return the open dataset. DatasetError if there is none."""
        if self.dataset is None:
            raise DatasetError("No dataset is open.")
        return self.dataset


def row_by_row(host: Host, table: RowTable, what: str) -> AbstractContextManager[None]:
    """Within it something is done row by row, with each in one go, however long it is."""
    return busy(host, what, READ_WITHIN_S + table.longest_row_bytes / ROW_BYTES_PER_S)


def _reader(model: OpenedModel, chat_format: str) -> Reader:
    template, context_length = model.template_for(chat_format), model.files.config.max_position_embeddings
    return Reader(model.tokenizer, template, context_length, model.same_formats(chat_format))
