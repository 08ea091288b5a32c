"""tokenizer.json's decoders in Python, the same for both hosts: JavaScript's lose U+FEFF and count broken bytes
differently. Each one is what Rust's does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from lora_lab.errors import ModelError

Decoder = Callable[[list[str]], list[str]]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def make_decoder(node: dict[str, Any] | None) -> Decoder:
    """Return the step that turns tokens into pieces of text. Raises ModelError for one that is not supported."""
    kind = node.get("type") if node else None
    if node is None or kind == "Fuse":
        separator = "" if node else " "
        return lambda tokens: [separator.join(tokens)]
    if kind == "Sequence":
        steps = [make_decoder(part) for part in node.get("decoders", [])]
        return lambda tokens: functools.reduce(lambda pieces, step: step(pieces), steps, tokens)
    if kind == "ByteLevel":
        return lambda tokens: [b"".join(map(byte_level_bytes, tokens)).decode("utf-8", "replace")]
    if kind == "ByteFallback":
        return _decode_byte_fallback
    if kind == "Metaspace":
        space, prefixed = node.get("replacement", "\u2581"), metaspace_scheme(node) != "never"
        return lambda tokens: [
            token.replace(space, "" if prefixed and index == 0 else " ") for index, token in enumerate(tokens)
        ]
    if kind == "Replace" and "String" in node.get("pattern", {}):
        old, new = node["pattern"]["String"], node["content"]
        return lambda tokens: [token.replace(old, new) for token in tokens]
    if kind == "Strip":
        content, start, stop = node["content"], node["start"], node["stop"]
        return lambda tokens: [_strip(token, content, start, stop) for token in tokens]
    raise ModelError(f"the tokenizer's decoder {str(node)[:200]} is not supported")


def metaspace_scheme(node: dict[str, Any]) -> str:
    """Return when a Metaspace step puts a space in front: always, first or never; old files say it otherwise."""
    return node.get("prepend_scheme") or ("always" if node.get("add_prefix_space", True) else "never")


def token_spelling(decoder: dict[str, Any] | None) -> Callable[[str], bytes] | None:
    """Return what gives a token's bytes where tokens are text with another spelling of spaces, and bytes `<0xE2>`.

    None when what a token stands for depends on more than itself. That a decoder takes a space away at the very
    beginning does not matter: it is the one that encoding puts there.
    """
    if not decoder:
        return None
    steps = decoder.get("decoders", []) if decoder.get("type") == "Sequence" else [decoder]
    replacements: list[tuple[str, str]] = []
    byte_tokens = fused = False
    for step in steps:
        kind = step.get("type")
        if kind == "Metaspace":
            replacements.append((step.get("replacement", "\u2581"), " "))
            fused = True
        elif kind == "Replace" and len(step.get("pattern", {}).get("String", "")) == 1:
            replacements.append((step["pattern"]["String"], step["content"]))
        elif kind == "ByteFallback":
            byte_tokens = True
        elif kind == "Fuse":
            fused = True
        elif not (kind == "Strip" and (step["content"], step["start"], step["stop"]) == (" ", 1, 0) and fused):
            return None
    if not fused:
        return None

    def spelled(token: str) -> bytes:
        match = _BYTE_TOKEN.fullmatch(token) if byte_tokens else None
        if match:
            return bytes([int(match[1], 16)])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode("utf-8")

    return spelled


def byte_level_bytes(token: str) -> bytes:
    """Return the bytes of a token in GPT-2's spelling of bytes."""
    try:
        return bytes([BYTE_OF_CHAR[char] for char in token])
    except KeyError:  # a token that holds plain text
        return token.encode("utf-8")


def _decode_byte_fallback(tokens: list[str]) -> list[str]:
    pieces: list[str] = []
    pending = bytearray()
    for token in [*tokens, ""]:
        if match := _BYTE_TOKEN.fullmatch(token):
            pending.append(int(match[1], 16))
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


BYTE_OF_CHAR = _byte_characters()
