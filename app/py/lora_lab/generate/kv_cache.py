"""Keys and values of the tokens a model has seen, and which tokens those are."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import ModelConfig
from ..gpu.device import Device
from ..gpu.plan import Tensor


class KvCache:
    """For every layer k and v of (length, Hkv * D). `tokens` are those whose rows are valid, from row 0 on."""

    def __init__(self, device: Device, config: ModelConfig, length: int) -> None:
        self.length = length
        self.tokens: list[int] = []
        shape = (length, config.kv_size)
        self._buffers = [
            device.create_buffer(4 * length * config.kv_size, f"{i}.{name} cache")
            for i in range(config.num_layers)
            for name in ("k", "v")
        ]
        self._tensors = [Tensor(shape, buffer, 0, buffer.label) for buffer in self._buffers]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (k, v) of a layer."""
        return self._tensors[2 * index], self._tensors[2 * index + 1]

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what `tokens` does not begin with; return how many of its tokens need no computing.

        At least the last token is left to compute: its logits are what comes next.
        """
        common = 0
        for ours, wanted in zip(self.tokens, tokens[:-1], strict=False):
            if ours != wanted:
                break
            common += 1
        del self.tokens[common:]
        return common

    def clear(self) -> None:
        """Forget everything: an adapter or its strength has changed, so the rows are no longer true."""
        self.tokens.clear()

    def close(self) -> None:
        for buffer in self._buffers:
            buffer.destroy()
