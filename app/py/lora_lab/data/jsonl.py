"""JSON Lines bytes -> rows with line numbers, and a problem for every line that is none.

Every line that is not blank gives exactly one item, in the file's order: nothing is skipped silently. A file of
another kind (a JSON array, pretty-printed JSON, CSV, UTF-16, a zip, …) gives one problem for the whole file
instead of one a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Called with (done_bytes, total_bytes).
Progress = Callable[[int, int], None]

_BINARY_KINDS = (
    (b"PK\x03\x04", "a zip archive (or an Excel file)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"GGUF", "a GGUF model"),
    (b"\x89PNG", "a picture"),
    (b"%PDF", "a PDF"),
)
# How much of a file is looked at to tell what it is, and up to what size a JSON array's elements are counted.
_HEAD_BYTES = 1 << 20
_COUNTED_BYTES = 32 << 20
_ROW_FORM = 'one JSON object on each line, for example {"messages": [{"role": "user", "content": "…"}, …]}'


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset, where it is, and how to mend it. Lines and columns count from 1."""

    line: int
    message: str
    column: int | None = None
    near: str = ""  # the text around the place, shortened

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", column {self.column}" if self.column is not None else "")
        return f"{place}: {self.message}" + (f" (near: {self.near})" if self.near else "")


class RowError(ValueError):
    """Raised inside this package for a bad row; always turned into a `Problem` of that row's line."""


@dataclass(frozen=True)
class RawRow:
    """One line's JSON value, not yet looked at."""

    line: int
    value: Any


def parse_jsonl(raw: bytes | str, on_progress: Progress | None = None) -> tuple[list[RawRow], list[Problem]]:
    """Return the rows and the problems of a JSON Lines file, both in the file's order. Raises nothing."""
    rows: list[RawRow] = []
    problems: list[Problem] = []
    data = to_bytes(raw)
    for count, (item, done_bytes) in enumerate(iter_rows(data)):
        if isinstance(item, RawRow):
            rows.append(item)
        elif isinstance(item, Problem):
            problems.append(item)
        if on_progress is not None and count % 256 == 0:
            on_progress(done_bytes, len(data))
    if on_progress is not None:
        on_progress(len(data), len(data))
    return rows, problems


def to_bytes(raw: bytes | bytearray | memoryview | str) -> bytes:
    """Return the file's bytes; a string is taken as the file's text."""
    return raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else bytes(raw)


def iter_rows(data: bytes) -> Iterator[tuple[RawRow | Problem | None, int]]:
    """Yield (item, bytes done) a line, the item being None for a blank line. Raises nothing."""
    whole = _whole_file_problem(data)
    if whole is not None:
        yield whole, len(data)
        return
    # Old Macintosh files end their lines with a lone carriage return.
    separator = b"\r" if b"\n" not in data and b"\r" in data else b"\n"
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0  # a byte-order mark
    line = 0
    while start < len(data):
        end = data.find(separator, start)
        end = len(data) if end < 0 else end
        line += 1
        raw_line = data[start:end]
        start = end + 1
        yield (_read_line(line, raw_line) if raw_line.strip() else None), min(start, len(data))


def _read_line(line: int, raw_line: bytes) -> RawRow | Problem:
    try:
        text = raw_line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(line, raw_line, error)
    value_or_problem = _load_json(text)
    if isinstance(value_or_problem, _JsonFailure):
        failure = value_or_problem
        column = failure.position + 1 if failure.position is not None else None
        near = excerpt(text, failure.position) if failure.position is not None else ""
        return Problem(line, failure.message, column, near)
    if not isinstance(value_or_problem, dict):
        kind = json_kind(value_or_problem)
        return Problem(line, f"the row is {kind}; a row must be a JSON object: {{…}}", 1, excerpt(text, 0))
    return RawRow(line, value_or_problem)


@dataclass(frozen=True)
class _JsonFailure:
    message: str
    position: int | None


class _RepeatedKey(ValueError):
    pass


class _NotJson(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):  # the plain reader would keep the last and drop the others without a word
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKey(key)
            seen.add(key)
    return result


def _constant(name: str) -> Any:
    raise _NotJson(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _load_json(text: str) -> Any:
    """Return the JSON value of a text, or a `_JsonFailure` that says what is wrong, where, and how to mend it."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return _JsonFailure(f"not valid JSON: {_explain(text, error)}", error.pos)
    except _RepeatedKey as error:
        key = str(error)
        where = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)), text)]
        place = where[1] if len(where) > 1 else None
        return _JsonFailure(f'the key "{key}" stands twice in one object; keep one of them', place)
    except _NotJson as error:
        return _JsonFailure(f"not valid JSON: {error} is no JSON number; write null or a number", text.find(str(error)))
    except RecursionError:
        return _JsonFailure("the row is nested too deeply", None)
    except ValueError as error:  # an integer of thousands of digits
        return _JsonFailure(f"not valid JSON: {error}", None)


def _explain(text: str, error: json.JSONDecodeError) -> str:
    """Say in plain words what is wrong at `error.pos` and what to do; own words where the place shows the cause."""
    position = error.pos
    rest = text[position:].lstrip(" \t\r\n")
    before = text[:position].rstrip(" \t\r\n")
    if text.startswith("\ufeff"):
        return "a byte-order mark stands inside the file (two files joined?); delete it"
    if error.msg.startswith("Extra data"):
        if rest.startswith(","):
            return "a comma follows the row; rows are not separated by commas, delete it"
        return "more text follows the row; put each row on a line of its own"
    if (rest[:1] in ("}", "]") and before.endswith(",")) or re.match(r",\s*[}\]]", rest):
        return "a comma with nothing after it; delete the comma"
    if rest.startswith("'"):
        return 'single quotes; JSON wants double quotes: "'
    if re.match(r"(True|False|None)\b", rest):
        return "Python's True, False or None; JSON writes true, false, null"
    if error.msg.startswith("Invalid control character"):
        return "a raw tab or control character inside a string; write \\t, \\n or \\u00XX"
    if error.msg.startswith("Unterminated string"):
        return "a string is opened here and not closed; a row must end on its own line, with line breaks written as \\n"
    if error.msg.startswith("Invalid \\") or error.msg.startswith("Invalid \\escape"):
        return "a backslash that starts no escape; write two: \\\\"
    if not rest:
        return "the line ends before the row is complete; a row must stand on one line"
    if not before:
        return f"a row must begin with {{; this line begins with {rest[0]!r}"
    if error.msg.startswith("Expecting ',' delimiter"):
        return 'a comma is missing, or a " inside the text is not written as \\"'
    if error.msg.startswith("Expecting property name"):
        return 'a key in double quotes is expected: {"key": …}'
    if error.msg.startswith("Expecting ':' delimiter"):
        return "a colon is missing after the key"
    return error.msg[:1].lower() + error.msg[1:]


def _not_utf8(line: int, raw_line: bytes, error: UnicodeDecodeError) -> Problem:
    before = raw_line[: error.start].decode("utf-8")
    around = raw_line[max(0, error.start - 20) : error.start + 20].decode("cp1252", "replace")
    return Problem(
        line,
        f"not UTF-8: byte 0x{raw_line[error.start]:02X}; save the file in the encoding UTF-8",
        len(before) + 1,
        around.strip(),
    )


def _whole_file_problem(data: bytes) -> Problem | None:
    """Return the one problem of a file that is not JSON Lines at all, else None."""
    for magic, kind in _BINARY_KINDS:
        if data.startswith(magic):
            return Problem(1, f"this is {kind}, not JSON Lines; wanted is a text file with {_ROW_FORM}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:200]:
        return Problem(1, "this file is UTF-16 or binary, not UTF-8 text; save it in the encoding UTF-8")
    begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    first = re.compile(rb"\S[^\r\n]*").search(data, begin)
    if first is None:
        return Problem(1, f"the file is empty; wanted is {_ROW_FORM}")
    line = 1 + data.count(b"\n", 0, first.start())
    first_line = first.group()
    if first_line.startswith(b"["):
        return _array_problem(line, data, first)
    if first_line.startswith(b"{"):
        return _pretty_printed_problem(line, data, first)
    return _other_text_problem(line, data[first.start() : first.start() + _HEAD_BYTES])


def _is_failure(raw_line: bytes) -> bool:
    return isinstance(_load_json(raw_line.decode("utf-8", "replace")), _JsonFailure)


def _array_problem(line: int, data: bytes, first: re.Match[bytes]) -> Problem | None:
    text_follows = re.compile(rb"\S").search(data, first.end()) is not None
    if text_follows and not _is_failure(first.group()):
        return None  # a list on a line of its own among other lines: that line's problem
    found = "a JSON array"
    if len(data) <= _COUNTED_BYTES:
        whole = _load_json(data[first.start() :].decode("utf-8", "replace"))
        broken = isinstance(whole, _JsonFailure)
        found = "a JSON array that is broken as well" if broken else f"one JSON array of {len(whole)} elements"
    return Problem(
        line,
        f"this file is {found}, not JSON Lines; write each element on a line of its own, without the outer [ ] and "
        "without commas between the lines",
        1,
        excerpt(first.group().decode("utf-8", "replace"), 0),
    )


def _pretty_printed_problem(line: int, data: bytes, first: re.Match[bytes]) -> Problem | None:
    if len(first.group()) > _HEAD_BYTES or not _is_failure(first.group()):
        return None
    text = data[first.start() : first.start() + _HEAD_BYTES].decode("utf-8", "replace")
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None  # a broken first row; the lines are read one by one
    rows = text[:end].count("\n") + 1
    if rows == 1:
        return None  # a whole row with something behind it
    return Problem(
        line,
        f"this is pretty-printed JSON (its first object takes {rows} lines), not JSON Lines; write each row on one "
        "line",
        1,
        excerpt(text.splitlines()[0], 0),
    )


def _other_text_problem(line: int, head: bytes) -> Problem | None:
    """One problem for a text none of whose first lines looks like JSON (CSV and prose come here)."""
    lines = [part for part in re.split(rb"[\r\n]+", head) if part.strip()][:5]
    if any(part.lstrip()[:1] in b'{["' for part in lines):
        return None
    text = lines[0].decode("utf-8", "replace")
    kind = "CSV or another table" if re.search(r"[,;\t]", text) and len(lines) > 1 else "plain text"
    return Problem(line, f"this looks like {kind}, not JSON Lines; wanted is {_ROW_FORM}", 1, excerpt(text, 0))


def excerpt(text: str, position: int | None, radius: int = 24) -> str:
    """Return the text around a position, shortened, on one line."""
    position = min(max(position or 0, 0), len(text))
    start, end = max(0, position - radius), min(len(text), position + radius)
    shown = re.sub(r"\s+", " ", text[start:end]).strip()
    return ("…" if start else "") + shown + ("…" if end < len(text) else "")


def json_kind(value: Any) -> str:
    """Name the kind of a JSON value in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
