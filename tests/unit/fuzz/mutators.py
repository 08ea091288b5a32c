"""Spoiled bytes, texts and JSON values out of good ones, the same for the same seed."""

from __future__ import annotations

import json
import random
from typing import Any

_NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**70,
    10**30,
    10**400,
)
_FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, 1e30, float("nan"), float("inf"), float("-inf"))
_TEXTS = (
    "",
    " ",
    "\0",
    "a" * 3000,
    "\ud800",
    "\udcff",
    "\U0001f600",
    "\u202e",
    "\ufeff",
    "e\u0301",
    "\u212a",
    "../../x",
    "NaN",
    "null",
    "1e999",
    "{{",
    "{%",
    "<script>",
    "%s",
    "\\",
    '"',
    "\n",
    "\r\n",
    "\ufdd0",
    "__class__",
    "ａ",
    "\x1b[31m",
)
_BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff" * 8,
    b"\x80",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff\xfe\0\0",
    b"\x1f\x8b\x08",
    b"[" * 300,
    b'{"a":' * 300,
    b"1" * 5000,
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b",",
    b"]",
    b"}",
    b"{",
    b"[",
    b":",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"-",
    b"1e999",
    b"true",
    b"null",
    b"\t",
    b"'",
    b"\x7f\xff\xff\xff",
)


def spoil_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one to four places changed: flipped, cut, doubled, or something put in."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        # Most formats say at their beginning what follows: every second change is there.
        end = min(len(result), 64) if rng.random() < 0.3 else len(result)
        at = rng.randrange(end) if end else 0
        kind = rng.randrange(8)
        if kind == 0 and result:
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and result:
            result[at] = rng.randrange(256)
        elif kind == 2:
            del result[at:]
        elif kind == 3:
            del result[at : at + rng.choice((1, 2, 4, 8, 40))]
        elif kind == 4:
            size = rng.choice((1, 4, 16, 200))
            result[at:at] = result[at : at + size] * rng.choice((1, 1, 3))
        elif kind == 5:
            result[at:at] = rng.choice(_BYTES)
        elif kind == 6:
            some = rng.choice(_BYTES)
            result[at : at + len(some)] = some
        else:  # a length or an offset
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
            result[at : at + size] = number.to_bytes(size, "little")
    return bytes(result)


def some_json(rng: random.Random, depth: int = 0) -> Any:
    """Return a JSON value of any kind, odd ones above all."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(_NUMBERS[:-1]) * rng.choice((1, 1, -1))
    if kind == 2:
        return rng.choice(_FLOATS)
    if kind in (3, 4):
        return rng.choice(_TEXTS)
    if kind == 5:
        return [] if rng.random() < 0.5 else {}
    if kind == 6:
        return [some_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(_TEXTS)[:20]: some_json(rng, depth + 1) for _ in range(rng.randrange(4))}
    deep: Any = some_json(rng, 3)
    for _ in range(rng.choice((5, 60, 250))):
        deep = [deep] if rng.random() < 0.5 else {"type": "Sequence", "a": deep}
    return deep


def spoil_json(value: Any, rng: random.Random) -> Any:
    """Return the value with something else in one place, at any depth; the given one stays as it is."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        keys = list(value)
        key = rng.choice(keys)
        if rng.random() < 0.1:
            return {other: item for other, item in value.items() if other != key}
        if rng.random() < 0.1:
            return {**value, rng.choice(_TEXTS)[:20]: some_json(rng)}
        if rng.random() < 0.1:
            return {**value, key: value[rng.choice(keys)]}
        return {**value, key: spoil_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:at] + [value[at]] * rng.choice((0, 2, 30)) + value[at + 1 :]
        return [*value[:at], spoil_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.4:
        return spoil_text(value, rng)
    return some_json(rng)


def spoil_text(text: str, rng: random.Random, pieces: tuple[str, ...] = _TEXTS) -> str:
    """Return the text with one to three places changed; `pieces` are what may be put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(pieces) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.choice((1, 2, 10)) :]
        elif kind == 2:
            text = text[:at] + text[at:end] * rng.choice((0, 2, 2, 5)) + text[end:]
        else:
            text = text[:at] + rng.choice(pieces) + text[end:]
    return text


def json_bytes(value: Any, rng: random.Random) -> bytes:
    """Return a value's JSON, which is now and then spoiled once more as bytes."""
    try:
        data = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        data = b"{}"
    return spoil_bytes(data, rng) if rng.random() < 0.15 else data
