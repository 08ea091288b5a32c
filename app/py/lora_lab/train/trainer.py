"""The training loop. It yields events; what is done with them is somebody else's business."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..config import TrainConfig
from ..data.tokens.batches import Batch, Example
from ..data.tokens.examples import input_lengths
from ..data.tokens.packing import Layout
from ..errors import DatasetError, LoraLabError
from ..gpu.device import Progress
from ..gpu.plan import Tensor
from ..model.lora import Adapter
from ..model.transformer import Model
from ..ops.step import StepValues
from ..settings import MOST_STEPS
from .checkpoint import CheckpointTimes, RunState
from .divergence import Divergence
from .evaluate import Evaluated, evaluate
from .events import CheckpointTaken, MemoryReport, SamplesDue, StepDone, TrainEvent, ValidationDone
from .history import Best, History, ValidationPoint
from .plans import NORM_OFFSET, SLOTS, TrainPlans
from .sample_times import SampleTimes
from .schedule import learning_rate, run_layout, step_rows, total_steps
from .step_times import StepTimes
from .steps import PlannedStep, StepInFlight

VALIDATIONS = 10  # of a run, besides the one at its end
AHEAD_BELOW_MS = 250.0  # slower steps wait for one another: little is hidden, and a stop comes sooner
AHEAD_STEPS, AHEAD_SHAPES = 500, 6  # steps looked at for the shapes whose kernels are compiled ahead


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
        self.history = History()  # of the validations
        self.watched: dict[str, Any] = {}  # what a listener keeps with the run's state, as JSON takes it
        self.stopped_early = False  # because the validation loss fell no more
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
    def stop_asked(self) -> bool:
        """Whether the run is to end, or to be paused, before its last step."""
        return self._stop_asked_s < math.inf

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the run is left to do."""
        return self.stopped_early or self.steps_done == self.total_steps

    @property
    def validation_losses(self) -> list[tuple[int, float]]:
        """(step, loss) of every validation that belongs to the run."""
        return self.history.losses

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
        points, best = tuple(self.history.points), self.history.best
        return RunState(self.steps_done, adapter, m, v, losses, points, best, dict(self.watched))

    def restore(self, state: RunState) -> None:
        """Take the run to where it was; then `run` does the steps that follow. After `prepare`, on any device.

        Raises AdapterError where the state is no such run's.
        """
        for matrices in (state.adapter, state.m, state.v, *([state.best.adapter] if state.best else [])):
            self.adapter.check(matrices)
        if not 0 <= state.step <= self.total_steps:
            raise LoraLabError(f"the state is of step {state.step:,}; this run has {self.total_steps:,}")
        self.adapter.write(state.adapter)
        for buffer, matrices in ((self.plans.m, state.m), (self.plans.v, state.v)):
            self.plans.device.write(buffer, 0, self.adapter.join(matrices))
        self.steps_done = state.step
        self.losses = array("f", np.asarray(state.losses, np.float32).tobytes())
        self.history.restore(state.validation, state.best)
        self.watched = dict(state.watched)

    async def run(
        self, checkpoints: CheckpointTimes | None = None, samples: SampleTimes | None = None, patience: int = 0,
        *, from_start: bool = False,
    ) -> AsyncGenerator[TrainEvent, None]:  # fmt: skip
        """Train, yielding a StepDone for each step and a ValidationDone now and then, with `from_start` at once too.

        With `checkpoints`, a CheckpointTaken whenever one is due, and where the run is stopped or paused before its
        end; with `samples`, a SamplesDue whenever the model is to be asked. Ends early once the validation loss has
        fallen no more for `patience` validations (0: never). Raises DivergedError when the loss is no longer a number,
        the adapter then holding the last good step, and when nothing is learned any more.
        """
        rows = islice(step_rows(len(self.examples), self.config), self.steps_done, None)
        every = max(1, self.total_steps // VALIDATIONS)
        divergence = Divergence(self.total_steps)
        in_flight: deque[StepInFlight] = deque()
        submitted, times = self.steps_done, StepTimes()
        if checkpoints is not None:
            checkpoints.begin(self.steps_done)
        if samples is not None:
            samples.begin()
        if self._misses_validation(every, from_start) and (held := await self._validate_and_keep()) is not None:
            yield _told(held, times.skip() * 1e3)
        # Where it goes on from a pause too: those of that step were left out, for whoever paused did not want to wait.
        if samples is not None and not self.stop_asked and samples.is_due(self.steps_done, self.total_steps):
            yield SamplesDue(self.steps_done)
            samples.taken(self.steps_done, times.skip())
        try:
            while in_flight or (submitted < self.total_steps and not self.stop_asked and not self.stopped_early):
                # While the GPU works on one step the next is written and encoded, but not across a validation, a
                # checkpoint or samples: they need the adapter as it is after their step.
                ahead = 2 if times.last_ms is not None and times.last_ms < AHEAD_BELOW_MS else 1
                needs_all = bool(self.validation) and submitted % every == 0
                needs_all = needs_all or (checkpoints is not None and checkpoints.is_due(submitted))
                needs_all = needs_all or (samples is not None and samples.is_due(submitted, self.total_steps))
                waits = bool(in_flight) and needs_all
                if len(in_flight) < ahead and submitted < self.total_steps and not self.stop_asked and not waits:
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
                is_last = not in_flight and self.stop_asked and not self._pauses
                if self.validation and (is_regular or is_last):
                    held = await (self._validate_and_keep() if is_regular else self._validate_at_the_end())
                    elapsed_ms = times.skip() * 1e3
                    if held is not None:
                        yield _told(held, elapsed_ms)
                    is_over = is_regular and self.history.is_over(patience)
                    self.stopped_early = is_over and self.steps_done < self.total_steps
                is_whole = not in_flight and not self.is_complete
                asks = samples is not None and not in_flight and not self.stop_asked
                end = self.steps_done if self.stopped_early else self.total_steps
                if samples is not None and asks and samples.is_due(self.steps_done, end):
                    yield SamplesDue(self.steps_done)
                    samples.taken(self.steps_done, times.skip())
                if checkpoints is not None and is_whole and checkpoints.is_due(self.steps_done):
                    yield CheckpointTaken(await self.state())
                    checkpoints.taken(self.steps_done, times.skip())
            # Not in the loop: a stop may come at any moment, from another thread too.
            is_missing = checkpoints is not None and not self.is_complete
            if checkpoints is not None and is_missing and checkpoints.is_missing(
                self.steps_done, self.total_steps, self._pauses
            ):  # fmt: skip
                yield CheckpointTaken(await self.state())
        finally:
            for step in in_flight:
                await step.result()

    def _misses_validation(self, every: int, from_start: bool) -> bool:
        """Whether the run stands at a step whose validation was given up, or at its beginning."""
        step, points = self.steps_done, self.history.points
        if not self.validation or (points and points[-1].step >= step):
            return False
        return from_start if step == 0 else step < self.total_steps and step % every == 0

    async def _validate_and_keep(self) -> ValidationPoint | None:
        """Do a validation that belongs to the run; keep the adapter where it is the best so far."""
        found = await self.validate()
        if found is None:
            return None
        history, step = self.history, self.steps_done
        history.points.append(point := ValidationPoint(step, found.loss, found.accuracy))
        if history.newest_is_lowest():
            flat = await self.plans.device.download(self.adapter.params)
            history.best = Best(step, found.loss, self.adapter.split(flat))
        return point

    async def _validate_at_the_end(self) -> ValidationPoint | None:
        """Do the validation of a stop, which a run that goes on does not have."""
        if (found := await self.validate()) is None:
            return None
        self.history.final = ValidationPoint(self.steps_done, found.loss, found.accuracy)
        return self.history.final

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
            await plans.forward(batch, True, values, total)

    async def validate(self, groups: Sequence[Sequence[Example]] | None = None) -> Evaluated | None:
        """Measure the rows held back, or these micro-batches.

        None when it was given up, because a stop was asked for and it goes on for long.
        """
        groups = self.layout.groups(self.validation) if groups is None else groups
        return await evaluate(self.plans, self.layout, groups, lambda: self._stop_asked_s)

    async def _read_stats(self) -> tuple[float, float]:
        raw = await self.plans.device.read(self.plans.stats, 0, NORM_OFFSET + 4)
        values = np.frombuffer(raw, np.float32)
        return float(values[0]), float(values[NORM_OFFSET // 4])

    def close(self) -> None:
        """Give back all memory but the model's and the adapter's."""
        self.plans.close()


def _told(point: ValidationPoint, elapsed_ms: float) -> ValidationDone:
    return ValidationDone(point.step, point.loss, elapsed_ms, point.accuracy)


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
