"""What can be known from a tokenizer.json itself: names, numbers, special tokens, and the bytes a token stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lora_lab.data.tokens.token_decoders import (
    BYTE_OF_CHAR,
    byte_level_bytes,
    make_decoder,
    metaspace_scheme,
    token_spelling,
)
from lora_lab.data.tokens.unigram import is_unigram, unigram_tokens
from lora_lab.errors import ModelError

# Unicode's White_Space, which is what Rust strips beside an added token (Python and JavaScript strip more and less).
WHITE_SPACE = "\t-\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
_BLANK = re.compile(
    rb"(?:[\t-\r ]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)*"
)


class TokenTable:
    """The tokens of a tokenizer.json, and each one's bytes where a token stands for the same ones everywhere."""

    def __init__(self, tokenizer_json: dict[str, Any]) -> None:
        """Raises ModelError when it is no BPE or Unigram tokenizer with a vocabulary, or a damaged one."""
        vocabulary = _vocabulary(tokenizer_json)
        added = tokenizer_json.get("added_tokens") or []
        self.token_ids: dict[str, int] = {**vocabulary, **{token["content"]: token["id"] for token in added}}
        self.vocab_size = max(self.token_ids.values()) + 1
        self.tokens: list[str | None] = [None] * self.vocab_size
        if is_unigram(tokenizer_json):  # two of its numbers may have one name
            pairs = tokenizer_json["model"]["vocab"]
            self.tokens[: len(pairs)] = [token for token, _ in pairs]
        for token, token_id in self.token_ids.items():
            self.tokens[token_id] = token
        self.added_ids = frozenset(token["id"] for token in added)
        self.special_ids = frozenset(token["id"] for token in added if token.get("special"))
        self._left_strips = frozenset(token["id"] for token in added if token.get("lstrip"))
        self._right_strips = frozenset(token["id"] for token in added if token.get("rstrip"))
        missing = {BYTE_OF_CHAR[char] for char in missing_byte_characters(tokenizer_json)}
        self._kept_bytes = bytes(byte for byte in range(256) if byte not in missing)
        self._is_byte_level = _is_byte_level(tokenizer_json)
        self._spelling = None if self._is_byte_level else token_spelling(tokenizer_json.get("decoder"))
        self._prefix = _prefix(tokenizer_json)
        # Whether the tokens' bytes, joined, are always the text's: then their number is proof enough.
        self._is_exact = self._is_byte_level and not (
            tokenizer_json.get("normalizer") or self._left_strips or self._right_strips
        )
        self._decode = make_decoder(tokenizer_json.get("decoder"))
        self._sizes_bytes: np.ndarray | None = None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD. Unknown numbers give nothing."""
        if self._is_byte_level:
            return self._joined_bytes(ids).decode("utf-8", "replace")
        tokens = [self.tokens[token_id] for token_id in ids if 0 <= token_id < self.vocab_size]
        return "".join(self._decode([token for token in tokens if token is not None]))

    def lost_bytes(self, text: str) -> bytes:
        """Return the bytes of a text for which the vocabulary has no token, and which encoding therefore drops."""
        return text.encode("utf-8").translate(None, self._kept_bytes)

    def token_bytes(self, token_id: int) -> bytes | None:
        """Return the UTF-8 bytes that a token stands for (b"" for an unknown number), a space in front included.

        None when that depends on more than the token.
        """
        spelling: Callable[[str], bytes] | None = byte_level_bytes if self._is_byte_level else self._spelling
        if spelling is None:
            return None
        token = self.tokens[token_id] if 0 <= token_id < self.vocab_size else None
        if token is None:
            return b""
        if self._is_byte_level and token_id in self.added_ids:
            return token.encode("utf-8")
        return spelling(token)

    def token_ends(self, text: str, ids: Sequence[int]) -> np.ndarray | None:
        """Return (T,) int64, the byte of the UTF-8 text at which each token ends; None when that cannot be told.

        A space that encoding puts in front has no place in the text, white space that an added token swallows is the
        token's.
        """
        if not self._is_byte_level and self._spelling is None:
            return None
        if self._sizes_bytes is None:
            sizes = (len(self.token_bytes(token_id) or b"") for token_id in range(self.vocab_size))
            self._sizes_bytes = np.fromiter(sizes, np.int32, self.vocab_size)
        ends = np.cumsum(self._sizes_bytes[np.asarray(ids, np.int64)], dtype=np.int64)
        data = text.encode("utf-8")
        if self._is_exact:
            # A post-processor that adds tokens of its own, or a lost character, would shift everything.
            return ends if (int(ends[-1]) if len(ends) else 0) == len(data) else None
        joined = self._joined_bytes(ids)
        if joined == data and not self._prefix:
            return ends
        return self._aligned_ends(data, ids)

    def _joined_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join([self.token_bytes(token_id) or b"" for token_id in ids])

    def _aligned_ends(self, data: bytes, ids: Sequence[int]) -> np.ndarray | None:
        ends = np.zeros(len(ids), np.int64)
        place = 0
        fresh = True  # at the beginning, or behind an added token: where encoding may put a space in front
        for index, token_id in enumerate(ids):
            piece = self.token_bytes(token_id) or b""
            is_added = token_id in self.added_ids
            if token_id in self._left_strips:
                place = _skip_blank(data, place)
            elif fresh and not is_added and self._has_prefix(data, place):
                if piece[:1] != b" ":
                    return None
                piece = piece[1:]
            if not data.startswith(piece, place):
                return None
            place += len(piece)
            if token_id in self._right_strips:
                place = _skip_blank(data, place)
            ends[index] = place
            fresh = is_added
        return ends if place == len(data) else None

    def _has_prefix(self, data: bytes, place: int) -> bool:
        if self._prefix == "prepend":
            return True
        # Metaspace leaves text alone that begins with a space.
        return bool(self._prefix) and (place == 0 or self._prefix == "always") and data[place : place + 1] != b" "


def _skip_blank(data: bytes, place: int) -> int:
    blank = _BLANK.match(data, place)
    return blank.end() if blank else place


def _vocabulary(tokenizer_json: dict[str, Any]) -> dict[str, int]:
    found = tokenizer_json.get("model")
    model = found if isinstance(found, dict) else {"type": None}
    kind, vocabulary = model.get("type", "BPE"), model.get("vocab")
    if kind == "Unigram":
        return {token: token_id for token_id, token in enumerate(unigram_tokens(model))}
    if kind != "BPE" or not isinstance(vocabulary, dict) or not vocabulary:
        raise ModelError(f"the tokenizer's model is {kind!r}; only BPE and Unigram with a vocabulary are supported")
    return vocabulary


def _prefix(tokenizer_json: dict[str, Any]) -> str:
    """Return when encoding puts a space in front of text: "prepend", as Metaspace ("always", "first"), "" for never."""
    for node in flat_steps(tokenizer_json.get("normalizer"), "normalizers"):
        if node.get("type") == "Prepend":
            return "prepend"
    for node in flat_steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers"):
        if node.get("type") == "Metaspace" and metaspace_scheme(node) != "never":
            return metaspace_scheme(node)
    return ""


def flat_steps(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the steps of a normalizer, pre-tokenizer or post-processor; `key` is where a Sequence has its own."""
    if not node:
        return []
    if node.get("type") != "Sequence":
        return [node]
    return [leaf for part in node.get(key) or [] for leaf in flat_steps(part, key)]


def byte_level_parts(tokenizer_json: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pre-tokenizer's steps that spell text in GPT-2's characters for bytes."""
    return [
        part
        for part in flat_steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers")
        if part.get("type") == "ByteLevel"
    ]


def _is_byte_level(tokenizer_json: dict[str, Any]) -> bool:
    """Whether the tokens are text in GPT-2's spelling of bytes, with nothing put in front and no other normalising than
    Unicode's.
    """
    byte_level = byte_level_parts(tokenizer_json)
    normalizers = flat_steps(tokenizer_json.get("normalizer"), "normalizers")
    changes = any(part.get("add_prefix_space") for part in byte_level)
    return bool(byte_level) and not changes and all(node.get("type") == "NFC" for node in normalizers)


def missing_byte_characters(tokenizer_json: dict[str, Any]) -> list[str]:
    """Return the characters (in GPT-2's spelling of bytes) that the vocabulary lacks and nothing stands in for."""
    model = tokenizer_json["model"]
    if is_unigram(tokenizer_json) or model.get("unk_token") is not None or not byte_level_parts(tokenizer_json):
        return []
    return [char for char in BYTE_OF_CHAR if char not in model["vocab"]]
