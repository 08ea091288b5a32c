"""What can be known from a tokenizer.json itself: its tokens, and a form of it that the JavaScript library reads alike.

`tokenizers` (Rust) is the standard. `@huggingface/tokenizers` 0.2.0 (JavaScript) differs from it in three places,
and `rewrite_for_javascript` replaces those by equal parts in which both agree:

- `Digits` knows ASCII digits only; Rust's takes every numeric character (category N: ², ½, Ⅷ, ٣, …);
- `ByteLevel` with its own pattern uses JavaScript's `\\s`, which has U+FEFF too much and U+0085 too little;
- `Split` on a string, and a pattern that is inverted, are read differently: those are refused, as no Llama uses them.
"""

from __future__ import annotations

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

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes that a token of a byte-level tokenizer stands for (b"" for an unknown number)."""
        token = self.tokens[token_id] if 0 <= token_id < self.vocab_size else None
        if token is None:
            return b""
        if token_id not in self.added_ids:
            try:
                return bytes([_BYTE_OF_CHAR[char] for char in token])
            except KeyError:  # a token that holds plain text, as Rust's decoder takes it
                pass
        return token.encode("utf-8")

    def sizes_bytes(self) -> np.ndarray:
        """Return (V,) int32: how many bytes of text each token of a byte-level tokenizer covers."""
        return np.array([len(self.token_bytes(token_id)) for token_id in range(self.vocab_size)], np.int32)


def _is_byte_level(tokenizer_json: dict[str, Any]) -> bool:
    """Whether the tokens' bytes, joined, are the text's bytes: byte-level, nothing normalised, nothing put in front."""
    pre_tokenizer = tokenizer_json.get("pre_tokenizer") or {}
    parts = pre_tokenizer.get("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    byte_level = [part for part in parts or [] if part.get("type") == "ByteLevel"]
    strips = any(token.get("lstrip") or token.get("rstrip") for token in tokenizer_json.get("added_tokens") or [])
    changes = strips or tokenizer_json.get("normalizer") or any(part.get("add_prefix_space") for part in byte_level)
    return bool(byte_level) and not changes


def _byte_characters() -> dict[str, int]:
    """GPT-2's table: the printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHAR = _byte_characters()
