"""One pass over a given text: its hidden states stay on the GPU, its logits are made a few rows at a time.

So a text takes T * C floats and a chunk of logits, never T * V.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import LoraLabError
from ..gpu.plan import Buffer, Tensor
from ..gpu.pool import Pool
from ..model.block import scores_of
from ..model.lora import Adapter
from ..model.transformer import Model, transformer
from ..ops.attention import attention
from ..ops.cross_entropy import cap_logits
from ..ops.elementwise import copy
from ..ops.linear import product
from ..ops.step import StepBuffer, StepValues
from ..ops.tape import Tape

ROWS_ALIGN = 16  # of four floats or more each: there a binding may begin on every device
CHUNK_ROWS = 128  # of logits at a time, where the vocabulary lets them be so many
CHUNK_BYTES = 32 << 20  # that they may take


class TextPass:
    """The hidden states of a text, with an adapter at some strength or without. `close` gives them back."""

    def __init__(self, model: Model, length: int, pool: Pool) -> None:
        config, device = model.config, model.device
        if not 0 < length <= config.max_position_embeddings:
            most = config.max_position_embeddings
            raise LoraLabError(f"the text has {length} tokens; {config.name} takes 1 to {most}")
        self.model, self.length = model, length
        limit = min(CHUNK_BYTES, device.limits.max_storage_buffer_binding_size) // (4 * config.vocab_size)
        self.chunk_rows = min(length, max(ROWS_ALIGN, min(CHUNK_ROWS, limit) // ROWS_ALIGN * ROWS_ALIGN))
        self._pool = pool
        self._step = StepBuffer(device, "text")
        self._buffers: list[Buffer] = [self._step.buffer]
        self._hidden = self._keep(device.create_buffer(4 * length * config.hidden_size, "hidden states"))
        self._out = self._keep(device.create_buffer(4 * self.chunk_rows * config.vocab_size, "logits"))

    @classmethod
    async def run(
        cls, model: Model, adapter: Adapter | None, token_ids: Sequence[int], strength: float, pool: Pool
    ) -> TextPass:
        """Return the pass over these tokens. LoraLabError for none, and for more than the model takes.

        `pool` is for what lives only meanwhile; passes that run one after the other may share it.
        """
        made = cls(model, len(token_ids), pool)
        try:
            await made._fill(adapter, token_ids, strength)
        except BaseException:
            made.close()
            raise
        return made

    def _keep(self, buffer: Buffer) -> Buffer:
        self._buffers.append(buffer)
        return buffer

    async def _fill(self, adapter: Adapter | None, token_ids: Sequence[int], strength: float) -> None:
        config, device, length = self.model.config, self.model.device, self.length
        tokens = device.upload(np.asarray(token_ids, np.uint32), "tokens")
        positions = device.upload(np.arange(length, dtype=np.uint32), "positions")
        table = self.model.rope_table(length)
        for tensor in (tokens, positions, table):
            self._keep(tensor.buffer)
        self._step.write(StepValues(strength=strength))
        tape = Tape(device, self._step.tensor, grad_enabled=False)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads, kv_heads, scores = config.num_heads, config.num_kv_heads, scores_of(config, layer)
            return attention(tape, q, k, v, positions, length, heads, kv_heads, scores=scores)

        adapters = adapter.pairs() if adapter else {}
        hidden = transformer(tape, self.model, tokens, positions, table, attend, adapters)
        copy(tape, hidden, Tensor(hidden.shape, self._hidden, 0, "hidden states"))
        await self._submit(tape, "hidden states")

    async def logits(self, start: int, count: int) -> np.ndarray:
        """Return float32 (count, V): what the model predicts after tokens `start` to `start + count - 1`.

        `start` is a multiple of ROWS_ALIGN, `count` at most `chunk_rows`.
        """
        config, device = self.model.config, self.model.device
        tape = Tape(device, self._step.tensor, grad_enabled=False)
        rows = Tensor((count, config.hidden_size), self._hidden, 4 * start * config.hidden_size, "hidden states")
        out = Tensor((count, config.vocab_size), self._out, 0, "logits")
        product(tape, rows, self.model.lm_head, out)
        if config.logit_softcap:
            cap_logits(tape, out, config.logit_softcap)
        await self._submit(tape, "logits")
        return await device.download(out)

    async def _submit(self, tape: Tape, name: str) -> None:
        device = self.model.device
        plan = await device.build(tape, self._pool, name)
        try:
            await device.submit_measured(plan)
        finally:
            plan.close()

    def close(self) -> None:
        """Give the memory back, but for the pool's."""
        for buffer in self._buffers:
            buffer.destroy()
        self._buffers.clear()
