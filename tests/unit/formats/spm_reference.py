"""llama.cpp's SentencePiece tokenizer, written down once more and plainly: what our tokenizer.json must equal."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

SPACE = "\u2581"


class LlamaCppTokenizer:
    """`tokenize` of llama-vocab.cpp for `tokenizer.ggml.model` = "llama", special tokens in the text taken as such."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        tokens = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._scores = metadata["tokenizer.ggml.scores"].tolist()
        special = [tokens[index] for index in np.flatnonzero(np.isin(types, (2, 3, 4))).tolist()]
        self._special = sorted(special, key=lambda token: len(token.encode()), reverse=True)
        self._prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)

    def encode(self, text: str) -> list[int]:
        parts: list[str | int] = [text] if text else []
        for token in self._special:
            if token in text:
                parts = [piece for part in parts for piece in self._cut(part, token)]
        ids: list[int] = []
        fresh = True
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._merge((" " + part if self._prefix and fresh else part).replace(" ", SPACE))
            fresh = isinstance(part, int)
        return ids

    def _cut(self, part: str | int, token: str) -> list[str | int]:
        if isinstance(part, int):
            return [part]
        pieces: list[str | int] = []
        for index, piece in enumerate(part.split(token)):
            pieces += ([self._ids[token]] if index else []) + ([piece] if piece else [])
        return pieces

    def _merge(self, text: str) -> list[int]:
        symbols = list(text)
        before = list(range(-1, len(symbols) - 1))
        behind = [*range(1, len(symbols)), -1]
        queue: list[tuple[float, int, int, int]] = []

        def try_pair(left: int, right: int) -> None:
            if left >= 0 and right >= 0 and (index := self._ids.get(symbols[left] + symbols[right])) is not None:
                size = len(symbols[left]) + len(symbols[right])
                heapq.heappush(queue, (-self._scores[index], left, right, size))

        for right in range(1, len(symbols)):
            try_pair(right - 1, right)
        while queue:
            _, left, right, size = heapq.heappop(queue)
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != size:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            behind[left] = behind[right]
            if behind[right] >= 0:
                before[behind[right]] = left
            try_pair(before[left], left)
            try_pair(left, behind[left])
        ids: list[int] = []
        for symbol in filter(None, symbols):
            known = self._ids.get(symbol)
            ids += [known] if known is not None else [self._ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        return ids
