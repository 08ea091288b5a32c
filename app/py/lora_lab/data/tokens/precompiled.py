"""The normalizer "Precompiled": SentencePiece's own table of replacements, as tokenizer.json carries it (base64).

The table is a trie of UTF-8 keys, Darts' double array, behind its size in bytes, then the replacements, each ending
in a zero. A unit of the trie is 32 bits: 0-7 the byte it stands for, 8 whether a key ends here, 9 whether the offset
counts by 256, 10-31 the offset to its children, by exclusive or. Where a replacement is stands in the child of byte 0.

`tokenizers` (Rust) looks up whole characters as one sees them (grapheme clusters) if they have less than six bytes, and
takes the shortest key that such a one begins with for all of it; what is not found so goes character by character. One
difference is left: © and ® before a zero width joiner and an emoji are one cluster with it there.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np

from lora_lab.data.tokens.grapheme_classes import CONTROLS, MARKS, PREPENDED
from lora_lab.errors import ModelError

_MAX_KEY_BYTES = 5  # longer keys stand in the table and are never asked for
_MAX_KEYS = 50_000  # SentencePiece's own have 12,000 of up to five bytes; a damaged trie may go in circles

# Clusters of two and more characters with less than six bytes. Parts of Korean syllables have three bytes each.
_HANGUL = (
    "[\u1100-\u115f\ua960-\ua97c]*[\u1160-\u11a7\ud7b0-\ud7c6\uac00-\ud7a3][\u1160-\u11ff\ud7b0-\ud7fb]*"
    "|[\u1100-\u115f\ua960-\ua97c]+|[\u11a8-\u11ff\ud7cb-\ud7fb]+"
)
_CLUSTER = re.compile(
    f"\r\n|[{PREPENDED}]+(?:{_HANGUL}|[^{CONTROLS}])?[{MARKS}]*|(?:{_HANGUL}|[^{CONTROLS}])[{MARKS}]+"
)


class Precompiled:
    """Replaces what a charsmap says."""

    def __init__(self, node: dict[str, Any]) -> None:
        """Raises ModelError when the normalizer's charsmap is damaged."""
        replacements = read_charsmap(node.get("precompiled_charsmap"))
        self._one = {ord(key): text for key, text in replacements.items() if len(key) == 1}
        self._more = {key: text for key, text in replacements.items() if len(key) > 1}

    def __call__(self, text: str) -> str:
        """Return the text with everything replaced."""
        if text.isascii() and "\r\n" not in text:
            return text.translate(self._one)
        pieces, end = [], 0
        for cluster in _CLUSTER.finditer(text):
            found = self._whole(cluster[0])
            if found is not None:
                pieces += [text[end : cluster.start()].translate(self._one), found]
                end = cluster.end()
        pieces.append(text[end:].translate(self._one))
        return "".join(pieces)

    def size_of_first(self, text: str) -> int:
        """Return how many characters Rust's library counts as what the text's first one has become."""
        place = old_size = 0
        new = ""
        while place < len(text) and not new:  # one that goes leaves its place to the next
            old_size, new = self._next(text, place)
            place += old_size
        if old_size > 1 or len(new) < 2:
            return min(len(new), 1)
        # … and one that goes behind takes the last character of the one before.
        return len(new) - (place < len(text) and not self._next(text, place)[1])

    def _next(self, text: str, place: int) -> tuple[int, str]:
        """Return how many characters are replaced together at a place, and by what."""
        cluster = _CLUSTER.match(text, place)
        found = self._whole(cluster[0]) if cluster else None
        if cluster and found is not None:
            return len(cluster[0]), found
        return 1, self._one.get(ord(text[place]), text[place])

    def _whole(self, cluster: str) -> str | None:
        if len(cluster.encode("utf-8")) >= 6:
            return None
        first = self._one.get(ord(cluster[0]))
        if first is not None:
            return first
        keys = (cluster[:length] for length in range(2, len(cluster) + 1))
        return next((self._more[key] for key in keys if key in self._more), None)


def read_charsmap(charsmap: Any) -> dict[str, str]:
    """Return the replacement of each key of up to five bytes. Raises ModelError when the charsmap is damaged."""
    if not isinstance(charsmap, str):
        raise _damaged(f"is {charsmap!r}, not text in base64")
    try:
        raw = base64.b64decode(charsmap, validate=True)
    except ValueError as error:
        raise _damaged(f"is not in base64 ({error})") from error
    size_bytes = int.from_bytes(raw[:4], "little")
    if len(raw) < 4 or not 0 < size_bytes <= len(raw) - 4 or size_bytes % 4:
        raise _damaged(f"holds {len(raw)} bytes, of which the trie shall be {size_bytes}")
    units = np.frombuffer(raw[4 : 4 + size_bytes], "<u4").astype(np.int64)
    keys, values = _walk(units)
    texts = raw[4 + size_bytes :]
    if values and max(values) > len(texts):
        raise _damaged(f"names a replacement at byte {max(values)} of {len(texts)}")
    try:
        texts.decode("utf-8")
        return {
            key.decode("utf-8"): texts[value : _end_of(texts, value)].decode("utf-8")
            for key, value in zip(keys, values, strict=True)
        }
    except UnicodeDecodeError as error:
        raise _damaged("holds what is no UTF-8") from error


def _end_of(texts: bytes, start: int) -> int:
    end = texts.find(b"\0", start)
    return end if end >= 0 else len(texts)


def _walk(units: np.ndarray) -> tuple[list[bytes], list[int]]:
    """Return the trie's short keys and, for each, the place of its replacement; one length after the other."""
    found_keys: list[bytes] = []
    found_values: list[int] = []
    every_byte = np.arange(1, 256)
    bases = np.array([_offsets(units[:1])[0]])
    keys = [b""]
    for _ in range(_MAX_KEY_BYTES):
        # One row for each node of this depth, one column for each byte that may come next.
        places = bases[:, None] ^ every_byte
        if places.size and places.max() >= len(units):
            raise _damaged("points beyond its trie's end")
        # A label with the highest bit set is a value, and no byte.
        rows, columns = np.nonzero((units[places] & 0x800000FF) == every_byte)
        if len(rows) > _MAX_KEYS:
            raise _damaged("holds more than any language needs")
        children = places[rows, columns]
        bases = children ^ _offsets(units[children])
        keys = [keys[row] + bytes([column + 1]) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
        for index in np.flatnonzero(units[children] & 0x100).tolist():
            if bases[index] >= len(units):
                raise _damaged("points beyond its trie's end")
            found_keys.append(keys[index])
            found_values.append(int(units[bases[index]]) & 0x7FFFFFFF)
    return found_keys, found_values


def _offsets(units: np.ndarray) -> np.ndarray:
    return (units >> 10) << ((units & 0x200) >> 6)


def _damaged(found: str) -> ModelError:
    return ModelError(f"tokenizer.json: precompiled_charsmap {found}; wanted a table as SentencePiece writes it")
