"""A dataset as it is trained on: the rows of a `RowTable` in the model's tokens, and which of them are trained."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lora_lab.data.files.source import DataSource
from lora_lab.data.problems import KEPT_PER_KIND, Problem, ProblemLog
from lora_lab.data.report import DatasetReport, TokenReport, build_report, token_report
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.overlap import Overlap
from lora_lab.data.rows.read import read_table
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.rows.schema import Conversation, Row
from lora_lab.data.tokens.batches import encode_whole, unusable
from lora_lab.data.tokens.examples import Examples, ExamplesBuilder
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.data.turns import Progress, Turns
from lora_lab.errors import DatasetError
from lora_lab.settings import Masking, OnLong

Raw = bytes | bytearray | memoryview | str | DataSource | Sequence[DataSource]
# Reading takes about this part of the time; the tokenizer the rest.
_READING_SHARE = 8


class Rows(Sequence[Row]):
    """The rows behind a dataset's examples; each is made from its JSON when it is asked for."""

    def __init__(self, table: RowTable, places: np.ndarray) -> None:
        self._table, self._places = table, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self._table.row(int(place)) for place in self._places[index]]
        return self._table.row(int(self._places[index]))


@dataclass(frozen=True, repr=False)
class Dataset:
    """The good rows of the files in their order: `examples[i]` comes from `rows[i]`, row `places[i]` of the `table`.

    `lengths` (N) int64 are the rows' tokens before the cut. What is wrong with the others: `report.problems`.
    """

    examples: Examples
    report: DatasetReport
    rows: Sequence[Row]
    table: RowTable
    places: np.ndarray
    lengths: np.ndarray
    masking: Masking = "assistant"

    def __repr__(self) -> str:
        # Short: asyncio.run puts its task's result into words on the way out, and every array with it.
        return f"<Dataset of {len(self.examples)} examples>"

    @property
    def tokens(self) -> TokenReport:
        """The numbers of the report that a model gives."""
        assert self.report.tokens is not None, "a dataset is made with a model"
        return self.report.tokens

    @property
    def bad_rows(self) -> int:
        """How many errors there are. A row that is left out because it is too long is none: somebody chose that."""
        long = sum(group.count for group in self.report.groups if group.kind == "too-long")
        return self.report.counts["error"] - long

    def require(self, skip_bad_rows: bool) -> None:
        """Raise DatasetError (with the problems) unless all rows are good, or the good ones suffice."""
        count = self.bad_rows
        if count and not skip_bad_rows:
            problems = self.report.problems
            raise DatasetError(f"{count} bad row{'s' if count != 1 else ''}\n{self.report.as_text()}", problems)
        if self.report.asks:
            raise DatasetError(f"{'; '.join(self.report.asks)}: say how the rows are to be read, with --map\n"
                               f"{self.report.as_text()}")  # fmt: skip
        if not self.examples:
            raise DatasetError(f"no row can be trained on\n{self.report.as_text()}", self.report.problems)


async def read_dataset(
    raw: Raw,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    max_length: int,
    on_progress: Progress | None = None,
    *,
    name: str = "",
    mapping: ColumnMapping | None = None,
    use_mended: bool = False,
    masking: Masking = "assistant",
    on_long: OnLong = "truncate",
) -> Dataset:
    """Read, check, template, tokenize and mask a dataset. Bad rows are reported, never raised.

    `raw` is a file's bytes or text (`name` is its name then), or one or several `DataSource`. `template` is None for a
    model that has no chat template. `on_progress(done_bytes, total_bytes)` is called now and then; the event loop gets
    its turn as often, so that a long reading can be cancelled.
    """
    if isinstance(raw, (bytes, bytearray, memoryview, str)):
        raw = [DataSource.from_bytes(raw, name)]
    sources = [raw] if isinstance(raw, DataSource) else list(raw)
    size = sum(source.size_bytes for source in sources)
    first_part = size // _READING_SHARE

    def tell_reading(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(first_part * done // max(1, total), size)

    def tell_encoding(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(first_part + (size - first_part) * done // max(1, total) if total else size, size)

    table = await read_table(sources, mapping, use_mended, tell_reading)
    return await encode_table(table, tokenizer, template, max_length, tell_encoding, masking, on_long)


async def encode_table(
    table: RowTable,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    max_length: int,
    on_progress: Progress | None = None,
    masking: Masking = "assistant",
    on_long: OnLong = "truncate",
) -> Dataset:
    """Turn a table's usable rows into examples. `on_progress(done_rows, total_rows)`."""
    encoded = await encode_rows(table, tokenizer, template, max_length, on_progress, masking)
    return encoded.cut(max_length, on_long)


@dataclass(frozen=True, repr=False)
class EncodedTable:
    """A table's usable rows in tokens, of each the first `keep`: cut to any length up to that in no time.

    `examples[i]` is row `places[i]` of the table and has `lengths[i]` tokens in all; some may have nothing trained.
    `found` is what there is to say about the rows at any length.
    """

    table: RowTable
    examples: Examples
    places: np.ndarray
    lengths: np.ndarray
    found: ProblemLog
    keep: int
    masking: Masking = "assistant"

    def __repr__(self) -> str:
        return f"<EncodedTable of {len(self.examples)} rows>"

    def cut(self, max_length: int, on_long: OnLong = "truncate") -> Dataset:
        """Return the rows as they are trained on at this length. ValueError for more tokens than were kept."""
        if max_length > self.keep:
            raise ValueError(f"{max_length} tokens of a row wanted; {self.keep} were kept")
        whole = self.examples.cut(max_length)
        usable = whole.trained_counts > 0
        if on_long == "drop":
            usable &= self.lengths <= max_length
        chosen = np.flatnonzero(usable)
        log = self._say_lost(np.flatnonzero(~usable), whole, max_length, on_long)
        examples, places, lengths = whole.subset(chosen), self.places[chosen], self.lengths[chosen]
        tokens = token_report(lengths, examples.sizes, int(examples.trained_counts.sum()), max_length)
        report = build_report(self.table, tokens, log, len(examples))
        return Dataset(examples, report, Rows(self.table, places), self.table, places, lengths, self.masking)

    def _say_lost(self, lost: np.ndarray, whole: Examples, max_length: int, on_long: OnLong) -> ProblemLog:
        log = ProblemLog()
        log.extend(self.found)
        counts: Counter[str] = Counter()
        for index in lost.tolist():
            length = int(self.lengths[index])
            kind = "too-long" if on_long == "drop" and length > max_length else "nothing-to-train"
            counts[kind] += 1
            if counts[kind] > KEPT_PER_KIND:
                continue
            place = int(self.places[index])
            problem = unusable(self.table.line(place), length, bool(whole.trained_counts[index]), max_length, on_long)
            assert problem is not None, "the row was found to be unusable"
            log.add(named(problem, self.table, place))
        for kind, count in counts.items():
            log.count_more(kind, "error", max(0, count - KEPT_PER_KIND))
        return log


async def encode_rows(
    table: RowTable,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    keep: int,
    on_progress: Progress | None = None,
    masking: Masking = "assistant",
) -> EncodedTable:
    """Template, tokenize and mask a table's usable rows, keeping `keep` tokens of each.

    `on_progress(done_rows, total_rows)`.
    """
    usable = table.usable()
    turns = Turns(len(usable), on_progress)
    marks = _SpecialTokens(tokenizer)
    log, builder = ProblemLog(), ExamplesBuilder()
    places, lengths = array("q"), array("q")
    for done, place in enumerate(usable):
        row = table.row(place)
        result = encode_whole(row, tokenizer, template, masking)
        if isinstance(result, Problem):
            found = [result]
        else:
            found = [*result.remarks, *marks.remarks(row)]
            example = result.example
            is_long = result.full_length > keep  # a slice would hold on to the whole
            builder.add(*((example.tokens[:keep].copy(), example.trained[:keep].copy()) if is_long else
                          (example.tokens, example.trained)))  # fmt: skip
            places.append(place)
            lengths.append(result.full_length)
        for problem in found:
            log.add(named(problem, table, place))
        if turns.is_due():
            await turns.give(done)
    turns.end()
    return EncodedTable(
        table, builder.build(), np.array(places, np.int64), np.array(lengths, np.int64), log, keep, masking
    )


def named(problem: Problem, table: RowTable, place: int) -> Problem:
    """Return a row's problem with its file's name, where there are several files."""
    return replace(problem, source=table.source(place)) if len(table.sources) > 1 else problem


class _SpecialTokens:
    """Finds what the model's tokenizer reads differently than a person does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        names = [name for name in map(tokenizer.id_to_token, sorted(tokenizer.special_ids)) if name]
        self._special = re.compile("|".join(map(re.escape, names))) if names else None

    def remarks(self, row: Row) -> list[Problem]:
        """Return at most one remark about a row's texts."""
        for text in row.texts:
            match = self._special.search(text) if self._special else None
            if match:
                hint = "was a chat template applied to it already?" if isinstance(row, Conversation) else ""
                message = f"the text holds the special token {match.group()}; it is taken as that token"
                return [Problem(row.line, message, kind="special-token", severity="warning", hint=hint)]
            lost = self._tokenizer.lost_bytes(text)
            if lost:
                names = ", ".join(f"0x{byte:02X}" for byte in sorted(set(lost)))
                message = f"the model's vocabulary has no token for {names}; {len(lost)} bytes are left out"
                return [Problem(row.line, message, kind="lost-bytes", severity="warning")]
        return []


def without_overlap(training: Dataset, overlap: Overlap) -> Examples:
    """Return the examples to train on: those whose row does not stand in the validation file."""
    return training.examples.subset(np.flatnonzero(~np.isin(training.places, list(overlap.indices))))
