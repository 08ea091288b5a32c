"""The training loop. It yields events; what is done with them is somebody else's business."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..config import TrainConfig
from ..data.tokens.batches import Batch, Example
from ..data.tokens.examples import input_lengths
from ..data.tokens.packing import Layout, Shape
from ..errors import DatasetError, LoraLabError
from ..gpu.device import Progress
from ..gpu.plan import Tensor
from ..model.lora import Adapter
from ..model.transformer import Model
from ..ops.step import StepValues
from ..settings import MOST_STEPS
from .checkpoint import CheckpointTimes, RunState
from .divergence import Divergence
from .events import CheckpointTaken, MemoryReport, StepDone, TrainEvent, ValidationDone
from .plans import NORM_OFFSET, SLOTS, TrainPlans
from .schedule import learning_rate, run_layout, step_rows, total_steps
from .step_times import StepTimes

VALIDATIONS = 10  # of a run, besides the one at its end
AHEAD_BELOW_MS = 250.0  # slower steps wait for one another: little is hidden, and a stop comes sooner
AHEAD_STEPS, AHEAD_SHAPES = 500, 6  # steps looked at for the shapes whose kernels are compiled ahead
# Of a validation so many micro-batches are given to the GPU at once, or what it does in about that time; when a stop is
# asked for it may go on so long.
VALIDATED_AT_ONCE, VALIDATED_AT_ONCE_S, STOPPED_VALIDATION_S = 16, 0.25, 10.0


class Trainer:
    """Trains an adapter on examples. `prepare`, then iterate `run`, then `close`; `stop` from anywhere in between.

    The adapter holds what was learned after every step, also after a stop; while `run` goes on, it may be a step ahead
    of the event last given.
    """

    def __init__(
        self, model: Model, adapter: Adapter, examples: Sequence[Example], config: TrainConfig,
        validation: Sequence[Example] = (), layout: Layout | None = None, plans: TrainPlans | None = None,
    ) -> None:  # fmt: skip
        """`layout` is `run_layout` of the same rows and settings, where it is known already; `plans` are those of
        another trainer of the same model, adapter and largest shape that is not in use: what they have traced stays.
        """
        if not examples:
            raise DatasetError("there is no row to train on")
        _check(config)
        self.model, self.adapter, self.config = model, adapter, config
        self.examples, self.validation = examples, list(validation)
        self.total_steps = total_steps(len(self.examples), config)
        if self.total_steps > MOST_STEPS:
            raise LoraLabError(f"the run would have {self.total_steps:,} steps; {MOST_STEPS:,} at most can be done")
        self.steps_done = 0
        self.losses = array("f")  # loss and gradient norm of every step, one after the other
        self.validation_losses: list[tuple[int, float]] = []
        self._stop_asked_s = math.inf  # when it was
        self._pauses = False
        self.layout = layout or run_layout(self.examples, self.validation, config)
        if plans is not None:
            plans.take_over(model, adapter, config, self.layout.largest, self.layout.longest_row)
        self.plans = plans or TrainPlans(model, adapter, config, self.layout.largest, self.layout.longest_row)
        sizes = {"weights": model.weights_bytes, **self.plans.sizes()}
        layers = model.config.num_layers
        self.memory = MemoryReport(sum(sizes.values()), sizes, self.plans.recomputed_layers, layers)

    async def compile_ahead(self, one_at_a_time: bool = False) -> None:
        """Have the kernels compiled that the run will need, without taking any memory."""
        shapes = Counter(shape for step in self.first_steps(AHEAD_STEPS) for shape in step.shapes)
        wanted = [(shape, True) for shape, _ in shapes.most_common(AHEAD_SHAPES)]
        if self.validation:
            groups = self.layout.groups(self.validation)
            held = Counter(self.layout.shape([example.input_length for example in group]) for group in groups)
            wanted += [(shape, False) for shape, _ in held.most_common(AHEAD_SHAPES)]
        await self.plans.compile_ahead(wanted, one_at_a_time)

    async def prepare(self, on_progress: Progress | None = None) -> None:
        """Compile all kernels and take the memory that `memory` told. Raises OutOfMemoryError.

        Works again after `close`. The weights and the adapter must have their memory by then.
        """
        await self.plans.allocate(on_progress)

    def first_steps(self, count: int) -> list[PlannedStep]:
        """Return the run's first `count` steps, or all if it has fewer: which rows, in which shapes."""
        lengths = input_lengths(self.examples)
        return [
            PlannedStep(
                rows, [self.layout.shape(lengths[micro]) for micro in rows],
                sum(int(lengths[micro].sum()) for micro in rows),
            )
            for rows in islice(step_rows(len(self.examples), self.config), min(count, self.total_steps))
        ]  # fmt: skip

    def stop(self) -> None:
        """Let what the GPU has been given already, at most two steps, be the last; long validations are given up."""
        self._stop_asked_s = min(self._stop_asked_s, time.perf_counter())

    @property
    def _stop(self) -> bool:
        return self._stop_asked_s < math.inf

    def pause(self) -> None:
        """Stop, to go on later: nothing is measured on the way that the whole run would not measure."""
        self._pauses = True
        self.stop()

    async def state(self) -> RunState:
        """Return the run as it is after the last step. Nothing may be in flight: for a listener of CheckpointTaken."""
        size, download = self.adapter.size, self.plans.device.download
        buffers = (self.adapter.buffer, self.plans.m, self.plans.v)
        flat = [await download(Tensor((size,), buffer, 0, buffer.label)) for buffer in buffers]
        adapter, m, v = map(self.adapter.split, flat)
        losses = np.array(self.losses, np.float32).reshape(-1, 2)
        return RunState(self.steps_done, adapter, m, v, losses, tuple(self.validation_losses))

    def restore(self, state: RunState) -> None:
        """Take the run to where it was; then `run` does the steps that follow. After `prepare`, on any device.

        Raises AdapterError where the state is no such run's.
        """
        for matrices in (state.adapter, state.m, state.v):
            self.adapter.check(matrices)
        if not 0 <= state.step <= self.total_steps:
            raise LoraLabError(f"the state is of step {state.step:,}; this run has {self.total_steps:,}")
        self.adapter.write(state.adapter)
        for buffer, matrices in ((self.plans.m, state.m), (self.plans.v, state.v)):
            self.plans.device.write(buffer, 0, self.adapter.join(matrices))
        self.steps_done = state.step
        self.losses = array("f", np.asarray(state.losses, np.float32).tobytes())
        self.validation_losses = list(state.validation)

    async def run(self, checkpoints: CheckpointTimes | None = None) -> AsyncGenerator[TrainEvent, None]:
        """Train, yielding a StepDone for each step and a ValidationDone now and then.

        With `checkpoints`, a CheckpointTaken whenever one is due, and where the run is stopped or paused before its
        end. Raises DivergedError when the loss is no longer a number, the adapter then holding the last good step, and
        when nothing is learned any more.
        """
        rows = islice(step_rows(len(self.examples), self.config), self.steps_done, None)
        every = max(1, self.total_steps // VALIDATIONS)
        divergence = Divergence(self.total_steps)
        in_flight: deque[StepInFlight] = deque()
        submitted, times = self.steps_done, StepTimes()
        if checkpoints is not None:
            checkpoints.begin(self.steps_done)
        if self._misses_validation(every) and (held_loss := await self._validate_and_keep()) is not None:
            yield ValidationDone(self.steps_done, held_loss, times.skip() * 1e3)
        try:
            while in_flight or (submitted < self.total_steps and not self._stop):
                # While the GPU works on one step the next is written and encoded, but not across a validation or a
                # checkpoint: they need the adapter as it is after their step.
                ahead = 2 if times.last_ms is not None and times.last_ms < AHEAD_BELOW_MS else 1
                needs_all = bool(self.validation) and submitted % every == 0
                waits = bool(in_flight) and (needs_all or (checkpoints is not None and checkpoints.is_due(submitted)))
                if len(in_flight) < ahead and submitted < self.total_steps and not self._stop and not waits:
                    batches = [self.make_batch(micro) for micro in next(rows)]
                    in_flight.append(await self.submit_step(batches, submitted))
                    times.spend(submitted)
                    submitted += 1
                    continue
                step = in_flight.popleft()
                loss, norm = await step.result()
                elapsed_ms = times.done(step.index, step.tokens)
                divergence.check(step.index + 1, loss, norm, step.learning_rate)
                self.steps_done = step.index + 1
                self.losses.extend((loss, norm))
                yield StepDone(
                    step=self.steps_done, total_steps=self.total_steps, loss=loss, grad_norm=norm,
                    learning_rate=step.learning_rate, trained_tokens=step.trained_tokens, tokens=step.tokens,
                    tokens_per_s=times.tokens_per_s, elapsed_ms=elapsed_ms,
                    eta_ms=times.eta_ms(self.total_steps - self.steps_done),
                )  # fmt: skip
                is_regular = self.steps_done == self.total_steps or self.steps_done % every == 0
                is_last = not in_flight and self._stop and not self._pauses
                if self.validation and (is_regular or is_last):
                    held_loss = await (self._validate_and_keep() if is_regular else self.validate())
                    elapsed_ms = times.skip() * 1e3
                    if held_loss is not None:
                        yield ValidationDone(self.steps_done, held_loss, elapsed_ms)
                is_whole = not in_flight and self.steps_done < self.total_steps
                if checkpoints is not None and is_whole and checkpoints.is_due(self.steps_done):
                    yield CheckpointTaken(await self.state())
                    checkpoints.taken(self.steps_done, times.skip())
            # Not in the loop: a stop may come at any moment, from another thread too.
            if checkpoints is not None and checkpoints.is_missing(self.steps_done, self.total_steps, self._pauses):
                yield CheckpointTaken(await self.state())
        finally:
            for step in in_flight:
                await step.result()

    def _misses_validation(self, every: int) -> bool:
        """Whether the run was taken to a step whose validation had been given up."""
        is_due = bool(self.validation) and 0 < self.steps_done < self.total_steps and self.steps_done % every == 0
        return is_due and (not self.validation_losses or self.validation_losses[-1][0] < self.steps_done)

    async def _validate_and_keep(self) -> float | None:
        loss = await self.validate()
        if loss is not None:
            self.validation_losses.append((self.steps_done, loss))
        return loss

    def make_batch(self, indices: Sequence[int]) -> Batch:
        """Return a micro-batch of these rows, laid out as the run's are."""
        return self.layout.make_batch([self.examples[i] for i in indices])

    async def train_step(self, batches: Sequence[Batch], step: int) -> tuple[float, float, float]:
        """Do optimizer step `step` (0 is the first) over micro-batches; return loss, gradient norm, learning rate.

        The loss is the mean over the trained tokens of all of them together, not a mean of their means.
        """
        submitted = await self.submit_step(batches, step)
        return (*await submitted.result(), submitted.learning_rate)

    async def submit_step(self, batches: Sequence[Batch], step: int) -> StepInFlight:
        """Give the GPU optimizer step `step` without waiting for it. At most SLOTS may be in flight."""
        rate = learning_rate(step, self.total_steps, self.config)
        plans = self.plans
        t = step + 1
        values = StepValues(
            learning_rate=rate,
            bias_correction1=1 - self.config.beta1**t,
            bias_correction2=1 - self.config.beta2**t,
            slot=step % SLOTS,
        )
        await self.accumulate(batches, values)
        reading = plans.submit_update()
        trained = sum(batch.trained_tokens for batch in batches)
        tokens = sum(batch.real_tokens for batch in batches)
        return StepInFlight(step, rate, trained, tokens, reading)

    async def accumulate(self, batches: Sequence[Batch], values: StepValues | None = None) -> None:
        """Leave the gradients of the mean loss over `batches` in the plans' gradients, and `values` in their step.

        `values` is what comes after needs; what a micro-batch needs is filled in here.
        """
        plans = self.plans
        assert plans.zero_plan is not None
        plans.device.submit(plans.zero_plan)
        values = values or StepValues()
        total = sum(batch.trained_tokens for batch in batches)
        for batch in batches:
            await self._forward(batch, True, values, total)

    async def validate(self, groups: Sequence[Sequence[Example]] | None = None) -> float | None:
        """Return the mean loss over the trained tokens of the rows held back, or of these micro-batches.

        None when it was given up, because a stop was asked for and it goes on for long.
        """
        groups = self.layout.groups(self.validation) if groups is None else groups
        total = sum(example.trained_tokens for group in groups for example in group)
        device, values = self.plans.device, StepValues()
        assert self.plans.zero_plan is not None
        device.submit(self.plans.zero_plan)
        begun = since = time.perf_counter()
        at_once, waiting = 1, 0
        for group in groups:
            await self._forward(self.layout.make_batch(group), False, values, total)
            waiting += 1
            if waiting < at_once:
                continue
            await device.finished()
            await asyncio.sleep(0)  # let a stop in
            now = time.perf_counter()
            if now - max(begun, self._stop_asked_s) > STOPPED_VALIDATION_S:
                return None
            per_batch_s = max(1e-6, (now - since) / waiting)
            at_once = max(1, min(VALIDATED_AT_ONCE, int(VALIDATED_AT_ONCE_S / per_batch_s)))
            since, waiting = now, 0
        return (await self._read_stats())[0]

    async def _forward(self, batch: Batch, grad_enabled: bool, values: StepValues, trained_tokens: int) -> None:
        """Give the GPU one micro-batch of a mean over `trained_tokens`."""
        plans = self.plans
        plan = await plans.batch_plan((batch.tokens.shape[0], batch.tokens.shape[1]), grad_enabled)
        values.inv_tokens, values.loss_rows = 1 / max(1, trained_tokens), plans.write_batch(batch)
        plans.set_step(values)
        if plan.replayed:
            plans.device.submit(plan)
        else:
            await plans.device.submit_measured(plan)

    async def _read_stats(self) -> tuple[float, float]:
        raw = await self.plans.device.read(self.plans.stats, 0, NORM_OFFSET + 4)
        values = np.frombuffer(raw, np.float32)
        return float(values[0]), float(values[NORM_OFFSET // 4])

    def close(self) -> None:
        """Give back all memory but the model's and the adapter's."""
        self.plans.close()


@dataclass(frozen=True)
class PlannedStep:
    """A step to come: the row numbers of its micro-batches, their shapes, and its tokens that are no padding."""

    rows: list[list[int]]
    shapes: list[Shape]
    tokens: int


@dataclass(frozen=True)
class StepInFlight:
    """A step that the GPU has been given; what it was made of, and where its loss will come from."""

    index: int
    learning_rate: float
    trained_tokens: int
    tokens: int
    reading: Awaitable[bytes]

    async def result(self) -> tuple[float, float]:
        """Wait for the step; return its loss and gradient norm."""
        ring = np.frombuffer(await self.reading, np.float32)
        at = 2 * (self.index % SLOTS)
        return float(ring[at]), float(ring[at + 1])


def _check(config: TrainConfig) -> None:
    wanted = {"batch": config.batch, "accumulate": config.accumulate, "max_length": config.max_length}
    if config.steps is not None:
        wanted["steps"] = config.steps
    problems = [f"{name} is {value}; it must be at least 1" for name, value in wanted.items() if value < 1]
    if not config.learning_rate > 0:
        problems.append(f"learning_rate is {config.learning_rate}; it must be above 0")
    if config.recompute not in ("auto", True, False):
        problems.append(f"recompute is {config.recompute!r}; it must be 'auto', True or False")
    if config.epochs <= 0 and config.steps is None:
        problems.append(f"epochs is {config.epochs}; it must be above 0")
    if config.packing not in ("auto", True, False):
        problems.append(f"packing is {config.packing!r}; it must be auto, True or False")
    if problems:
        raise LoraLabError("; ".join(problems))
