"""One JSON value out of a text: the value, or what is wrong with the text, where, and how to mend it. Never raises."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from lora_lab.data.problems import excerpt, shown
from lora_lab.formats.json_reader import MAX_DEPTH, is_deep_from, is_too_deep

_SPACE = " \t\r\n"
CURLY_QUOTES = tuple("“”„‟‘’‚‛")


@dataclass(frozen=True)
class JsonFailure:
    """Why a text is no JSON value. `position` is the character, counted from 0; None when no single one is at fault."""

    kind: str
    message: str
    hint: str
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


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def load_json(text: str) -> Any:
    """Return the text's JSON value, or a `JsonFailure`."""
    if is_too_deep(text):
        return JsonFailure("too-deep", f"brackets are nested more than {MAX_DEPTH} deep", "flatten the row", None)
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return explain(text, error)


def explain(text: str, error: Exception) -> JsonFailure:
    """Say in plain words why `DECODER` failed on the text."""
    if isinstance(error, json.JSONDecodeError):
        kind, message, hint = _slip(text, error)
        at = error.pos
        if kind == "trailing-comma":  # Python 3.13 points at the comma, older ones behind it
            is_behind = text[:at].rstrip(_SPACE).endswith(",")
            at = text.rfind(",", 0, at) if is_behind else text.find(",", at)
        return JsonFailure(kind, f"not valid JSON: {message}" if kind != "bom" else message, hint, at)
    if isinstance(error, _RepeatedKey):
        key = str(error)
        where = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)), text)]
        place = where[1] if len(where) > 1 else None
        return JsonFailure("duplicate-key", f'the key "{shown(key)}" stands twice in one object', "keep one of them",
                           place)  # fmt: skip
    if isinstance(error, _NotJson):
        name = str(error)
        return JsonFailure("not-a-number", f"not valid JSON: {name} is no JSON number", "write null or a number",
                           text.find(name))  # fmt: skip
    if isinstance(error, RecursionError):
        return JsonFailure("too-deep", "the row is nested too deeply", "flatten the row", None)
    match = re.search(r"\d{4000}", text)
    return JsonFailure("huge-number", "not valid JSON here: a number of thousands of digits", "write it as a string",
                       match.start() if match else None)  # fmt: skip


def _slip(text: str, error: json.JSONDecodeError) -> tuple[str, str, str]:
    """Return (kind, what is wrong, how to mend it); own words where the place shows the cause."""
    rest, before = text[error.pos : error.pos + 200].lstrip(_SPACE), text[: error.pos].rstrip(_SPACE)
    said = error.msg
    if text.startswith("\ufeff"):
        return "bom", "a byte-order mark stands inside the file (two files joined?)", "delete it"
    if said.startswith("Extra data"):
        if rest.startswith(","):
            return "row-comma", "a comma follows the row", "rows are not separated by commas; delete it"
        if rest.startswith(("//", "#", "/*")):
            return "comment", "a comment; JSON has none", "delete it"
        return "extra-data", "more text follows the row", "put each row on a line of its own"
    if (rest[:1] in ("}", "]") and before.endswith(",")) or re.match(r",\s*[}\]]", rest):
        return "trailing-comma", "a comma with nothing after it", "delete the comma"
    if rest.startswith("'"):
        return "single-quotes", "single quotes", 'JSON wants double quotes: "'
    if before and rest[:1] in CURLY_QUOTES:
        return "curly-quotes", "curly quotes, as word processors write them", 'JSON wants straight ones: "'
    if re.match(r"(True|False|None)\b", rest):
        return "python-literal", "Python's True, False or None", "JSON writes true, false, null"
    if rest.startswith(("//", "#", "/*")):
        return "comment", "a comment; JSON has none", "delete it"
    if re.match(r"[+-]?(nan|inf|infinity)\b", rest, re.IGNORECASE):
        return "not-a-number", "NaN and Infinity are no JSON numbers", "write null or a number"
    if said.startswith("Invalid control character"):
        if text[error.pos : error.pos + 1] in "\n\r":
            return "control-character", "a line break inside a string", "write it as \\n"
        return "control-character", "a raw tab or control character inside a string", "write \\t, \\n or \\u00XX"
    if said.startswith("Unterminated string"):
        hint = "a row must end on its own line, with line breaks written as \\n"
        return "unclosed", "a string is opened here and not closed", hint
    if said.startswith("Invalid \\"):
        return "bad-escape", "a backslash that starts no escape", "write two: \\\\"
    if not rest:
        return "unclosed", "the text ends before the row is complete", "a row must stand on one line"
    if not before:
        return (
            "not-an-object",
            f"a row must begin with {{; this line begins with {shown(rest[0])!r}",
            "delete the line, or mend it",
        )
    if said.startswith("Expecting ',' delimiter"):
        # The character before the place tells a text's own quotation mark from a comma left out.
        if rest[0] in '"{[' and text[error.pos - 1 : error.pos] in (*_SPACE, "}", "]"):
            return "missing-comma", "a comma is missing", "put one between the two values"
        hint = 'put a comma between two values; for a " inside a text write \\"'
        return "missing-comma", 'a comma is missing, or a " inside the text is not written as \\"', hint
    if said.startswith("Expecting property name"):
        return "unquoted-key", "a key in double quotes is expected", 'write {"key": …}'
    if said.startswith("Expecting ':' delimiter"):
        return "missing-colon", "a colon is missing after the key", 'write {"key": …}'
    return "json", said[:1].lower() + said[1:], "mend it, or delete the row"


def decode_from(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the value that begins at a character, and where it ends. Raises ValueError or RecursionError."""
    if is_deep_from(text, start):
        raise RecursionError
    return DECODER.raw_decode(text, start)


def near(text: str, failure: JsonFailure) -> str:
    """Return the text around a failure."""
    return excerpt(text, failure.position) if failure.position is not None else excerpt(text, 0)
