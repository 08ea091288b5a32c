"""What each kind of problem is called where people read it."""

from __future__ import annotations

_FILE_TITLES = {
    "empty-file": "Empty file",
    "not-json": "Not JSON",
    "binary": "Not a text file",
    "parquet": "Parquet is not read here",
    "gzip": "The gzip archive is not whole",
    "too-large": "Too large",
    "bom": "Byte-order mark",
    "crlf": "Windows line ends",
    "blank-lines": "Blank lines",
    "container": "Kind of file",
    "csv-header": "Column names",
    "few-rows": "Few rows",
    "mixed-formats": "Rows of different kinds",
    "no-template": "The model has no chat template",
}
_ROW_TITLES = {
    "encoding": "Not UTF-8",
    "csv-columns": "Too many or too few cells",
    "csv-quote": "A quotation mark left open",
    "csv": "A table that cannot be read",
    "trailing-comma": "A comma too many",
    "row-comma": "A comma behind the row",
    "extra-comma": "A comma without a row",
    "missing-comma": "A comma is missing",
    "single-quotes": "Single quotes",
    "unquoted-key": "A key without quotes",
    "python-literal": "Python’s True, False or None",
    "not-a-number": "NaN or Infinity",
    "comment": "A comment",
    "control-character": "A raw tab or line break",
    "bad-escape": "A lone backslash",
    "extra-data": "More than one row on a line",
    "duplicate-key": "The same key twice",
    "missing-colon": "A colon is missing",
    "unclosed": "Cut off before its end",
    "too-deep": "Nested too deeply",
    "huge-number": "A number too large",
    "not-an-object": "Not an object",
    "json": "Not JSON",
    "unknown-columns": "Columns of other names",
    "missing-key": "A part is missing",
    "wrong-type": "A value of the wrong type",
    "missing-role": "A turn without a role",
    "unknown-role": "Unknown role",
    "missing-content": "A turn without content",
    "empty-content": "Empty text",
    "no-assistant": "No assistant turn",
    "weight": "A weight other than 0 or 1",
    "half-character": "Half a character",
    "tools": "Tool calls",
    "media": "Pictures or other media",
    "preference": "Preference pairs",
    "repeated-role": "Two turns in a row by the same side",
    "no-last-answer": "No answer at the end",
    "late-system": "A system message in the middle",
    "template-applied": "Already in a chat template",
    "unknown-key": "Keys that are not read",
    "duplicate": "The same row again",
    "near-duplicate": "Nearly the same row again",
    "in-validation": "Also in the validation file",
    "template": "The chat template refuses it",
    "template-prefix": "The chat template rewrites earlier turns",
    "no-prompt": "Nothing before the answer",
    "nothing-to-train": "Nothing to train on",
    "too-long": "Too long",
    "special-token": "A special token in the text",
    "lost-bytes": "Characters the model cannot hold",
    "mask": "What is trained is not sure",
}
TITLES = {**_FILE_TITLES, **_ROW_TITLES}


def title_of(kind: str) -> str:
    """Return a kind of problem in a few words."""
    return TITLES.get(kind) or kind.replace("-", " ").capitalize()


def is_about_file(kind: str) -> bool:
    """Whether problems of this kind are about a file or all of them, so that their line says nothing."""
    return kind in _FILE_TITLES
