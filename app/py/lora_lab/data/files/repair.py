"""Rows that are nearly JSON, mended: the usual slips only, and only where one reading is left.

Mended are trailing commas, commas left out between values, single and curly quotes, keys without quotes, comments,
Python's True, False and None, NaN and Infinity (they become null), raw line breaks and tabs in strings, backslashes
that start no escape, and rows separated by commas. Anything else is left to the person.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lora_lab.data.files.json_text import DECODER, is_too_deep
from lora_lab.data.problems import excerpt, shown

# Longer texts are not mended: showing and storing them twice helps nobody.
MAX_REPAIR_CHARACTERS = 1 << 20
# Possessive throughout: no text, however strange, is gone through twice.
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>//[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<double>"(?:[^"\\]++|\\.)*+")
    |(?P<single>'(?:[^'\\]++|\\.)*+')
    |(?P<curly>[“”„‟](?:[^“”„‟\\]++|\\.)*+[“”„‟]|[‘‚‛](?:[^‘’‚‛\\]++|\\.)*+[‘’])
    |(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)|(?P<colon>:)
    |(?P<number>[+-]?+(?>\d[\d_]*+(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?+\d++)?+(?![\w.]))
    |(?P<notnumber>[+-]?(?:NaN|nan|Infinity|inf)\b)
    |(?P<word>[A-Za-z_$][\w$-]*)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null",
          "undefined": "null"}  # fmt: skip
_GOOD_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_VALUE_ENDS, _VALUE_STARTS = ("value", "close"), ("value", "open")


def repair(text: str) -> list[dict[str, Any]]:
    """Return the objects that the text surely means; none where that cannot be told. Never raises."""
    if len(text) > MAX_REPAIR_CHARACTERS or is_too_deep(text):
        return []
    mended = _mend(text.lstrip("\ufeff"))
    if mended is None:
        return []
    values, place = [], 0
    try:
        while place < len(mended):
            value, place = DECODER.raw_decode(mended, place)
            values.append(value)
            if mended[place : place + 1] == ",":
                place += 1
    except (ValueError, RecursionError):
        return []
    return values if values and all(isinstance(value, dict) for value in values) else []


def show_change(text: str, rows: list[dict[str, Any]], around: int = 28) -> tuple[str, str]:
    """Return the place where `repair(text)`, which gave `rows`, first changes the text: as it is, and as it becomes.

    Of several rows on one line each row's beginning is what it becomes.
    """
    if len(rows) > 1:
        begins = [shown(json.dumps(row, ensure_ascii=False), 2 * around) for row in rows[:4]]
        return excerpt(text, 0, 4 * around), " ¶ ".join(begins + ["…"] * (len(rows) > 4))
    mended = _mend(text.lstrip("\ufeff")) or ""
    skipped = len(text) - len(text.lstrip("\ufeff"))
    old, new = skipped, 0
    while old < len(text) and new < len(mended):
        if text[old] == mended[new]:
            new += 1
        elif not text[old].isspace() or mended[new] == "\\":
            break  # white space between tokens is left out too, but that is no change to show
        old += 1
    old = old if skipped == 0 else 0
    start = max(0, old - around)
    before = text[start : old + around]
    after = text[max(start, skipped) : old] + mended[new if old else 0 :][:around]
    cut = "…" if start else ""
    return (
        cut + shown(before, 2 * around) + "…" * (old + around < len(text)),
        cut + shown(after, 2 * around) + "…" * (new + around < len(mended)),
    )


def _mend(text: str) -> str | None:
    """Return the text's tokens written as JSON, without white space; None for what is no token at all."""
    out: list[str] = []
    kinds: list[str] = []  # of `out`: value, open, close, comma, colon
    place = 0
    depth = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            return None
        place = match.end()
        name, token = match.lastgroup, match.group()
        if name in ("space", "comment"):
            continue
        if name in ("open", "close", "comma", "colon"):
            kind, written = str(name), token
            depth += {"open": 1, "close": -1}.get(kind, 0)
        else:
            value = _value(str(name), token, text, place)
            if value is None:
                return None
            kind, written = "value", value
        if kind == "close" and kinds and kinds[-1] == "comma":
            out.pop()
            kinds.pop()
        if kinds and kinds[-1] in _VALUE_ENDS and kind in _VALUE_STARTS and (depth > (kind == "open")):
            if not _may_lack_comma(text, match.start()):
                return None
            out.append(",")
            kinds.append("comma")
        out.append(written)
        kinds.append(kind)
    while kinds and kinds[-1] == "comma":
        out.pop()
        kinds.pop()
    return "".join(out) if depth == 0 else None


def _may_lack_comma(text: str, start: int) -> bool:
    """Two values side by side: a comma was forgotten only where something separates them.

    `"say "no" loud"` has values side by side too, but there a text's own quotation marks are at fault.
    """
    return start > 0 and (text[start - 1].isspace() or text[start - 1] in "]}")


def _value(name: str, token: str, text: str, end: int) -> str | None:
    if name == "double":
        return _string(token[1:-1])
    if name in ("single", "curly"):
        return _string(token[1:-1].replace("\\'", "'"), single=True)
    if name == "number":
        plain = token.replace("_", "").removeprefix("+")
        plain = f"0{plain}" if plain.startswith(".") else plain
        return plain + "0" if plain.endswith(".") else plain
    if name == "notnumber":
        return "null"
    if token in _WORDS:
        return _WORDS[token]
    return json.dumps(token) if text[end : end + 16].lstrip().startswith(":") else None


def _string(inner: str, single: bool = False) -> str:
    """Return a string's inside as a JSON string: raw control characters escaped, lone backslashes doubled."""
    pieces, place = [], 0
    for match in re.finditer(r'\\.?|"|[\x00-\x1f]', inner, re.DOTALL):
        pieces.append(inner[place : match.start()])
        found = match.group()
        place = match.end()
        if found == '"':
            pieces.append('\\"' if single else found)
        elif found[0] == "\\":
            whole = _GOOD_ESCAPE.match(inner, match.start())
            if whole:
                pieces.append(found)
            else:
                pieces.append("\\\\")
                place = match.start() + 1
        else:
            pieces.append(json.dumps(found)[1:-1])
    pieces.append(inner[place:])
    return f'"{"".join(pieces)}"'
