"""JSON that others wrote, read within bounds. The one place where `json.loads` sees a foreign text.

Python's own reader goes down one level of its stack for each bracket: natively a deep text is a RecursionError, in
WebAssembly it ends the interpreter without a word. So the depth is looked at first, in one pass without recursion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

# No model's files and no dataset nest deeper.
MAX_DEPTH = 200
# Each costs 50 bytes or more once it is read; a tokenizer.json of 262,144 tokens and their merges has 2 million.
MAX_VALUES = 6_000_000
_BLOCK_BYTES = 1 << 20
# Possessive: a string of megabytes must not be remembered character by character.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?+|[\[{]|[\]}]', re.DOTALL)


class JsonError(ValueError):
    """A text is no JSON, or JSON that is not read here. The message says why, without the file's name."""


def read_json(
    data: bytes | memoryview | str,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    *,
    strict: bool = True,
) -> Any:
    """Return the value of a JSON text (UTF-8, a byte-order mark is left out). Raises JsonError, and the hook's own.

    `strict=False` takes strings with line breaks and tabs in them.
    """
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: {error.reason} at byte {error.start:,}") from error
    values = 1 + text.count(",") + text.count("[") + text.count("{")
    if values > MAX_VALUES:
        raise JsonError(f"it may hold {values:,} values; wanted at most {MAX_VALUES:,}")
    if is_too_deep(text):
        raise JsonError(f"brackets are nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(text, object_pairs_hook=pairs_hook, strict=strict)
    except json.JSONDecodeError as error:
        raise JsonError(str(error)) from error
    except RecursionError as error:
        raise JsonError("brackets are nested too deeply") from error
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise JsonError("a number of thousands of digits") from error


def is_too_deep(text: str) -> bool:
    """Whether brackets are nested deeper than MAX_DEPTH. Costs next to nothing for a text that has few."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    return is_deep_from(text, 0, whole=True) if len(text) < 4096 else may_be_deep(text, sure=True)


def is_deep_from(text: str, start: int, whole: bool = False) -> bool:
    """Whether the value that begins at a character is nested deeper than MAX_DEPTH (`whole`: the text from there)."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first != '"':
            depth -= 1
            if depth <= 0 and not whole:
                return False
    return False


def may_be_deep(text: str, sure: bool = False) -> bool:
    """Whether a value that begins anywhere in the text could be nested deeper than MAX_DEPTH.

    Where the text is broken it is not known what is inside of strings: both ways are looked at. `sure`: the text begins
    with a value and is one; then only what Python's reader would see counts.
    """
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data:  # so that each quotation mark left begins or ends a string
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    parity = 0
    depths, lowest = [0, 0], [0, 0]
    for start in range(0, len(data), _BLOCK_BYTES):
        codes = np.frombuffer(data, np.uint8, min(_BLOCK_BYTES, len(data) - start), start)
        inside = (np.cumsum(codes == 0x22, dtype=np.uint8) + np.uint8(parity)) & 1
        parity = int(inside[-1])
        opens, closes = (codes == 0x5B) | (codes == 0x7B), (codes == 0x5D) | (codes == 0x7D)
        change = opens.astype(np.int8) - closes.astype(np.int8)
        for way in (0,) if sure else (0, 1):
            depth = np.cumsum(np.where(inside == way, change, 0), dtype=np.int32) + depths[way]
            below = np.minimum(np.minimum.accumulate(depth), lowest[way])
            if int((depth - below).max()) > MAX_DEPTH:
                return True
            depths[way], lowest[way] = int(depth[-1]), int(below[-1])
    return False
