"""A tokenizer of the model type Unigram: what tokenizer.json says of it, and cutting text into its tokens.

A text's tokens are those whose scores have the greatest sum. `UnigramModel` finds them as `tokenizers` (Rust) does, to
the last bit of every sum: "aaa" is "a" + "aa" or "aa" + "a", and which of the two it is hangs on how the sums round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lora_lab.errors import ModelError

MAX_SCORE = 1e30  # of either sign: sums of more than these would not be finite
_UNKNOWN_PENALTY = 10.0  # an unknown character costs this much more than the worst token
_POWERS = [float(f"1e{power}") for power in range(25)]
_CACHED_WORDS = 50_000
_CACHED_LENGTH = 64  # characters; longer pieces seldom come twice


def is_unigram(tokenizer_json: Mapping[str, Any]) -> bool:
    """Whether the tokenizer's model is of the type Unigram."""
    model = tokenizer_json.get("model")
    return isinstance(model, dict) and model.get("type") == "Unigram"


def unigram_problems(model: Mapping[str, Any]) -> list[str]:
    """Return all that is wrong with a Unigram model."""
    vocab, unknown = model.get("vocab"), model.get("unk_id")
    if not isinstance(vocab, list) or not vocab:
        found = "an empty list" if vocab == [] else type(vocab).__name__
        return [f"model.vocab is {found}; wanted a list of pairs, each a token and its score"]
    problems = []
    broken = [number for number, entry in enumerate(vocab) if not _is_scored(entry)]
    if broken:
        more = f" and {len(broken) - 1} more like it" if len(broken) > 1 else ""
        found = str(vocab[broken[0]])[:80]
        problems.append(
            f"model.vocab[{broken[0]}] is {found}{more}; wanted a token and its score, a finite number up to 1e30"
        )
    if type(unknown) is not int or not 0 <= unknown < len(vocab):
        problems.append(f"model.unk_id is {unknown!r}; wanted the unknown token's number, 0 to {len(vocab) - 1}")
    if type(model.get("byte_fallback", False)) is not bool:
        problems.append(f"model.byte_fallback is {model['byte_fallback']!r}; wanted true or false")
    return problems


def unigram_tokens(model: Mapping[str, Any]) -> list[str]:
    """Return the tokens of a Unigram model by their numbers. Raises ModelError naming all that is wrong with it."""
    if problems := unigram_problems(model):
        raise ModelError("tokenizer.json: " + "; ".join(problems))
    return [entry[0] for entry in model["vocab"]]


def _is_scored(entry: Any) -> bool:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], str):
        return False
    return type(entry[1]) in (int, float) and abs(entry[1]) <= MAX_SCORE  # NaN is not less either


def rust_number(value: float) -> float:
    """Return the number that `tokenizers` reads where tokenizer.json says `value`: one of seven is a bit beside it.

    Its reader of JSON takes all digits as one whole number and divides that by a power of ten; both round.
    """
    digits, _, power = repr(abs(float(value))).partition("e")
    whole, _, fraction = digits.partition(".")
    number, exponent = float(int(whole + fraction)), int(power or 0) - len(fraction)
    if -len(_POWERS) < exponent <= 0:
        return math.copysign(number / _POWERS[-exponent], value)
    while exponent < -308:
        number, exponent = number / 1e308, exponent + 308
    number = number / float(f"1e{-exponent}") if exponent < 0 else number * float(f"1e{exponent}")
    return math.copysign(number, value)


class UnigramModel:
    """Cuts pieces of text, as the pre-tokenizer leaves them, into tokens."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        """Take a model that `unigram_tokens` found nothing wrong with."""
        tokens = [token for token, _ in model["vocab"]]
        scores = [rust_number(score) for _, score in model["vocab"]]
        self._ids = {token: token_id for token_id, token in enumerate(tokens)}  # of equal ones the last counts
        self._scores = {token: scores[token_id] for token, token_id in self._ids.items()}
        self._unknown_id: int = model["unk_id"]
        self._unknown_score = min(scores) - _UNKNOWN_PENALTY
        # How long the tokens are, in characters and rising, that begin with these two characters.
        lengths: dict[str, set[int]] = {}
        for token in self._ids:
            lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {start: tuple(sorted(found - {0, 1})) for start, found in lengths.items()}
        has_bytes = model.get("byte_fallback", False)
        self._byte_ids = [self._ids.get(f"<0x{byte:02X}>") if has_bytes else None for byte in range(256)]
        self._cache: dict[str, list[int]] = {}

    def __call__(self, piece: str) -> list[int]:
        """Return a piece's tokens."""
        ids = self._cache.get(piece)
        if ids is None:
            ids = [token_id for part in self._parts(piece) for token_id in self._numbers(part)]
            if len(piece) <= _CACHED_LENGTH:
                if len(self._cache) >= _CACHED_WORDS:
                    self._cache.clear()
                self._cache[piece] = ids
        return ids

    def _numbers(self, part: str) -> list[int]:
        token_id = self._ids.get(part)
        if token_id is not None:
            return [token_id]
        by_byte = [self._byte_ids[byte] for byte in part.encode("utf-8")]
        known = [found for found in by_byte if found is not None]
        return known if len(known) == len(by_byte) else [self._unknown_id]

    def _parts(self, piece: str) -> list[str]:
        """Return the texts of the best row of tokens; unknown characters that stand side by side are one."""
        size = len(piece)
        score_of, lengths_of, unknown_score = self._scores, self._lengths, self._unknown_score
        # For each place: the best sum of scores up to it, and where the last token of that row begins.
        best = [0.0] * (size + 1)
        begins = [-1] * (size + 1)
        unknown_ends = set()  # the places whose last token is an unknown character
        for start in range(size):
            here = best[start]
            single = score_of.get(piece[start])
            end = start + 1
            candidate = here + (unknown_score if single is None else single)
            if begins[end] < 0 or candidate > best[end]:
                best[end], begins[end] = candidate, start
                if single is None:
                    unknown_ends.add(end)
            for length in lengths_of.get(piece[start : start + 2], ()):
                end = start + length
                if end > size:
                    break
                score = score_of.get(piece[start:end])
                if score is not None:
                    candidate = here + score
                    if begins[end] < 0 or candidate > best[end]:
                        best[end], begins[end] = candidate, start
        return self._trace_back(piece, begins, unknown_ends)

    def _trace_back(self, piece: str, begins: list[int], unknown_ends: set[int]) -> list[str]:
        parts: list[str] = []
        end, unknown_end = len(piece), 0  # unknown_end: where a row of unknown characters ends, 0 outside of one
        while end > 0:
            start = begins[end]
            part = piece[start:end]
            # The unknown token may stand in the text by its name, too.
            if end in unknown_ends or self._ids[part] == self._unknown_id:
                unknown_end = unknown_end or end
            else:
                if unknown_end:
                    parts.append(piece[end:unknown_end])
                    unknown_end = 0
                parts.append(part)
            end = start
        if unknown_end:
            parts.append(piece[:unknown_end])
        return parts[::-1]
