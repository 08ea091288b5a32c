"""tokenizer.json's normalizers in Python, each as `tokenizers` (Rust) does it: the browser's part for Unigram.

`@huggingface/tokenizers` (JavaScript) has another "Precompiled" (a fixed NFKC, whatever the table says), no "Nmt", and
a "Strip" of other white space.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lora_lab.data.tokens.precompiled import Precompiled
from lora_lab.data.tokens.token_table import WHITE_SPACE, flat_steps
from lora_lab.data.tokens.unicode_forms import nfc, nfkc
from lora_lab.errors import ModelError

# A step takes a text and how many of its characters came of the very first one (see Normalizer), and returns both.
_Step = Callable[[str, int], tuple[str, int]]

# SentencePiece's rules for machine translation: control characters go, white space becomes a space.
_NMT = dict.fromkeys((*range(1, 9), 11, *range(14, 32), 127, 143, 159)) | dict.fromkeys(
    (9, 10, 12, 13, 5760, *range(8203, 8208), 8232, 8233, 9601, 65279, 65533), " "
)
_NMT_REMOVED = "".join(chr(code) for code, new in _NMT.items() if new is None)
_LEADING, _TRAILING = re.compile(f"^[{WHITE_SPACE}]+"), re.compile(f"[{WHITE_SPACE}]+\\Z")

# What means the same to Rust's regular expressions and to Python's: plain characters and `\s`, each perhaps repeated.
_PLAIN_REGEX = re.compile(r"(?:(?:[^\\\[\](){}.*+?|^$&~#-]|\\s)(?:\+|\{[1-9]\d*(?:,\d*)?\})?(?![*+?{]))+")


class Normalizer:
    """All steps of a tokenizer's normalizer in a row."""

    def __init__(self, node: dict[str, Any] | None) -> None:
        """Raises ModelError for a step that is not supported, and for one that is damaged."""
        self._steps = [_make_step(step) for step in flat_steps(node, "normalizers")]

    def __call__(self, text: str) -> tuple[str, int]:
        """Return the normalized text, and how many characters at its beginning came of the given one's first.

        None may have: what Metaspace calls the first piece begins where the given text begins.
        """
        first = min(len(text), 1)
        for step in self._steps:
            text, first = step(text, first)
        return text, first


def _make_step(node: dict[str, Any]) -> _Step:
    kind = node.get("type")
    if kind == "Replace":
        return _replace(node)
    if kind == "Strip":
        return _strip(bool(node.get("strip_left")), bool(node.get("strip_right")))
    if kind == "Nmt":
        return _nmt
    if kind == "Prepend":
        prepended = str(node.get("prepend", ""))
        return lambda text, first: (prepended + text if text else "", first)
    if kind == "NFC":
        return lambda text, first: (nfc(text), first)
    if kind == "NFKC":
        return lambda text, first: (nfkc(text), len(nfkc(text[:first])))
    if kind == "Precompiled":
        replaced = Precompiled(node)
        return lambda text, first: (replaced(text), first and replaced.size_of_first(text))
    raise ModelError(f"the tokenizer's normalizer is not supported: {str(node)[:200]}")


def _nmt(text: str, first: int) -> tuple[str, int]:
    kept = text.lstrip(_NMT_REMOVED)
    return kept.translate(_NMT), max(0, first - (len(text) - len(kept)))


def _strip(left: bool, right: bool) -> _Step:
    def strip(text: str, first: int) -> tuple[str, int]:
        kept = _LEADING.sub("", text) if left else text
        return (_TRAILING.sub("", kept) if right else kept), max(0, first - (len(text) - len(kept)))

    return strip


def _replace(node: dict[str, Any]) -> _Step:
    pattern, content = node.get("pattern", {}), node.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        raise ModelError(f"the tokenizer's normalizer is {str(node)[:200]}; wanted a pattern and the content for it")
    if isinstance(pattern.get("String"), str) and pattern["String"]:
        regex = re.compile(re.escape(pattern["String"]))
    elif _PLAIN_REGEX.fullmatch(str(pattern.get("Regex", ""))):
        regex = re.compile(pattern["Regex"].replace(r"\s", f"[{WHITE_SPACE}]"))
    else:
        raise ModelError(
            f"the tokenizer's normalizer replaces {str(pattern)[:200]}; wanted a string, or plain characters and \\s "
            "with + or {2,} behind them; other patterns are not supported"
        )

    def replace(text: str, first: int) -> tuple[str, int]:
        found = regex.match(text)
        if found:
            # What is put in belongs to the last character that it is put in for.
            first = first - found.end() + len(content) if found.end() <= first else 0
        return regex.sub(lambda _: content, text), first

    return replace
