"""What a dataset says, counted without a tokenizer: turns, system prompts, scripts, rows that are (nearly) the same.

Kept of a row are two hashes and a signature of 96 bytes, so that 500,000 rows take 60 MB. Near duplicates are found by
MinHash: a signature holds, for each of 24 hash functions, the least hash of the row's shingles (16 bytes of lower-case
text from the beginning of a word on). Two signatures agree in about the share of shingles that the rows have in common
(Broder 1997); rows that agree in a band of 4 are compared (for 80 % in common that finds 96 of 100 pairs).
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lora_lab.data.rows.schema import Conversation, Row

NUM_HASHES, BAND = 24, 4
NEAR_SHARE = 0.8  # of the signature's hashes that near duplicates have in common
_SHINGLE_BYTES = 16
_BATCH_ROWS = 256
_SHINGLED_CHARACTERS = 20_000  # of a row; the rest of a longer one is not looked at
_MAX_SYSTEM_PROMPTS = 10_000
_SHOWN_EXAMPLES = 20
# A script that has only single letters here and there is rather a formula than a language.
_FAMILIES = {"CJK": "Han", "HIRAGANA": "Japanese kana", "KATAKANA": "Japanese kana", "HANGUL": "Hangul"}


@dataclass(frozen=True)
class Duplicates:
    """Rows that say the same as an earlier one: how many, and some of them as (line, line of the earlier one)."""

    count: int
    examples: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ContentReport:
    """What the good rows say. `turns` are messages by role; `system_prompts` (text, rows), the most frequent first."""

    turns: dict[str, int]
    turns_per_row_max: int
    system_prompts: tuple[tuple[str, int], ...]
    system_prompt_count: int  # different ones
    scripts: dict[str, int]  # rows with letters of it, by script
    exact_duplicates: Duplicates
    near_duplicates: Duplicates  # besides the exact ones
    characters: int


def row_key(row: Row) -> bytes:
    """Return 16 bytes that are the same for rows of the same content, whatever format they came in."""
    roles = [message.role for message in row.messages] if isinstance(row, Conversation) else ["text"]
    said = "\x1e".join((*roles, *row.texts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16).digest()


class ContentCounter:
    """Takes the good rows one by one, in the file's order."""

    def __init__(self) -> None:
        self._lines = array("q")
        self._keys = bytearray()
        self._signatures: list[np.ndarray] = []
        self._waiting: list[bytes] = []
        self._turns: Counter[str] = Counter()
        self._most_turns = 0
        self._systems: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()
        self._script_of: dict[str, str] = {}
        self._characters = 0
        self._built: ContentReport | None = None

    def add(self, row: Row) -> None:
        """Count a row."""
        self._built = None
        self._lines.append(row.line)
        self._keys += row_key(row)
        text = "\n".join(row.texts)
        self._characters += len(text)
        self._count_scripts(text)
        self._waiting.append(text[:_SHINGLED_CHARACTERS].lower().encode("utf-8", "replace"))
        if len(self._waiting) >= _BATCH_ROWS:
            self._sign()
        if isinstance(row, Conversation):
            self._most_turns = max(self._most_turns, len(row.messages))
            for message in row.messages:
                self._turns[message.role] += 1
            first = row.messages[0]
            if first.role == "system" and (first.content in self._systems or len(self._systems) < _MAX_SYSTEM_PROMPTS):
                self._systems[first.content] += 1

    def _count_scripts(self, text: str) -> None:
        found = set()
        if text.isascii():
            if text and not text.isspace():
                found.add("Latin")
        else:
            for char in set(text):
                script = self._script_of.get(char)
                if script is None:
                    script = self._script_of[char] = _script(char)
                found.add(script)
            found.discard("")
        self._scripts.update(found)

    def _sign(self) -> None:
        if self._waiting:
            self._signatures.append(signatures(self._waiting))
            self._waiting = []

    def build(self) -> ContentReport:
        """Return what was counted."""
        if self._built is None:  # it takes a second for 500,000 rows
            self._built = self._build()
        return self._built

    def _build(self) -> ContentReport:
        self._sign()
        exact = _exact_firsts(self._keys)
        near = _near_firsts(np.concatenate(self._signatures), exact) if self._signatures else exact
        return ContentReport(
            turns=dict(self._turns),
            turns_per_row_max=self._most_turns,
            system_prompts=tuple((text[:500], count) for text, count in self._systems.most_common(_SHOWN_EXAMPLES)),
            system_prompt_count=len(self._systems),
            scripts=dict(self._scripts.most_common()),
            exact_duplicates=self._duplicates(exact),
            near_duplicates=self._duplicates(np.where(exact >= 0, -1, near)),
            characters=self._characters,
        )

    def _duplicates(self, firsts: np.ndarray) -> Duplicates:
        places = np.flatnonzero(firsts >= 0)
        pairs = ((self._lines[place], self._lines[firsts[place]]) for place in places[:_SHOWN_EXAMPLES].tolist())
        return Duplicates(len(places), tuple(pairs))


def _script(char: str) -> str:
    """Return the script of a letter, "" for anything else; Unicode names begin with it."""
    if not char.isalpha():
        return ""
    word = unicodedata.name(char, "").partition(" ")[0].partition("-")[0]
    if word in ("", "FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "MODIFIER", "MICRO", "FEMININE", "MASCULINE", "DOUBLE"):
        return ""
    return _FAMILIES.get(word, word.title())


def _exact_firsts(keys: bytearray) -> np.ndarray:
    """Return (N,) int64: for each row the first one with the same key if that is another, else -1."""
    pairs = np.frombuffer(bytes(keys), np.uint64).reshape(-1, 2)
    order = np.lexsort((np.arange(len(pairs)), pairs[:, 1], pairs[:, 0]))
    return _group_firsts(order, (pairs[order][1:] == pairs[order][:-1]).all(axis=1))


def _group_firsts(order: np.ndarray, same_as_before: np.ndarray) -> np.ndarray:
    """`order` (N,) sorts rows so that equal ones stand together, by place; return each one's first, -1 for itself."""
    firsts = np.full(len(order), -1, np.int64)
    if len(order):
        starts = np.flatnonzero(np.concatenate([[True], ~same_as_before]))
        group = np.cumsum(np.concatenate([[True], ~same_as_before])) - 1
        first = order[starts[group]]
        firsts[order] = np.where(first == order, -1, first)
    return firsts


@functools.cache
def _odd_numbers() -> np.ndarray:
    """Return (NUM_HASHES + 2,) odd uint64, the same in each run. Not at import: numpy.random is slow to load."""
    random = np.random.default_rng(20240117)
    return random.integers(1, 1 << 63, (NUM_HASHES + 2,), np.uint64) * np.uint64(2) + np.uint64(1)


def signatures(texts: list[bytes]) -> np.ndarray:
    """Return the MinHash signatures (N, NUM_HASHES) uint32 of lower-case texts. One of no shingle gets zeros."""
    padding = b" " + b"\0" * _SHINGLE_BYTES
    data = np.frombuffer(b" " + b"".join(text + padding for text in texts), np.uint8)
    sizes = np.array([len(text) + len(padding) for text in texts])
    row_of = np.repeat(np.arange(len(texts)), sizes)
    # A word begins behind white space; Chinese and Japanese have none, there each character begins one.
    body, before = data[1:], data[:-1]
    starts = np.flatnonzero(((before <= 0x20) & (body > 0x20)) | (body >= 0xE3))
    result = np.zeros((len(texts), NUM_HASHES), np.uint32)
    if not len(starts):
        return result
    windows = body[np.minimum(starts[:, None] + np.arange(_SHINGLE_BYTES), len(body) - 1)]
    words = np.ascontiguousarray(windows).view(np.uint64)
    odd = _odd_numbers()
    base = words[:, 0] * odd[-1] ^ ((words[:, 1] + np.uint64(0x9E3779B97F4A7C15)) * odd[-2])
    base ^= base >> np.uint64(29)
    rows, firsts = np.unique(row_of[starts], return_index=True)
    for number in range(NUM_HASHES):
        hashed = (base * odd[number]) >> np.uint64(32)
        result[rows, number] = np.minimum.reduceat(hashed, firsts).astype(np.uint32)
    return result


def _near_firsts(signs: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return (N,) int64: an earlier row that is nearly the same, else -1."""
    nearest = np.full(len(signs), -1, np.int64)
    has_text = signs.any(axis=1)
    for start in range(0, NUM_HASHES, BAND):
        band = np.ascontiguousarray(signs[:, start : start + BAND]).view(np.uint64)
        order = np.lexsort((np.arange(len(signs)), band[:, 1], band[:, 0]))
        firsts = _group_firsts(order, (band[order][1:] == band[order][:-1]).all(axis=1))
        open_ = np.flatnonzero((firsts >= 0) & (nearest < 0) & (exact < 0) & has_text)
        for part in np.array_split(open_, max(1, len(open_) // 50_000)):
            share = (signs[part] == signs[firsts[part]]).mean(axis=1)
            alike = part[share >= NEAR_SHARE]
            nearest[alike] = firsts[alike]
    return nearest
