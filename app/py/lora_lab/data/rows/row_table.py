"""The rows of a dataset as they were read: kept as JSON bytes, looked at one by one, written out again."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lora_lab.data.files.json_rows import to_json
from lora_lab.data.problems import Problem, ProblemLog
from lora_lab.data.rows.content import ContentCounter
from lora_lab.data.rows.mapping import ColumnMapping, guess_mapping
from lora_lab.data.rows.schema import Conversation, RawRow, Row, read_row
from lora_lab.data.turns import Turns


@dataclass(repr=False)
class RowTable:
    """Every row that can be trained on, or could be once mended (`is_mended`), in the files' order.

    A row costs its JSON text and about 60 bytes. `rows` counts all rows of the files, good or bad; `formats` those
    whose keys say what they are; `columns` the keys of the others.
    """

    sources: tuple[str, ...] = ()
    mapping: ColumnMapping | None = None
    uses_mended: bool = False
    rows: int = 0
    good: int = 0
    problems: ProblemLog = field(default_factory=ProblemLog)
    formats: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    content: ContentCounter = field(default_factory=ContentCounter)
    _raw: list[bytes] = field(default_factory=list)
    _lines: array = field(default_factory=lambda: array("q"))
    _sources: array = field(default_factory=lambda: array("H"))
    _mended: bytearray = field(default_factory=bytearray)
    _samples: list[dict[str, Any]] = field(default_factory=list)  # of rows whose columns have other names

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
    def format(self) -> str:
        """The one format of all rows, `mixed` for several, `unknown` for none."""
        found = [name for name, count in self.formats.items() if count]
        return found[0] if len(found) == 1 else ("mixed" if found else "unknown")

    def add(self, source: int, line: int, value: dict[str, Any], text: str | None, is_mended: bool) -> None:
        """Keep a row. `text` is its JSON on one line where that is at hand."""
        self._raw.append((text.strip() if text is not None else to_json(value)).encode("utf-8"))
        self._lines.append(line)
        self._sources.append(source)
        self._mended.append(is_mended)

    def note_columns(self, value: dict[str, Any]) -> None:
        """Remember what a row that nobody knows is made of."""
        self.columns.update([key for key in list(value)[:100] if len(self.columns) < 1000 or key in self.columns])
        if len(self._samples) < 5:
            self._samples.append(value)

    def usable(self) -> list[int]:
        """Return the indices of the rows to train on: the good ones, and the mended ones where they were asked for."""
        if self.uses_mended or not self.mendable:
            return list(range(len(self._raw)))
        return [index for index, is_mended in enumerate(self._mended) if not is_mended]

    def is_mended(self, index: int) -> bool:
        return bool(self._mended[index])

    def value(self, index: int) -> dict[str, Any]:
        """Return a row's JSON object as it stands in the file."""
        return json.loads(self._raw[index])

    def line(self, index: int) -> int:
        return self._lines[index]

    def source(self, index: int) -> str:
        """Return the name of the file that a row comes from."""
        return self.sources[self._sources[index]]

    def row(self, index: int) -> Row:
        """Return a row as it is trained on."""
        row = read_row(RawRow(self._lines[index], self.value(index)), self.mapping)
        assert not isinstance(row, Problem), "only rows that can be read are kept"
        return row

    def guess(self) -> ColumnMapping | None:
        """Return the mapping that the columns' names suggest, where some rows' columns are not known."""
        return guess_mapping([name for name, _ in self.columns.most_common()]) if self.columns else None

    def mapping_preview(self, mapping: ColumnMapping) -> list[dict[str, Any]]:
        """Return what a mapping makes of the first rows: `{"messages": …}`, `{"text": …}` or `{"problem": …}`."""
        rows = (read_row(RawRow(0, value), mapping) for value in self._samples)
        return [as_messages(row) if isinstance(row, Row) else {"problem": row.message} for row in rows]

    async def cleaned(self, mended: bool = True, as_conversations: bool = False) -> AsyncIterator[bytes]:
        """Yield JSON Lines of the good rows (and the mended ones), in the files' order, in pieces.

        The rows keep their form; `as_conversations` writes `messages` (and `text`) rows instead.
        """
        turns = Turns(len(self), None)
        piece: list[bytes] = []
        for index, raw in enumerate(self._raw):
            if mended or not self._mended[index]:
                piece.append(to_json(as_messages(self.row(index))).encode() if as_conversations else raw)
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


def as_messages(row: Row) -> dict[str, Any]:
    """Return a row in this program's own form: `{"messages": […]}` or `{"text": …}`."""
    if not isinstance(row, Conversation):
        return {"text": row.text}
    messages = []
    for message in row.messages:
        plain = message.as_dict()
        if message.role == "assistant" and not message.trained:
            plain["weight"] = 0
        messages.append(plain)
    return {"messages": messages}
