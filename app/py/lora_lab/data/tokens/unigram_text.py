"""Text to the tokens of a Unigram tokenizer in Python, as `tokenizers` (Rust) does it: what the browser encodes with.

`@huggingface/tokenizers` 0.2.0 (JavaScript) cannot be brought to the same tokens by rewriting tokenizer.json: its
Unigram knows no `byte_fallback`, and it breaks ties otherwise, for it compares sums that have one score more and are
rounded once more. All of a text's way is here instead: added tokens, normalizer, pre-tokenizer, model, post-processor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lora_lab.data.tokens.normalizers import Normalizer
from lora_lab.data.tokens.token_decoders import metaspace_scheme
from lora_lab.data.tokens.token_table import WHITE_SPACE, flat_steps
from lora_lab.data.tokens.unigram import UnigramModel
from lora_lab.errors import ModelError

_BLANK = re.compile(f"[{WHITE_SPACE}]*")
_WORD = re.compile(f"[^{WHITE_SPACE}]+")
_TRAILING = re.compile(f"[{WHITE_SPACE}]*\\Z")

# A stretch of text and how many of its characters came of the whole text's first one, or the number of an added token.
_Piece = tuple[str, int] | int


class UnigramText:
    """A Unigram tokenizer."""

    def __init__(self, tokenizer_json: dict[str, Any]) -> None:
        """Take what a TokenTable was made from. Raises ModelError for steps that are damaged, or not supported."""
        self._model = UnigramModel(tokenizer_json["model"])
        self._normalizer = Normalizer(tokenizer_json.get("normalizer"))
        added = [token for token in tokenizer_json.get("added_tokens") or [] if token["content"]]
        self._as_written = _AddedTokens({t["content"]: t for t in added if not t.get("normalized")})
        self._normalized = _AddedTokens({self._normalizer(t["content"])[0]: t for t in added if t.get("normalized")})
        self._steps = _pre_tokenizer(tokenizer_json)
        self._before, self._behind = _around(tokenizer_json.get("post_processor"))

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the text's tokens."""
        ids: list[int] = []
        for piece in self._pieces(text):
            if isinstance(piece, int):
                ids.append(piece)
            else:
                for word in self._words(*piece):
                    ids += self._model(word)
        return [*self._before, *ids, *self._behind] if add_special_tokens else ids

    def _pieces(self, text: str) -> Iterator[_Piece]:
        for outer in self._as_written.split(text, 1):
            if isinstance(outer, int):
                yield outer
            else:
                normalized, first = self._normalizer(outer[0])
                yield from self._normalized.split(normalized, first if outer[1] else 0)

    def _words(self, text: str, first: int) -> list[str]:
        words = [text]
        for step in self._steps:
            if step["type"] == "WhitespaceSplit":
                words = [part for word in words for part in _WORD.findall(word)]
            else:
                words = [
                    part
                    for index, word in enumerate(words)
                    for part in _metaspace(step, word, first > 0 and index == 0)
                ]
        return words


class _AddedTokens:
    """Finds added tokens in a text, the longest at each place, with the white space that belongs to them."""

    def __init__(self, tokens: dict[str, dict[str, Any]]) -> None:
        single = [name for name, token in tokens.items() if token.get("single_word")]
        if single:
            raise ModelError(f"the added token {single[0]!r} must be a single word; that is not supported")
        self._tokens = {name: token for name, token in tokens.items() if name}
        names = sorted(map(re.escape, self._tokens), key=len, reverse=True)
        self._regex = re.compile("|".join(names)) if names else None

    def split(self, text: str, first: int) -> Iterator[_Piece]:
        """Part a text, `first` of whose characters came of the whole text's first one."""
        end = 0
        for found in self._regex.finditer(text) if self._regex else ():
            token = self._tokens[found[0]]
            start, stop = found.span()
            if token.get("lstrip"):
                blank = _TRAILING.search(text, end, start)
                start = blank.start() if blank else start
            if token.get("rstrip"):
                blank = _BLANK.match(text, stop)
                stop = blank.end() if blank else stop
            if end < start:
                yield text[end:start], max(0, first - end)
            yield token["id"]
            end = stop
        if end < len(text):
            yield text[end:], max(0, first - end)


def _pre_tokenizer(tokenizer_json: dict[str, Any]) -> list[dict[str, Any]]:
    steps = flat_steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers")
    for step in steps:
        if step.get("type") not in ("Metaspace", "WhitespaceSplit"):
            raise ModelError(
                f"the tokenizer's pre-tokenizer is {str(step)[:200]}; beside a Unigram model only Metaspace and "
                "WhitespaceSplit are supported"
            )
    # Where the text begins behind these hangs on how Rust's library keeps account of changed characters.
    others = {step["type"] for step in steps if step["type"] != "Metaspace"}
    others |= {step.get("type") for step in flat_steps(tokenizer_json.get("normalizer"), "normalizers")} & {"Prepend"}
    if others and any(step["type"] == "Metaspace" and metaspace_scheme(step) == "first" for step in steps):
        raise ModelError(
            f"the tokenizer's Metaspace has prepend_scheme 'first' beside {', '.join(sorted(others))}; wanted 'always' "
            "or 'never' there, or neither of the others"
        )
    return steps


def _metaspace(step: dict[str, Any], text: str, is_first: bool) -> list[str]:
    space, scheme = step.get("replacement", "\u2581"), metaspace_scheme(step)
    text = text.replace(" ", space)
    if not text.startswith(space) and (scheme == "always" or (scheme == "first" and is_first)):
        text = space + text
    if not step.get("split", True):
        return [text]
    begin, *words = text.split(space)
    return [*([begin] if begin else []), *(space + word for word in words)]


def _around(node: dict[str, Any] | None) -> tuple[list[int], list[int]]:
    """Return the tokens that the post-processor puts before and behind a text."""
    before: list[int] = []
    behind: list[int] = []
    for step in flat_steps(node, "processors"):
        if step.get("type") != "TemplateProcessing":
            raise ModelError(
                f"the tokenizer's post-processor {str(step)[:200]} is not supported; wanted TemplateProcessing"
            )
        left: list[int] = []
        right: list[int] = []
        side = left
        try:
            for item in step["single"]:
                if "Sequence" in item:
                    side = right
                else:
                    side += step["special_tokens"][item["SpecialToken"]["id"]]["ids"]
        except (KeyError, TypeError) as error:
            raise ModelError(f"the tokenizer's post-processor {str(step)[:200]} is damaged ({error!r})") from error
        before, behind = [*left, *before], [*behind, *right]
    return before, behind
