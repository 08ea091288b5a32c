"""A form of a tokenizer.json that the JavaScript library reads as the Rust library reads the given one.

`tokenizers` (Rust) is the standard. `@huggingface/tokenizers` 0.2.0 (JavaScript) differs from it when it encodes, and
`rewrite_for_javascript` puts equal parts in which both agree:

- `Digits` knows ASCII digits only; Rust's takes every numeric character (category N: ², ½, Ⅷ, ٣, …);
- `ByteLevel` with its own pattern uses JavaScript's `\\s`, which has U+FEFF too much and U+0085 too little;
- a byte that the vocabulary lacks (SmolLM2's lacks U+0004, U+001D and six more) is dropped before merging in Rust, so
  that its neighbours may merge, and after it in JavaScript;
- `Split` knows only what is cut out and what is left; where Rust joins a match to its neighbour or matches to one
  another, a pattern says so;
- `(?i:…)` knows ASCII's letters only; to Rust's a long s is an s and the Kelvin sign a k;
- `Metaspace` never splits, and knows nothing of how old files say `prepend_scheme`;
- NFC, and white space beside added tokens: done before, in Python (see javascript_text.py);
- other normalizers and pre-tokenizers, and added tokens that must be single words, are refused: no supported family
  uses them, and what they differ in is not known.

One difference is left. Added tokens that are `normalized` (old files of Llama 2's kind have such) are spelled with the
space in front in Rust; JavaScript takes one without it too when nothing else stands between two of them.

Decoding is done in Python for both hosts (see token_decoders.py), and all of Unigram in the browser (unigram_text.py).
"""

from __future__ import annotations

import re
from typing import Any

from lora_lab.data.tokens.javascript_text import split_normalizer
from lora_lab.data.tokens.token_decoders import metaspace_scheme
from lora_lab.data.tokens.token_table import missing_byte_characters
from lora_lab.errors import ModelError

# GPT-2's pattern with every class spelled out as a Unicode property.
_GPT2_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+"
    r"|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+"
)


def rewrite_for_javascript(tokenizer_json: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json for `@huggingface/tokenizers` that encodes as Rust does with the given one.

    It is for texts that `JavaScriptText` made ready.
    """
    rewritten = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **tokenizer_json}
    rewritten["added_tokens"] = [_rewrite_added(token) for token in tokenizer_json.get("added_tokens") or []]
    rewritten["normalizer"] = split_normalizer(rewritten["normalizer"])[1]
    rewritten["pre_tokenizer"] = _rewrite_pre_tokenizer(rewritten["pre_tokenizer"])
    missing = missing_byte_characters(tokenizer_json)
    if missing:
        pattern = "[" + "".join(f"\\u{{{ord(char):x}}}" for char in missing) + "]"
        drop = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
        rewritten["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [rewritten["pre_tokenizer"], drop]}
    return rewritten


def _rewrite_added(token: dict[str, Any]) -> dict[str, Any]:
    if token.get("single_word"):
        raise ModelError(f"the added token {token['content']!r} must be a single word; that is not supported")
    return {**token, "lstrip": False, "rstrip": False}


def _rewrite_pre_tokenizer(node: dict[str, Any] | None) -> dict[str, Any] | None:
    if node is None:
        return None
    kind = node.get("type")
    if kind == "Sequence":
        parts = [_rewrite_pre_tokenizer(part) for part in node.get("pretokenizers", [])]
        return {"type": "Sequence", "pretokenizers": parts}
    if kind == "Digits":
        return _isolated(r"\p{N}" if node.get("individual_digits") else r"\p{N}+")
    if kind == "ByteLevel" and node.get("use_regex", True) and not node.get("add_prefix_space"):
        plain = {**node, "use_regex": False, "add_prefix_space": False}
        return {"type": "Sequence", "pretokenizers": [_isolated(_GPT2_PATTERN), plain]}
    if kind == "ByteLevel" and node.get("use_regex", True):
        # The space in front comes first, then the pattern: no row of parts says that in JavaScript.
        raise ModelError("the tokenizer's ByteLevel has add_prefix_space: true besides its pattern; not supported")
    if kind == "Metaspace":
        return _rewrite_metaspace(node)
    if kind == "Split":
        return _rewrite_split(node)
    if kind != "ByteLevel":
        raise ModelError(f"the tokenizer's pre-tokenizer {kind!r} is not supported")
    return node


def _rewrite_metaspace(node: dict[str, Any]) -> dict[str, Any]:
    space = node.get("replacement", "\u2581")
    plain = {"type": "Metaspace", "replacement": space, "prepend_scheme": metaspace_scheme(node)}
    if not node.get("split", True):
        return plain
    words = _isolated(_joined(_escaped(space), "MergedWithNext"))
    return {"type": "Sequence", "pretokenizers": [plain, words]}


def _rewrite_split(node: dict[str, Any]) -> dict[str, Any]:
    pattern, behavior = node.get("pattern", {}), node.get("behavior")
    regex = _fold(pattern["Regex"]) if "Regex" in pattern else _escaped(pattern.get("String", ""))
    # What lies between the matches of an inverted pattern is what counts as match: it makes no odds for Isolated.
    if behavior == "Isolated" and regex:
        return _isolated(regex)
    if behavior == "Removed" and node.get("invert") and regex:
        return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True}
    if behavior in ("MergedWithPrevious", "MergedWithNext", "Contiguous") and not node.get("invert") and regex:
        return _isolated(_joined(regex, behavior))
    raise ModelError(f"the tokenizer splits in a way that is not supported: {str(node)[:200]}")


def _fold(regex: str) -> str:
    """Put the other letters that fold to an ASCII one beside it, in groups of plain words."""
    words = re.compile(r"(?<=\(\?i:)[^()\[\]{}\\]*(?=\))")
    return words.sub(lambda group: group[0].translate({ord("s"): "[s\u017f]", ord("k"): "[k\u212a]"}), regex)


def _joined(regex: str, behavior: str) -> str:
    """Return the pattern whose matches are the pieces: a match of `regex` and what Rust joins to it."""
    match, other = f"(?:{regex})", f"(?:(?!{regex})[\\s\\S])+"
    if behavior == "MergedWithPrevious":
        return f"{other}{match}?|{match}"
    if behavior == "MergedWithNext":
        return f"{match}?{other}|{match}"
    return f"{match}+|{other}"


def _escaped(text: str) -> str:
    return "".join(f"\\u{{{ord(char):x}}}" for char in text)


def _isolated(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
