"""What can be known from a tokenizer.json itself: its tokens, and a form of it that the JavaScript library reads alike.

`tokenizers` (Rust) is the standard. `@huggingface/tokenizers` 0.2.0 (JavaScript) differs from it when it encodes, and
`rewrite_for_javascript` puts equal parts in which both agree:

- `Digits` knows ASCII digits only; Rust's takes every numeric character (category N: ², ½, Ⅷ, ٣, …);
- `ByteLevel` with its own pattern uses JavaScript's `\\s`, which has U+FEFF too much and U+0085 too little;
- a byte that the vocabulary lacks (SmolLM2's lacks U+0004, U+001D and six more) is dropped before merging in Rust, so
  that its neighbours may merge, and after it in JavaScript;
- `Split` on a string, and a pattern that is inverted, are read differently: those are refused, as no Llama uses them.

Decoding is done here for both hosts: JavaScript's loses U+FEFF and counts broken bytes differently.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lora_lab.errors import ModelError

# GPT-2's pattern with every class spelled out as a Unicode property.
_GPT2_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+"
    r"|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+"
)


def rewrite_for_javascript(tokenizer_json: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json for `@huggingface/tokenizers` that encodes as Rust does with the given one."""
    rewritten = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **tokenizer_json}
    rewritten["added_tokens"] = tokenizer_json.get("added_tokens") or []
    rewritten["pre_tokenizer"] = _rewrite_pre_tokenizer(rewritten["pre_tokenizer"])
    missing = _missing_byte_characters(tokenizer_json)
    if missing:
        pattern = "[" + "".join(f"\\u{{{ord(char):x}}}" for char in missing) + "]"
        drop = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
        rewritten["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [rewritten["pre_tokenizer"], drop]}
    return rewritten


def _rewrite_pre_tokenizer(node: dict[str, Any] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    kind = node.get("type")
    if kind == "Sequence":
        parts = [_rewrite_pre_tokenizer(part) for part in node.get("pretokenizers", [])]
        return {"type": "Sequence", "pretokenizers": parts}
    if kind == "Digits":
        return _split(r"\p{N}" if node.get("individual_digits") else r"\p{N}+")
    if kind == "ByteLevel" and node.get("use_regex", True) and not node.get("add_prefix_space"):
        plain = {**node, "use_regex": False, "add_prefix_space": False}
        return {"type": "Sequence", "pretokenizers": [_split(_GPT2_PATTERN), plain]}
    if kind == "ByteLevel" and node.get("use_regex", True):
        # The space in front comes first, then the pattern: no row of parts says that in JavaScript.
        raise ModelError("the tokenizer's ByteLevel has add_prefix_space: true besides its pattern; not supported")
    plain_split = "Regex" in node.get("pattern", {}) and node.get("behavior") == "Isolated" and not node.get("invert")
    if kind == "Split" and not plain_split:
        raise ModelError(f"the tokenizer splits in a way that is not supported: {str(node)[:200]}")
    if kind not in ("ByteLevel", "Split", "Metaspace"):
        raise ModelError(f"the tokenizer's pre-tokenizer {kind!r} is not supported")
    return node


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


class TokenTable:
    """The tokens of a tokenizer.json: names, numbers, special ones, and each token's bytes if it is byte-level."""

    def __init__(self, tokenizer_json: dict[str, Any]) -> None:
        """Raises ModelError when it is no BPE tokenizer with a vocabulary."""
        model = tokenizer_json.get("model") or {}
        vocabulary = model.get("vocab")
        if model.get("type", "BPE") != "BPE" or not isinstance(vocabulary, dict) or not vocabulary:
            raise ModelError(f"the tokenizer's model is {model.get('type')!r}; only BPE with a vocabulary is supported")
        added = tokenizer_json.get("added_tokens") or []
        self.token_ids: dict[str, int] = {**vocabulary, **{token["content"]: token["id"] for token in added}}
        self.vocab_size = max(self.token_ids.values()) + 1
        self.tokens: list[str | None] = [None] * self.vocab_size
        for token, token_id in self.token_ids.items():
            self.tokens[token_id] = token
        self.added_ids = frozenset(token["id"] for token in added)
        self.special_ids = frozenset(token["id"] for token in added if token.get("special"))
        self.is_byte_level = _is_byte_level(tokenizer_json)
        missing = {_BYTE_OF_CHAR[char] for char in _missing_byte_characters(tokenizer_json)}
        self._kept_bytes = bytes(byte for byte in range(256) if byte not in missing)
        self._decode = _make_decoder(tokenizer_json.get("decoder"))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD. Unknown numbers give nothing."""
        if self.is_byte_level:
            return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        tokens = [self.tokens[token_id] for token_id in ids if 0 <= token_id < self.vocab_size]
        return "".join(self._decode([token for token in tokens if token is not None]))

    def lost_bytes(self, text: str) -> bytes:
        """Return the bytes of a text for which the vocabulary has no token, and which encoding therefore drops."""
        return text.encode("utf-8").translate(None, self._kept_bytes)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes that a token of a byte-level tokenizer stands for (b"" for an unknown number)."""
        token = self.tokens[token_id] if 0 <= token_id < self.vocab_size else None
        if token is None:
            return b""
        if token_id not in self.added_ids:
            return _byte_level_bytes(token)
        return token.encode("utf-8")

    def sizes_bytes(self) -> np.ndarray:
        """Return (V,) int32: how many bytes of text each token of a byte-level tokenizer covers."""
        return np.array([len(self.token_bytes(token_id)) for token_id in range(self.vocab_size)], np.int32)


def _byte_level_parts(tokenizer_json: dict[str, Any]) -> list[dict[str, Any]]:
    pre_tokenizer = tokenizer_json.get("pre_tokenizer") or {}
    parts = pre_tokenizer.get("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    return [part for part in parts or [] if part.get("type") == "ByteLevel"]


def _is_byte_level(tokenizer_json: dict[str, Any]) -> bool:
    """Whether the tokens' bytes, joined, are the text's bytes: byte-level, nothing normalised, nothing put in front."""
    byte_level = _byte_level_parts(tokenizer_json)
    strips = any(token.get("lstrip") or token.get("rstrip") for token in tokenizer_json.get("added_tokens") or [])
    changes = strips or tokenizer_json.get("normalizer") or any(part.get("add_prefix_space") for part in byte_level)
    return bool(byte_level) and not changes


def _missing_byte_characters(tokenizer_json: dict[str, Any]) -> list[str]:
    """Return the characters (in GPT-2's spelling of bytes) that the vocabulary lacks and nothing stands in for."""
    model = tokenizer_json["model"]
    if model.get("unk_token") is not None or not _byte_level_parts(tokenizer_json):
        return []
    return [char for char in _BYTE_OF_CHAR if char not in model["vocab"]]


_Decoder = Callable[[list[str]], list[str]]


def _make_decoder(node: dict[str, Any] | None) -> _Decoder:
    """Return the step that turns tokens into pieces of text. Raises ModelError for one that is not supported."""
    kind = node.get("type") if node else None
    if node is None or kind == "Fuse":
        separator = "" if node else " "
        return lambda tokens: [separator.join(tokens)]
    if kind == "Sequence":
        steps = [_make_decoder(part) for part in node.get("decoders", [])]
        return lambda tokens: functools.reduce(lambda pieces, step: step(pieces), steps, tokens)
    if kind == "ByteLevel":
        return lambda tokens: [b"".join(map(_byte_level_bytes, tokens)).decode("utf-8", "replace")]
    if kind == "ByteFallback":
        return _decode_byte_fallback
    if kind == "Replace" and "String" in node.get("pattern", {}):
        old, new = node["pattern"]["String"], node["content"]
        return lambda tokens: [token.replace(old, new) for token in tokens]
    if kind == "Strip":
        content, start, stop = node["content"], node["start"], node["stop"]
        return lambda tokens: [_strip(token, content, start, stop) for token in tokens]
    raise ModelError(f"the tokenizer's decoder {str(node)[:200]} is not supported")


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF_CHAR[char] for char in token])
    except KeyError:  # a token that holds plain text
        return token.encode("utf-8")


def _decode_byte_fallback(tokens: list[str]) -> list[str]:
    pieces: list[str] = []
    pending = bytearray()
    for token in [*tokens, ""]:
        if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
            pending.append(int(token[3:5], 16))
            continue
        if pending:
            try:
                pieces.append(pending.decode("utf-8"))
            except UnicodeDecodeError:
                pieces.append("\ufffd" * len(pending))  # one a byte, as Rust's decoder does
            pending.clear()
        pieces.append(token)
    return pieces


def _strip(token: str, content: str, start: int, stop: int) -> str:
    while start > 0 and token.startswith(content):
        token, start = token[len(content) :], start - 1
    while stop > 0 and token.endswith(content):
        token, stop = token[: -len(content)], stop - 1
    return token


def _byte_characters() -> dict[str, int]:
    """GPT-2's table: the printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHAR = _byte_characters()
