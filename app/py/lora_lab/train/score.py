"""The loss of single rows, with an adapter and without: forward passes only, outside of any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..data.tokens.batches import make_batch
from ..data.tokens.examples import Example
from ..errors import LoraLabError
from ..gpu.device import Device
from ..gpu.plan import Plan, Tensor
from ..gpu.pool import Pool
from ..model.block import scores_of
from ..model.lora import Adapter
from ..model.transformer import Model, transformer
from ..ops.attention import attention
from ..ops.cross_entropy import cross_entropy
from ..ops.elementwise import fill
from ..ops.step import StepBuffer, StepValues
from ..ops.tape import Tape
from .plans import BatchInputs

LENGTH_MULTIPLE = 64  # rows are padded to it: a few plans serve all of them


class Scorer:
    """Measures rows one by one. `close` gives its memory back; model and adapter stay."""

    def __init__(self, model: Model, adapter: Adapter | None, longest: int) -> None:
        """`longest` is the largest number of tokens that goes into the model at once. LoraLabError for too many."""
        context = model.config.max_position_embeddings
        if longest > context:
            raise LoraLabError(f"a row has {longest:,} tokens; {model.config.name} takes {context:,}")
        self.model, self.adapter = model, adapter
        self._device: Device = model.device
        self._longest = _padded(longest)
        self._pool, self._step = Pool(self._device, "score"), StepBuffer(self._device, "score")
        self._inputs = BatchInputs(self._device, self._longest)
        self._inputs.buffer.allocate()
        self._table = model.rope_table(self._longest)
        self._total = Tensor((1,), self._device.create_buffer(4, "score"), 0, "score")
        self._plans: dict[int, Plan] = {}

    async def losses(
        self, examples: Sequence[Example], strength: float = 1.0, on_done: Callable[[], object] | None = None
    ) -> list[float]:
        """Return the mean loss over each row's trained tokens, in nats. `on_done` is called after each.

        Strength 0 is the model without the adapter. ValueError for a row of which nothing is trained.
        """
        found = []
        for example in examples:
            batch = make_batch([example], LENGTH_MULTIPLE)
            if not batch.trained_tokens:
                raise ValueError("nothing of this row is trained: it has no loss")
            plan = await self._plan(batch.tokens.shape[1])
            trained = np.flatnonzero(batch.weights.reshape(-1) > 0)
            targets = batch.targets.reshape(-1)[trained]
            self._inputs.write(batch.tokens, batch.positions, trained, targets)
            self._step.write(StepValues(inv_tokens=1 / len(trained), loss_rows=len(trained), strength=strength))
            if plan.replayed:
                self._device.submit(plan)
            else:
                await self._device.submit_measured(plan)
            found.append(float((await self._device.download(self._total))[0]))
            if on_done is not None:
                on_done()
        return found

    async def _plan(self, length: int) -> Plan:
        if length not in self._plans:
            config = self.model.config
            tape = Tape(self._device, self._step.tensor, grad_enabled=False)
            tokens, positions, rows, targets = (self._inputs.view(part, length) for part in range(4))

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                heads, kv_heads, scores = config.num_heads, config.num_kv_heads, scores_of(config, layer)
                return attention(tape, q, k, v, positions, length, heads, kv_heads, scores=scores)

            fill(tape, self._total, 0.0)
            pairs = self.adapter.pairs() if self.adapter is not None else {}
            hidden = transformer(tape, self.model, tokens, positions, self._table, attend, pairs)
            cross_entropy(tape, hidden, self.model.lm_head, rows, targets, self._total, config.logit_softcap)
            self._plans[length] = await self._device.build(tape, self._pool, f"score {length}")
        return self._plans[length]

    def close(self) -> None:
        """Give back all memory but the model's and the adapter's."""
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        self._pool.close()
        self._step.close()
        for buffer in (self._inputs.buffer, self._table.buffer, self._total.buffer):
            buffer.destroy()


def _padded(length: int) -> int:
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
