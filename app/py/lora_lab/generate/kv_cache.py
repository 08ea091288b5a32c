"""Keys and values of the tokens a model has seen, and which tokens those are."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import ModelConfig
from ..gpu.device import Device
from ..gpu.plan import Buffer, Tensor
from ..settings import MAX_NEW_TOKENS

# Tokens by which a text may shrink without being computed anew: a reply of usual length, so that it can be asked for
# again, and more than are ever drawn ahead.
GO_BACK = MAX_NEW_TOKENS.default + 64


class KvCache:
    """For every layer with attention k and v of (length, Hkv * D). `tokens` are those whose rows are valid, from 0 on.

    Its `buffers` are planned: whoever uses it allocates them.

    A convolution needs its last inputs only, one a tap but the first: they and GO_BACK before them are kept, in a ring.
    """

    def __init__(self, device: Device, config: ModelConfig, length: int) -> None:
        self.length = length
        self.tokens: list[int] = []
        self.buffers: list[Buffer] = []
        self._layers: list[tuple[Tensor, ...]] = []
        self._taps = max(config.layer(i).conv_taps for i in range(config.num_layers))
        self._furthest = 0  # tokens that have been computed since the cache was empty; those drawn ahead are among them
        for i in range(config.num_layers):
            taps = config.layer(i).conv_taps
            shape = (GO_BACK + taps - 1, config.hidden_size) if taps else (length, config.kv_size)
            names = ("conv",) if taps else ("k", "v")
            made = [device.plan_buffer(4 * shape[0] * shape[1], f"{i}.{name} cache") for name in names]
            self.buffers += made
            self._layers.append(tuple(Tensor(shape, buffer, 0, buffer.label) for buffer in made))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (k, v) of a layer with attention."""
        k, v = self._layers[index]
        return k, v

    def convolved(self, index: int) -> Tensor:
        """Return the last inputs of a layer with a convolution, that of position p in row p % rows."""
        (kept,) = self._layers[index]
        return kept

    def will_hold(self, rows: int) -> None:
        """Say that what is about to run computes rows up to here."""
        self._furthest = max(self._furthest, rows)

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what `tokens` does not begin with; return how many of its tokens need no computing.

        At least the last token is left to compute: its logits are what comes next. Where a convolution's inputs before
        that are gone, nothing is kept.
        """
        common = 0
        for ours, wanted in zip(self.tokens, tokens[:-1], strict=False):
            if ours != wanted:
                break
            common += 1
        if self._taps and common < self._furthest - GO_BACK:
            self.clear()
            return 0
        del self.tokens[common:]
        return common

    def clear(self) -> None:
        """Forget everything: an adapter or its strength has changed, so the rows are no longer true."""
        self.tokens.clear()
        self._furthest = 0

    def close(self) -> None:
        for buffer in self.buffers:
            buffer.destroy()
