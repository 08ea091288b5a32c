"""The plans of a training run: one forward and backward for each batch shape, one that zeroes, one that updates."""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ..config import TrainConfig
from ..data.tokens.batches import Batch
from ..data.tokens.packing import Shape
from ..gpu.device import Device, PipelineKey, Progress, pipeline_keys
from ..gpu.kernel import Kernel
from ..gpu.plan import Buffer, Plan, Tensor, Trace, params_size_bytes
from ..gpu.pool import Pool, pool_sizes
from ..gpu.recompute import recompute
from ..model.block import Block, scores_of
from ..model.lora import Adapter
from ..model.transformer import Model, transformer
from ..ops.adamw import Moments, Report, adamw, grad_norm, report, slices
from ..ops.attention import attention
from ..ops.cross_entropy import cross_entropy
from ..ops.elementwise import fill
from ..ops.step import StepBuffer, StepValues
from ..ops.tape import Tape
from .batch_inputs import BatchInputs

MAX_PLANS = 12  # built batch shapes kept at once; the one used longest ago goes first
NORM_OFFSET, HITS_OFFSET = 256, 512  # bytes: they are bound apart from the loss, and a binding's offset must be aligned
HALTED_OFFSET, RING_OFFSET = 256, 512  # likewise
SLOTS = 8  # steps whose loss and norm can be read: more than are ever in flight


class TrainPlans:
    """Builds, keeps and replays the plans. Nothing is allocated before `allocate`; sizes are known before."""

    def __init__(
        self, model: Model, adapter: Adapter, config: TrainConfig, largest: Shape, longest_row: int | None = None
    ) -> None:
        """`longest_row` is the largest number of tokens of one row, where several may be packed into a sequence."""
        self.model, self.adapter, self.config, self.largest = model, adapter, config, largest
        self.longest_row = longest_row or largest[1]
        self.device: Device = model.device
        self.pool = Pool(self.device, "activations")
        self.step = StepBuffer(self.device, "train", planned=True)
        make = self.device.plan_buffer
        self.inputs = BatchInputs(self.device, largest[0] * largest[1])
        self.grads, self.m, self.v = (make(4 * adapter.size, name) for name in ("gradients", "adamw.m", "adamw.v"))
        self.stats = make(HITS_OFFSET + 4, "loss, norm and hits")
        self.loss = Tensor((1,), self.stats, 0, "loss")
        self.norm = Tensor((1,), self.stats, NORM_OFFSET, "norm")
        self.hits = Tensor((1,), self.stats, HITS_OFFSET, "hits")  # of a validation; training leaves it alone
        self.reports = make(RING_OFFSET + 8 * SLOTS, "reports")
        self.report = Report(
            ring=Tensor((2 * SLOTS,), self.reports, RING_OFFSET, "ring"),
            used_norm=Tensor((1,), self.reports, 0, "used norm"),
            halted=Tensor((1,), self.reports, HALTED_OFFSET, "halted"),
        )
        angles = model.rope_angles(self.longest_row)
        self.table = Tensor(angles.shape, make(angles.nbytes, "rope table"), 0, "rope table")
        self._built: OrderedDict[tuple[Shape, bool], Plan] = OrderedDict()
        self.zero_plan: Plan | None = None
        self.update_plan: Plan | None = None
        self.flops = 0.0  # of one replay of the largest shape
        self.recomputed_layers = 0  # known after `sizes`
        self.pool_sizes: list[int] = []  # in bytes; likewise
        self._largest_trace: Trace | None = None  # of `sizes`
        self._sizes: dict[str, int] | None = None

    def take_over(
        self, model: Model, adapter: Adapter, config: TrainConfig, largest: Shape, longest_row: int
    ) -> None:  # fmt: skip
        """Serve another run from now on. ValueError unless that would trace the same."""
        same = model is self.model and adapter is self.adapter and (largest, longest_row) == (
            self.largest, self.longest_row
        )  # fmt: skip
        if not same or _traced_settings(config) != _traced_settings(self.config):
            raise ValueError("these plans were traced for another run")
        self.config = config

    # --- traces ---

    def trace_batch(self, shape: Shape, grad_enabled: bool = True) -> Trace:
        """Return the forward pass, the loss and (where enabled) the backward pass of a micro-batch (B, T).

        As many layers are recomputed as in the largest shape: a smaller one has smaller values, but as many of them,
        and the pool has that many buffers.
        """
        tape = self._trace_keeping_all(shape, grad_enabled)
        if not (grad_enabled and self.recomputed_layers):
            return tape
        return recompute(tape, tape.blocks, self.recomputed_layers)

    def _trace_keeping_all(self, shape: Shape, grad_enabled: bool, layers: Sequence[int] = ()) -> Tape:
        """`layers`: with these only, for what they need, not for what they compute."""
        model, pairs = self.model, self.adapter.pairs(self.grads if grad_enabled else None)
        if layers:
            model = _with_layers(model, layers)
            pairs = {(i, names): pair for (layer, names), pair in pairs.items()
                     for i, which in enumerate(layers) if which == layer}  # fmt: skip
        batch, length = shape
        config = model.config
        tape = Tape(self.device, self.step.tensor, grad_enabled)

        tokens, positions, rows, targets = (self.inputs.view(part, batch * length) for part in range(4))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads, kv_heads, longest = config.num_heads, config.num_kv_heads, self.longest_row
            scores = scores_of(config, layer)
            return attention(tape, q, k, v, positions, length, heads, kv_heads, longest=longest, scores=scores)

        hidden = transformer(tape, model, tokens, positions, self.table, attend, pairs)
        hits = None if grad_enabled else self.hits
        cross_entropy(tape, hidden, model.lm_head, rows, targets, self.loss, config.logit_softcap, hits)
        tape.backward()
        return tape

    def _trace_zero(self) -> Trace:
        trace = Trace(self.step.tensor)
        limit = self.device.limits.max_storage_buffer_binding_size
        for part in slices(Tensor((self.adapter.size,), self.grads, 0, "gradients"), limit):
            fill(trace, part, 0.0)
        fill(trace, self.loss, 0.0)
        return trace

    def _trace_update(self) -> Trace:
        trace = Trace(self.step.tensor)
        limit = self.device.limits.max_storage_buffer_binding_size

        def flat(buffer: Buffer) -> Tensor:
            return Tensor((self.adapter.size,), buffer, 0, buffer.label)

        grad_norm(trace, flat(self.grads), self.norm, limit)
        report(trace, self.loss, self.norm, self.report)
        moments = Moments(flat(self.m), flat(self.v))
        adamw(trace, self.adapter.params, flat(self.grads), moments, self.report.used_norm, self.config, limit)
        return trace

    # --- memory ---

    def sizes(self) -> dict[str, int]:
        """Return what the run takes on the GPU beside the weights, in bytes by part. Allocates nothing.

        Settles how many layers are recomputed.
        """
        if self._sizes is None:
            self._sizes = self._count()
        return self._sizes

    def _count(self) -> dict[str, int]:
        full = self._trace_keeping_all(self.largest, True)
        small = [self._trace_zero(), self._trace_update()]
        self.recomputed_layers, batch, activations = self._choose_recomputed(full, small)
        self._largest_trace = batch
        traces = [batch, *small]
        for trace in traces:
            self.device.check_bindings(trace)
        self.flops = sum(dispatch.flops for dispatch in batch.dispatches)
        align = self.device.limits.min_uniform_buffer_offset_alignment
        params = sum(params_size_bytes(trace, align) for trace in traces)
        inputs = self.inputs.buffer.size_bytes + self.stats.size_bytes + self.reports.size_bytes
        table = self.table.buffer.size_bytes
        self.pool_sizes = pool_sizes(traces)
        return {
            "activations": activations,
            "adapter": self.adapter.buffer.size_bytes,
            "gradients": self.grads.size_bytes,
            "optimizer": self.m.size_bytes + self.v.size_bytes,
            "batch": inputs + table + params + self.step.buffer.size_bytes,
        }

    def _choose_recomputed(self, full: Tape, small: list[Trace]) -> tuple[int, Trace, int]:
        """Return how many layers to recompute, the batch's trace with them, and the bytes of its activations.

        As many as the settings say, or the fewest that keep to the budget; all, where that is still too much.
        """
        layers, budget = len(full.blocks), self.config.activation_budget_bytes

        @cache
        def tried(count: int) -> tuple[Trace, int]:
            batch = recompute(full, full.blocks, count) if count else full
            return batch, sum(pool_sizes([batch, *small]))

        if self.config.recompute == "auto":
            count = 0
            if tried(0)[1] > budget:
                count = bisect_left(range(layers), True, lo=min(1, layers), key=lambda n: tried(n)[1] <= budget)
        else:
            count = layers if self.config.recompute else 0
        return count, *tried(count)

    def fingerprint(self) -> str:
        """Return a digest of the arithmetic of a step of the largest shape: kernels, tiles, numbers, grids."""
        self.sizes()
        assert self._largest_trace is not None
        digest = hashlib.blake2b(digest_size=16)
        for trace in (self._largest_trace, self._trace_update()):
            for one in trace.dispatches:
                digest.update(f"{_source_digest(one.kernel)} {one.kernel.entry} {one.workgroups}\0".encode())
                digest.update(one.params)
        return digest.hexdigest()

    # --- building and running ---

    async def allocate(self, on_progress: Progress | None = None) -> None:
        """Take the memory, compile every kernel, build the plans that every run needs. Again after `close`, too."""
        self.sizes()  # traces the largest shape, unless that has been done
        for buffer in self._own_buffers():
            buffer.allocate()
        self.device.write(self.table.buffer, 0, self.model.rope_angles(self.longest_row))
        zero, update = self._trace_zero(), self._trace_update()
        assert self._largest_trace is not None
        # Everything is asked for at once: one plan after another, each would wait for its slowest kernel.
        wanted = [key for trace in (self._largest_trace, zero, update) for key in pipeline_keys(trace)]
        await self.device.compile(wanted, on_progress)
        await self.batch_plan(self.largest)
        self.zero_plan = await self.device.build(zero, self.pool, "zero")
        self.update_plan = await self.device.build(update, self.pool, "update")

    async def compile_ahead(
        self, shapes: Iterable[tuple[Shape, bool]] = (), one_at_a_time: bool = False
    ) -> None:  # fmt: skip
        """Have every pipeline compiled that `allocate` will need and, in as far as they differ, plans of `shapes`.

        Takes no memory. Each of `shapes` is (batch shape, with a backward pass). `one_at_a_time`: for a device whose
        compiler needs the processor that others wait for.
        """
        self.sizes()
        assert self._largest_trace is not None
        traces = [self._largest_trace, self._trace_zero(), self._trace_update()]
        wanted = [key for trace in traces for key in pipeline_keys(trace)]
        if not one_at_a_time:
            self.device.start_compiling(wanted)
        for shape, grad_enabled in shapes:
            if (shape, grad_enabled) != (self.largest, True):
                await asyncio.sleep(0)
                wanted += self.shape_keys(shape, grad_enabled)
                if not one_at_a_time:
                    self.device.start_compiling(wanted)
        if one_at_a_time:
            for key in wanted:
                await self.device.compile([key])
        await self.device.compile(wanted)

    def shape_keys(self, shape: Shape, grad_enabled: bool = True) -> list[PipelineKey]:
        """Return the pipelines of a shape's plan: those of a few layers, since all layers of a kind need the same."""
        blocks = self.model.blocks
        last = len(blocks) - 1
        kinds = {_kind(blocks[i]): i for i in range(1, last)}
        first = min(layer for layer, _ in self.adapter.places)  # nothing before it is trained
        few = sorted({0, first, *kinds.values(), last})
        return pipeline_keys(self._trace_keeping_all(shape, grad_enabled, few))

    async def batch_plan(self, shape: Shape, grad_enabled: bool = True, on_progress: Progress | None = None) -> Plan:
        """Return the plan of a shape, built at its first use."""
        key = (shape, grad_enabled)
        if key not in self._built:
            if len(self._built) >= MAX_PLANS:
                self._built.popitem(last=False)[1].close()
            name = f"{'train' if grad_enabled else 'validate'} {shape[0]}x{shape[1]}"
            trace = self._largest_trace if key == (self.largest, True) else None
            self._built[key] = await self.device.build(trace or self.trace_batch(*key), self.pool, name, on_progress)
        self._built.move_to_end(key)
        return self._built[key]

    async def forward(self, batch: Batch, grad_enabled: bool, values: StepValues, trained_tokens: int) -> None:
        """Give the GPU one micro-batch of a mean over `trained_tokens`."""
        plan = await self.batch_plan((batch.tokens.shape[0], batch.tokens.shape[1]), grad_enabled)
        values.inv_tokens, values.loss_rows = 1 / max(1, trained_tokens), self.write_batch(batch)
        self.set_step(values)
        if plan.replayed:
            self.device.submit(plan)
        else:
            await self.device.submit_measured(plan)

    def write_batch(self, batch: Batch) -> int:
        """Write a micro-batch's tokens and which of its rows are trained; return the number of those."""
        trained = np.flatnonzero(batch.weights.reshape(-1) > 0)
        self.inputs.write(batch.tokens, batch.positions, trained, batch.targets.reshape(-1)[trained])
        return len(trained)

    def set_step(self, values: StepValues) -> None:
        self.step.write(values)

    def begin_evaluation(self) -> None:
        """Set loss and hits to zero. The hits by hand, so that a training step need not do it."""
        assert self.zero_plan is not None
        self.device.submit(self.zero_plan)
        self.device.write(self.stats, HITS_OFFSET, np.zeros(1, np.uint32))

    async def read_evaluation(self) -> tuple[float, int]:
        """Return loss and hits since then."""
        raw = await self.device.read(self.stats, 0, HITS_OFFSET + 4)
        return float(np.frombuffer(raw, np.float32, 1)[0]), int(np.frombuffer(raw, np.uint32, 1, HITS_OFFSET)[0])

    def submit_update(self) -> Awaitable[bytes]:
        """Change the adapter by its gradients; return, to be awaited later, the ring.

        That is loss and norm of the last SLOTS steps, as f32.
        """
        assert self.update_plan is not None
        return self.device.submit_reading(self.update_plan, self.report.ring)

    def close(self) -> None:
        """Give everything back but the adapter and the model."""
        for plan in (*self._built.values(), self.zero_plan, self.update_plan):
            if plan is not None:
                plan.close()
        self._built.clear()
        self.zero_plan = self.update_plan = None
        for buffer in self._own_buffers():
            buffer.destroy()
        self.pool.close()

    def _own_buffers(self) -> list[Buffer]:
        own = [self.inputs.buffer, self.grads, self.m, self.v, self.stats, self.reports]
        return [*own, self.table.buffer, self.step.buffer]


@cache
def _source_digest(kernel: Kernel) -> str:
    return hashlib.blake2b(kernel.source.encode(), digest_size=16).hexdigest()


def _kind(block: Block) -> tuple:
    """Return what decides which kernels a block needs."""
    linears = block.linears.items()
    return tuple((names, tuple((piece.form, piece.shape) for piece in weight.pieces)) for names, weight in linears)


def _with_layers(model: Model, layers: Sequence[int]) -> Model:
    config = model.config
    own = tuple(config.layer(i) for i in layers) if config.layers else ()
    config = replace(config, num_layers=len(layers), layers=own)
    return replace(model, config=config, blocks=[model.blocks[i] for i in layers])


def _traced_settings(config: TrainConfig) -> tuple:
    return config.recompute, config.activation_budget_bytes
