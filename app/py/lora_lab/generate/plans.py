"""The plans of generation: a prefill of a chunk of tokens, and a decode of one token with sampling chained to it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import prod

import numpy as np

from ..gpu.device import Progress
from ..gpu.plan import Buffer, Plan, Tensor, params_size_bytes
from ..gpu.pool import Pool, pool_sizes
from ..model.block import Adapters, rope_part, scores_of
from ..model.decode import PackedAdapter, can_decode, decode_logits
from ..model.lora import Adapter
from ..model.transformer import Model, transformer
from ..ops.attention import attention, attention_decode
from ..ops.cross_entropy import cap_logits
from ..ops.linear import product
from ..ops.rows import append_rows, last_row
from ..ops.sample import sample
from ..ops.step import StepBuffer, StepValues
from ..ops.tape import Tape
from .kv_cache import KvCache

PREFILL_SIZES = (16, 64, 256)  # a prompt is cut into these; the last part is padded
DRAWN = 64  # of the last drawn tokens that can be read


class GenerationPlans:
    """Owns the cache, the token buffers and the plans; knows nothing of text."""

    def __init__(
        self, model: Model, context_length: int, *, prefill_sizes: Sequence[int] = PREFILL_SIZES,
        pool: Pool | None = None, planned: bool = False,
    ) -> None:  # fmt: skip
        """`pool`: somebody else's, which is not closed here. `planned`: without memory until `allocate`."""
        self.model, self.device, self.context_length = model, model.device, context_length
        self.prefill_sizes = tuple(sorted(prefill_sizes))
        device = self.device
        self._pool_is_lent = pool is not None
        self.pool = pool or Pool(device, "generation")
        self.step = StepBuffer(device, "generation", planned=True)
        # A padded prefill writes past the prompt's end, so the cache has room for the padding.
        largest = self.prefill_sizes[-1]
        self._rows = context_length + largest
        self.cache = KvCache(device, model.config, self._rows)

        def make(shape: tuple[int, ...], label: str) -> Tensor:
            return Tensor(shape, device.plan_buffer(4 * prod(shape), label), 0, label)

        self.table = make(model.rope_angles(self._rows).shape, "rope table")
        self.prompt, self.positions = make((largest,), "prompt"), make((largest,), "positions")
        self.token, self.drawn = make((1,), "token"), make((DRAWN,), "drawn tokens")
        self.seen = make((model.config.vocab_size,), "seen")
        self._plans: dict[tuple[int, bool], Plan] = {}
        self._reads_positions: dict[tuple[int, bool], bool] = {}  # whether a plan does
        self._adapter: Adapter | None = None
        self._packed: PackedAdapter | None = None  # what decode reads of it, made with its first plan
        if not planned:
            self.allocate()

    def allocate(self) -> None:
        """Take the memory of everything but the plans. Raises OutOfMemoryError."""
        for buffer in self._own_buffers():
            buffer.allocate()
        self.device.write(self.table.buffer, 0, self.model.rope_angles(self._rows))

    def size_bytes(self, adapter: Adapter, in_pool: Sequence[int]) -> int:
        """Return what answers with `adapter` take, in bytes; `in_pool` are the buffers that the pool will have by then.

        Allocates nothing.
        """
        packed = PackedAdapter(self.model, adapter) if can_decode(self.device, self.model, adapter) else None
        traces = [self._trace(size, adapter, packed if size == 1 else None) for size in self._sizes()]
        align = self.device.limits.min_uniform_buffer_offset_alignment
        own = sum(buffer.size_bytes for buffer in self._own_buffers())
        own += sum(params_size_bytes(trace, align) for trace in traces)
        if packed is not None:
            own += packed.buffer.size_bytes + params_size_bytes(packed.trace(), align)
        return own + sum(pool_sizes(traces, in_pool)) - sum(in_pool)

    def _sizes(self) -> tuple[int, ...]:
        """The largest first: the others find their memory in its pool."""
        return (*reversed(self.prefill_sizes), 1)

    def _own_buffers(self) -> list[Buffer]:
        tensors = (self.prompt, self.positions, self.token, self.drawn, self.seen, self.table)
        return [*(tensor.buffer for tensor in tensors), *self.cache.buffers, self.step.buffer]

    def set_adapter(self, adapter: Adapter | None) -> None:
        """Use other matrices from now on. Plans over the old ones are thrown away, those without stay."""
        for key in [key for key in self._plans if key[1]]:
            self._plans.pop(key).close()
        self._release_packed()
        self._adapter = adapter
        self.cache.clear()

    async def adapter_changed(self) -> None:
        """Take note that the adapter's values are others now: what was made of them is made anew."""
        self.cache.clear()
        if self._packed is not None:
            await self._packed.refresh()

    async def prepare(self, on_progress: Progress | None = None, adapter_on: bool = False) -> None:
        """Build the plans that every reply uses."""
        for size in self._sizes():
            await self._plan(size, adapter_on, on_progress)

    async def prefill(self, tokens: list[int], adapter_on: bool, values: StepValues, seen: np.ndarray) -> None:
        """Run tokens (any number) that follow the cache's, and draw the next one into `token`.

        seen (V), u32: nonzero for the tokens of the whole text. It is written before every part, because every part
        ends in a draw that marks its token, and only the last part's is real.
        """
        device, cache = self.device, self.cache
        while tokens:
            size = next((s for s in self.prefill_sizes if s >= len(tokens)), self.prefill_sizes[-1])
            part, tokens = tokens[:size], tokens[size:]
            padded = np.zeros(size, np.uint32)
            padded[: len(part)] = part
            past = len(cache.tokens)
            device.write(self.prompt.buffer, 0, padded)
            device.write(self.positions.buffer, 0, np.arange(past, past + size, dtype=np.uint32))
            values.past, values.last_row = past, len(part) - 1
            self.step.write(values)
            device.write(self.seen.buffer, 0, seen)
            plan = await self._plan(size, adapter_on)
            cache.will_hold(past + len(part))
            await self._run(plan)
            cache.tokens += part

    async def decode(self, past: int, adapter_on: bool, values: StepValues) -> None:
        """Run the token in `token`, whose place in the cache is row `past`, and draw number `values.draw` after it.

        Nothing is read back: several in a row keep the GPU busy. The caller adds the tokens to the cache's own list.
        """
        plan = await self._plan(1, adapter_on)
        if self._reads_positions[1, adapter_on]:
            self.device.write(self.positions.buffer, 0, np.array([past], np.uint32))
        values.past, values.last_row = past, 0
        self.step.write(values)
        self.cache.will_hold(past + 1)
        await self._run(plan)

    def start_reading(self) -> Awaitable[bytes]:
        """Return, to be awaited later, the last DRAWN tokens as u32: number n stands at n % DRAWN."""
        return self.device.start_read(self.drawn.buffer, 0, self.drawn.size_bytes)

    async def _run(self, plan: Plan) -> None:
        if plan.replayed:
            self.device.submit(plan)
        else:
            await self.device.submit_measured(plan)

    async def _plan(self, size: int, adapter_on: bool, on_progress: Progress | None = None) -> Plan:
        key = (size, adapter_on)
        if key not in self._plans:
            adapter = self._adapter if adapter_on else None
            packed = None
            if size == 1 and adapter is not None and can_decode(self.device, self.model, adapter):
                if self._packed is None:  # it is there where making the plan was given up
                    self._packed = await PackedAdapter.pack(self.model, adapter)
                packed = self._packed
            name = "decode" if size == 1 else f"prefill {size}"
            trace = self._trace(size, adapter, packed)
            bound = (tensor for dispatch in trace.dispatches for tensor in dispatch.tensors.values())
            self._reads_positions[key] = any(tensor.storage is self.positions.buffer for tensor in bound)
            self._plans[key] = await self.device.build(trace, self.pool, name, on_progress)
        return self._plans[key]

    def _trace(self, size: int, adapter: Adapter | None, packed: PackedAdapter | None) -> Tape:
        model, config, cache = self.model, self.model.config, self.cache
        adapters: Adapters = adapter.pairs() if adapter else {}
        tape = Tape(self.device, self.step.tensor, grad_enabled=False)
        if size == 1 and can_decode(self.device, model, adapter):
            logits = decode_logits(tape, model, self.token, rope_part(self.table, 0), cache.layer, packed)
            sample(tape, logits, self.seen, self.token, self.drawn)
            return tape
        positions = Tensor((size,), self.positions.buffer, 0, "positions")
        tokens = self.token if size == 1 else Tensor((size,), self.prompt.buffer, 0, "prompt")

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k_cache, v_cache = cache.layer(layer)
            append_rows(tape, k, k_cache)
            append_rows(tape, v, v_cache)
            heads, kv_heads, scores = config.num_heads, config.num_kv_heads, scores_of(config, layer)
            if size == 1:
                return attention_decode(tape, q, k_cache, v_cache, heads, kv_heads, scores)
            return attention(tape, q, k_cache, v_cache, positions, size, heads, kv_heads, cached=True, scores=scores)

        hidden = transformer(tape, model, tokens, positions, self.table, attend, adapters, cache.convolved)
        last = hidden
        if size > 1:
            last = tape.tensor((1, config.hidden_size), "last row")
            last_row(tape, hidden, last)
        logits = tape.tensor((1, config.vocab_size), "logits")
        product(tape, last, model.lm_head, logits)
        if config.logit_softcap:
            cap_logits(tape, logits, config.logit_softcap)
        sample(tape, logits, self.seen, self.token, self.drawn)
        return tape

    def _release_packed(self) -> None:
        if self._packed is not None:
            self._packed.release()
            self._packed = None

    def close(self) -> None:
        self._release_packed()
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        for buffer in self._own_buffers():
            buffer.destroy()
        if not self._pool_is_lent:
            self.pool.close()
