"""What an adapter has changed about a text: each token's probability with it and without it, and what else was likely.

Two passes over the text, each given the same tokens (teacher forcing). Logits are looked at a chunk of rows at a time,
of both passes together, so that each alternative is told with both of its probabilities.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LoraLabError
from ..gpu.pool import Pool
from ..model.lora import Adapter
from ..model.transformer import Model
from .text_pass import ROWS_ALIGN, TextPass


@dataclass(frozen=True)
class Likely:
    """A token that could have stood at a place, with the natural logarithms of its two probabilities there."""

    token_id: int
    base: float
    tuned: float


@dataclass(frozen=True)
class TokenChange(Likely):
    """A token of the text at `position`; `base_top` and `tuned_top` are the likeliest there, the likeliest first."""

    position: int
    base_top: tuple[Likely, ...]
    tuned_top: tuple[Likely, ...]

    @property
    def log_ratio(self) -> float:
        """How much likelier the adapter has made it, as a natural logarithm: 0 is not at all."""
        return self.tuned - self.base


async def token_changes(
    model: Model, adapter: Adapter | None, token_ids: Sequence[int], *, first: int = 1, strength: float = 1.0,
    top: int = 5,
) -> AsyncGenerator[TokenChange, None]:  # fmt: skip
    """Yield each token from number `first` on, which is 1 at least: nothing stands before the text's first token.

    `top`: how many of the likeliest are told. Raises LoraLabError for a text without such a token, or one that is
    longer than the model takes.
    """
    vocab_size = model.config.vocab_size
    if not 1 <= first < len(token_ids):
        raise LoraLabError(
            f"the text has {len(token_ids)} tokens and is looked at from number {first} on; wanted one token at least, "
            "with another before it"
        )
    if not 0 <= top <= vocab_size:
        raise LoraLabError(f"{top} alternatives are asked for; the vocabulary has {vocab_size:,}")
    pool = Pool(model.device, "changes")
    passes: list[TextPass] = []
    try:
        for on, how_strong in ((None, 0.0), (adapter, strength)):
            passes.append(await TextPass.run(model, on, token_ids, how_strong, pool))
        step = passes[0].chunk_rows
        for start in range((first - 1) // ROWS_ALIGN * ROWS_ALIGN, len(token_ids) - 1, step):
            count = min(step, len(token_ids) - 1 - start)
            base, tuned = [await one.logits(start, count) for one in passes]
            for row in range(max(0, first - 1 - start), count):
                place = start + row + 1
                yield _change(place, int(token_ids[place]), _log_softmax(base[row]), _log_softmax(tuned[row]), top)
    finally:
        for one in passes:
            one.close()
        pool.close()


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """logits (V) -> the logarithms of the probabilities, (V) float64: of a row at a time, so it takes little room."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - np.log(np.exp(shifted).sum())


def _change(position: int, token: int, base: np.ndarray, tuned: np.ndarray, top: int) -> TokenChange:
    def likely(order_of: np.ndarray) -> tuple[Likely, ...]:
        return tuple(Likely(int(one), float(base[one]), float(tuned[one])) for one in _largest(order_of, top))

    return TokenChange(token, float(base[token]), float(tuned[token]), position, likely(base), likely(tuned))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return where the `count` largest stand, the largest first; of equals the first."""
    if not count:
        return np.empty(0, np.int64)
    limit = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero(values >= limit)
    return found[np.argsort(-values[found], kind="stable")][:count]
