"""A GGUF file's SentencePiece tokenizer (`tokenizer.ggml.model` = "llama") as parts of a tokenizer.json.

llama.cpp joins two neighbours whenever their text is a token, the pair with the highest score first and the leftmost
of equals. As byte-pair encoding that is: each way to cut a token into two tokens is a merge, in the order of the
tokens' scores. Spaces are spelled U+2581; a character without a token becomes its bytes, `<0xE2>`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SPACE = "\u2581"
_REPLACE_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


def read_scores(metadata: dict[str, Any], num_tokens: int) -> tuple[np.ndarray, list[str]]:
    """Return (V,) float64 scores, or the problem that stands in their way."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or scores.shape != (num_tokens,) or scores.dtype.kind not in "iuf":
        found = f"has {len(scores)} entries" if isinstance(scores, np.ndarray | list) else f"is {scores!r}"
        found = "is missing" if scores is None else found
        problem = f"tokenizer.ggml.scores {found}; wanted {num_tokens} numbers, one for each token"
        return np.zeros(0), [problem]
    return scores.astype(np.float64), []


def merges_by_score(tokens: list[str], scores: np.ndarray, normal: np.ndarray) -> list[str]:
    """Return the merges of a vocabulary, first first. `normal` (n,): the numbers of the tokens that merging may make.

    Tokens of other types are none of them: bytes and control tokens are never spelled out in a text, user-defined
    ones are cut out of it before.
    """
    order = normal[np.argsort(-scores[normal], kind="stable")].tolist()  # of equal scores the lower number first
    pieces = {tokens[token_id] for token_id in order}
    merges = []
    for token_id in order:
        token = tokens[token_id]
        for cut in range(1, len(token)):
            left = token[:cut]
            if left in pieces and token[cut:] in pieces:
                merges.append(f"{left} {token[cut:]}")
    return merges


def has_byte_tokens(vocab: dict[str, int]) -> bool:
    """Whether a character without a token of its own can be spelled in bytes."""
    return all(token in vocab for token in _BYTE_TOKENS)


def normalizer(prefix: bool) -> dict[str, Any]:
    """Spaces are spelled U+2581. With `prefix` each stretch of text begins with one (Llama yes, Gemma no)."""
    if not prefix:
        return _REPLACE_SPACE
    return {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, _REPLACE_SPACE]}


def decoder(prefix: bool) -> dict[str, Any]:
    """The way back: U+2581 to spaces, bytes to characters, and the first space away where one was put in front."""
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
