"""What a file is written in: JSON Lines, arrays, a table, plain text. Its beginning says so, and its name."""

from __future__ import annotations

import csv
import re

from lora_lab.data.files.json_text import JsonFailure, decode_from, load_json

DELIMITERS = (",", "\t", ";", "|")
JSON_NAMES = ("json", "jsonl", "ndjson", "jsonlines")
TEXT_NAMES = ("txt", "text", "md", "markdown", "rst", "org", "tex", "log")
_TABLE_NAMES = {"csv": ",;|\t", "tsv": "\t", "tab": "\t"}
COLUMN_NAME = re.compile(r"[^\W\d][\w .\-/]{0,39}")
# How Excel is told the separator: a line before the names.
SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?[,;|\t]*', re.IGNORECASE)
_LOOKED_AT = 20  # lines

# The beginning of an object: a key, also in other quotes or none, or a comment. `[Verse 1]`, `{{Infobox` are none.
_OBJECT = re.compile(
    r"""(?:\[\s*)*+\{\s*(?:["'“”‘„]|//|/\*|\Z|[A-Za-z_$][\w$-]*+\s*:\s*(?:["'“‘\[{+-]|\d|true\b|false\b|null\b|True\b|False\b|None\b))"""
)
# A string that holds the beginning of an object, or of a list of them: JSON written as JSON.
_STRING_OF_JSON = re.compile(r'"(?:\s|\\[nrt]|\[)*+\{(?:\s|\\[nrt])*+\\"')


def suffix_of(name: str) -> str:
    """Return what a file's name ends in, in small letters and without the dot; "" for none."""
    return name.lower().removesuffix(".gz").rpartition(".")[2] if "." in name else ""


def find_container(head: str, name: str, known_columns: frozenset[str]) -> str:
    """Return what a file is written in: lines, array, objects, text, not-json, or the character between table cells.

    `head` is the file's beginning; where that leaves a choice, its name decides. A name that says JSON is believed as
    soon as the text begins with a bracket, so that a damaged beginning is told; else the text must begin as JSON does.
    """
    text = head.lstrip("\ufeff").lstrip()
    suffix = suffix_of(name)
    if not text:
        return "lines"
    if text[0] in "[{" and (suffix in JSON_NAMES or begins_as_json(text)):
        return _find_json(text)
    if _STRING_OF_JSON.match(text):
        return "lines"
    delimiter = find_delimiter(text, name, known_columns)
    if delimiter is not None:
        return delimiter
    lines = [line for line in text.split("\n")[:_LOOKED_AT] if line.strip()]
    rows = [line.lstrip().startswith(("{", "[{")) and begins_as_json(line.lstrip()) for line in lines]
    # A first line that is broken, or a heading, hides no rows; a piece of JSON in a text does not make it JSON.
    if any(rows[:5]) and (suffix not in TEXT_NAMES or 2 * sum(rows) >= len(rows)):
        return "lines"
    first = lines[0]
    is_json = not isinstance(load_json(first), JsonFailure)
    if suffix in JSON_NAMES or (len(lines) == 1 and is_json and suffix not in TEXT_NAMES):
        return "not-json" if len(lines) > 1 or not is_json else "lines"
    return "text"


def begins_as_json(text: str) -> bool:
    """Whether a text that begins with a bracket is JSON, or was meant to be: it may be damaged further on."""
    if _OBJECT.match(text):
        return True
    try:
        _, end = decode_from(text)
    except (ValueError, RecursionError):
        return False
    # A list of numbers, say. `[1] A footnote` and `{} is an empty set` are no JSON.
    return text[end:].partition("\n")[0].strip()[:1] in ("", ",", "[", "{", "]", "}")


def _find_json(text: str) -> str:
    first, _, rest = text.partition("\n")
    value = load_json(first)
    second, third = [*(line.strip() for line in rest.split("\n") if line.strip()), "", ""][:2]
    if text[0] == "[":
        if isinstance(value, list):  # a list of other things among lines is that line's problem
            return "array" if not second or all(isinstance(item, (dict, list)) for item in value) else "lines"
        is_broken = not first.rstrip().endswith(("[", ",")) and not _OBJECT.match(first)
        return "lines" if is_broken and isinstance(load_json(second), dict) else "array"
    if not isinstance(value, JsonFailure):
        return "objects" if second in ("[", "{") and _begins_pretty(rest.lstrip(), second, third) else "lines"
    return "objects" if (_is_pretty(text) if rest else _goes_on(text)) else "lines"


def _begins_pretty(rest: str, second: str, third: str) -> bool:
    """Whether a bracket on the second line, behind a whole row, begins a value that goes on below it: not a slip."""
    if re.match(r'"[^"]*"\s*:' if second == "{" else r"\{$", third):
        return True
    try:
        return "\n" in rest[: decode_from(rest)[1]]
    except (ValueError, RecursionError):
        return False


def _goes_on(text: str) -> bool:
    """Whether a text of one line is objects one behind the other: `{…}{…}`."""
    try:
        _, end = decode_from(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip().startswith(("{", "["))


def _is_pretty(text: str) -> bool:
    """Whether an object whose first line is not whole goes on in the lines below it."""
    try:
        _, end = decode_from(text)
        return "\n" in text[:end]
    except (ValueError, RecursionError):
        pass
    first, _, rest = text.partition("\n")
    following = next((line for line in rest.split("\n") if line.strip()), "")
    is_open = first.rstrip().endswith(("{", "[", ",", ":")) and not first.rstrip().endswith(("},", "],"))
    return is_open and not following.startswith(("{", "["))


def find_delimiter(head: str, name: str, known: frozenset[str]) -> str | None:
    """Return what separates a table's cells; None when the text is no table. `known`: names that columns often have."""
    lines = [line for line in head.replace("\r", "").split("\n")[:_LOOKED_AT] if line.strip()]
    if not lines:
        return None
    if said := SEPARATOR_LINE.fullmatch(lines[0]):
        return said[1]
    suffix = suffix_of(name)
    by_name = _TABLE_NAMES.get(suffix)
    found: str | None = None
    for delimiter in DELIMITERS if by_name is None else by_name:
        cells = _names(lines[0], delimiter)
        is_known = any(cell.lower() in known for cell in cells)
        if len(cells) < 2:
            continue
        if by_name is not None:
            if is_known:
                return delimiter
            found = found or delimiter
            continue
        # Prose has commas too: without the file's name to say so, the first line must read like names of columns, and
        # the others must have as many cells.
        named = all(COLUMN_NAME.fullmatch(cell) for cell in cells)
        if named and (is_known or (delimiter == "\t" and len(lines) > 1)) and _are_even(lines, delimiter, len(cells)):
            return delimiter
    if by_name is not None:
        return found or by_name[0]
    return _find_even(lines) if not suffix else None


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return []


def _are_even(lines: list[str], delimiter: str, count: int) -> bool:
    """Whether at least three of four lines below the first have as many cells as it has."""
    try:
        records = [len(cells) for cells in csv.reader(lines[1:], delimiter=delimiter) if cells]
    except csv.Error:
        return False
    return not records or 4 * records.count(count) >= 3 * len(records)


def _find_even(lines: list[str]) -> str | None:
    """Return the delimiter of pasted text that is a table by its looks alone: names, then rows of as many cells.

    Prose has a space behind its commas, and seldom as many of them in each line.
    """
    for delimiter in DELIMITERS:
        try:
            # The last record may go on behind what is looked at here.
            first, *records = csv.reader(lines, delimiter=delimiter)
        except (csv.Error, ValueError):
            continue
        named = len(first) > 1 and all(COLUMN_NAME.fullmatch(cell) and cell == cell.strip() for cell in first)
        whole = records[:-1] if len(records) > 1 else records
        if named and len(set(first)) == len(first) and whole and all(len(cells) == len(first) for cells in whole):
            return delimiter
    return None
