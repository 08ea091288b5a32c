"""The rows of a dataset as they were read: kept as JSON bytes, looked at one by one, written out again."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lora_lab.data.files.items import to_json
from lora_lab.data.files.json_text import DECODER
from lora_lab.data.problems import Problem, ProblemLog, shown
from lora_lab.data.rows.content import ContentCounter
from lora_lab.data.rows.mapping import ColumnMapping, guess_mapping
from lora_lab.data.rows.parts import holds
from lora_lab.data.rows.readings import Reading, as_it_stands, as_messages, open_question, propose
from lora_lab.data.rows.row import RawRow, Row
from lora_lab.data.rows.schema import read_row
from lora_lab.data.rows.unused import UnusedColumn, UnusedColumns
from lora_lab.data.turns import Turns

MOST_ASKED = 3


@dataclass(frozen=True)
class ReadFile:
    """A file that rows came from. `sha256` is that of its bytes; "" where it was not read to its end."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(repr=False)
class RowTable:
    """Every row that can be trained on, or could be once mended (`is_mended`), in the files' order.

    A row costs its JSON text and about 60 bytes. `rows` counts all rows of the files, good or bad; `formats` those
    whose keys say what they are, `unknown` the others; `columns` are the keys of all, `unused` those of the good rows
    that nothing was made of.
    """

    sources: tuple[str, ...] = ()
    files: tuple[ReadFile, ...] = ()  # the same, once all were read
    mapping: ColumnMapping | None = None
    uses_mended: bool = False
    encoding: str | None = None  # that was chosen for files that are not UTF-8
    rows: int = 0
    good: int = 0
    longest_row_bytes: int = 0  # of a kept row's JSON
    not_utf8: bytes = b""  # the first place that is no UTF-8
    problems: ProblemLog = field(default_factory=ProblemLog)
    formats: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    unused: UnusedColumns = field(default_factory=UnusedColumns)
    content: ContentCounter = field(default_factory=ContentCounter)
    _filled: set[str] = field(default_factory=set)  # columns that hold something in some row
    _raw: list[bytes] = field(default_factory=list)
    _lines: array = field(default_factory=lambda: array("q"))
    _sources: array = field(default_factory=lambda: array("H"))
    _better: dict[int, bytes] = field(default_factory=dict)  # of good rows that would be better mended
    _mended: bytearray = field(default_factory=bytearray)
    _samples: list[dict[str, Any]] = field(default_factory=list)  # the first rows
    _unknown_samples: list[dict[str, Any]] = field(default_factory=list)  # of rows whose columns have other names

    def __repr__(self) -> str:
        return f"<RowTable of {len(self._raw)} rows>"

    def __len__(self) -> int:
        """How many rows are kept; with the mended ones."""
        return len(self._raw)

    @property
    def bad(self) -> int:
        """Rows that cannot be used as they are."""
        return self.rows - self.good

    @property
    def mendable(self) -> int:
        """How many kept rows are good only once mended."""
        return self._mended.count(1)

    @property
    def improvable(self) -> int:
        """How many good rows would be better mended: they can be used as they stand, too."""
        return len(self._better)

    @property
    def format(self) -> str:
        """The one format of all rows, `mixed` for several, `unknown` for none."""
        found = [name for name, count in self.formats.items() if count]
        return found[0] if len(found) == 1 else ("mixed" if found else "unknown")

    def add(self, source: int, line: int, value: dict[str, Any], text: str | None, is_mended: bool) -> None:
        """Keep a row. `text` is its JSON on one line where that is at hand."""
        try:
            raw = (text.strip() if text is not None else to_json(value)).encode("utf-8")
        except UnicodeEncodeError:  # half a character, in a part of the row that nobody reads
            raw = to_json(value).encode("utf-8")
        self._raw.append(raw)
        self.longest_row_bytes = max(self.longest_row_bytes, len(raw))
        self._lines.append(line)
        self._sources.append(source)
        self._mended.append(is_mended)

    def offer(self, text: str) -> None:
        """Keep the JSON of what the last row would be, once mended."""
        self._better[len(self._raw) - 1] = text.encode("utf-8")

    def note_columns(self, value: dict[str, Any], is_known: bool) -> None:
        """Remember what a row is made of. `is_known`: its format is."""
        self.columns.update([key for key in list(value)[:100] if len(self.columns) < 1000 or key in self.columns])
        self._filled.update(key for key in value.keys() - self._filled if key in self.columns and holds(value[key]))
        self.unknown += not is_known
        for samples in (self._samples, *(() if is_known else (self._unknown_samples,))):
            if len(samples) < 5:
                samples.append(value)

    def usable(self) -> list[int]:
        """Return the indices of the rows to train on: the good ones, and the mended ones where they were asked for."""
        if self.uses_mended or not self.mendable:
            return list(range(len(self._raw)))
        return [index for index, is_mended in enumerate(self._mended) if not is_mended]

    def is_mended(self, index: int) -> bool:
        return bool(self._mended[index])

    def value(self, index: int) -> dict[str, Any]:
        """Return a row's JSON object as it stands in the file."""
        return DECODER.decode(self._raw[index].decode("utf-8"))

    def line(self, index: int) -> int:
        return self._lines[index]

    def source(self, index: int) -> str:
        """Return the name of the file that a row comes from."""
        return self.sources[self._sources[index]]

    def row(self, index: int) -> Row:
        """Return a row as it is trained on."""
        return self._read(index, self._raw[index])

    def _read(self, index: int, raw: bytes) -> Row:
        row = read_row(RawRow(self._lines[index], DECODER.decode(raw.decode("utf-8"))), self.mapping)
        assert not isinstance(row, Problem), "only rows that can be read are kept"
        return row

    def guess(self) -> ColumnMapping | None:
        """Return the mapping that the columns' names suggest, where some rows' columns are not known."""
        if not self.unknown:
            return None
        readings = [reading.mapping for reading in self.readings() if not reading.mapping.as_known]
        return readings[0] if readings else guess_mapping(self._names())

    def readings(self) -> tuple[Reading, ...]:
        """Return the ways in which the rows can be read where there are several, the likeliest first, at most three."""
        if self.mapping is None and not self.unknown and self.format == "mixed":
            return ()
        samples = self._unknown_samples or self._samples
        found = propose(samples, self._names(), self.unused, self.mapping)
        return found or ((as_it_stands(samples),) if self.asks() else ())

    def _names(self) -> list[str]:
        """Return the columns that hold something in some row, the most frequent first."""
        return [name for name, _ in self.columns.most_common() if name in self._filled]

    def unused_columns(self) -> tuple[UnusedColumn, ...]:
        """Return the columns of good rows that nothing was made of, each with a reading that would use it."""
        offers = [(reading.mapping.columns, reading.mapping.describe()) for reading in self.readings()]
        return tuple(
            replace(column, offer=next((said for columns, said in offers if column.column in columns), ""))
            for column in self.unused.build()
        )

    def asks(self) -> tuple[str, ...]:
        """Return why a person has to say how the rows are to be read before training on them; none: nobody has to."""
        if self.mapping is not None or not self.good:
            return ()
        said = [
            f'the column "{shown(column.column, 40)}" holds more text than what is read of its rows'
            for column in self.unused.build()
            if column.asks
        ]
        if self.format != "mixed" and self._samples and (question := open_question(self._samples, self._names())):
            said.insert(0, question)
        return tuple(said[:MOST_ASKED])

    def mapping_preview(self, mapping: ColumnMapping) -> list[dict[str, Any]]:
        """Return what a mapping makes of the first rows: `{"messages": …}`, `{"text": …}` or `{"problem": …}`."""
        rows = (read_row(RawRow(0, value), mapping) for value in self._unknown_samples or self._samples)
        return [as_messages(row) if isinstance(row, Row) else {"problem": row.message} for row in rows]

    async def cleaned(self, mended: bool = True, as_conversations: bool = False) -> AsyncIterator[bytes]:
        """Yield JSON Lines of the good rows (and the mended ones), in the files' order, in pieces.

        Rows that would be better mended are written so with `mended`. The rows keep their form; `as_conversations`
        writes `messages` (and `text`) rows instead.
        """
        turns = Turns(len(self), None)
        piece: list[bytes] = []
        for index, raw in enumerate(self._raw):
            if mended or not self._mended[index]:
                written = self._better.get(index, raw) if mended else raw
                piece.append(to_json(as_messages(self._read(index, written))).encode() if as_conversations else written)
            if turns.is_due():
                yield b"".join(line + b"\n" for line in piece)
                piece = []
                await turns.give(index)
        yield b"".join(line + b"\n" for line in piece)

    def find_line(self, line: int, source: str = "") -> int | None:
        """Return the first row that begins on this line (of the file of this name), None when none does."""
        for index in np.flatnonzero(np.frombuffer(self._lines, np.int64) == line).tolist():
            if not source or self.source(index) == source:
                return index
        return None

    async def search(self, words: str, limit: int = 100, start: int = 0) -> list[int]:
        """Return the indices of the first rows, from `start` on, whose texts hold the words, in either case."""
        found: list[int] = []
        async for index in self.matches(words, range(start, len(self))):
            found.append(index)
            if len(found) >= limit:
                break
        return found

    async def matches(self, words: str, indices: Iterable[int]) -> AsyncIterator[int]:
        """Yield those of `indices`, in their order, whose rows' texts hold the words, in either case."""
        wanted = words.casefold()
        # What stands in JSON as in the text, unless someone wrote it as \\u0061: the longest run of letters and digits.
        plain = max(re.findall(r"[^\W_]+", wanted) or [""], key=len)
        turns = Turns(len(self), None)
        for done, index in enumerate(indices):
            raw = self._raw[index]
            may_hold = b"\\u" in raw or plain in raw.decode("utf-8", "replace").casefold()
            if may_hold and any(wanted in text.casefold() for text in self.row(index).texts):
                yield index
            if turns.is_due():
                await turns.give(done)
