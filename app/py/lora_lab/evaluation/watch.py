"""A run that is watched: its events as they come, answers of the model in between, and what it has shown in the end."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, overload

from ..errors import DeviceError, KernelError, LoraLabError, OutOfMemoryError
from ..train import (
    CheckpointTaken,
    CheckpointTimes,
    SampleAnswered,
    SamplesDue,
    SampleTimes,
    StepDone,
    Trainer,
    ValidationDone,
)
from ..train.evaluate import perplexity
from ..train.schedule import learning_rate
from .prompts import Prompt
from .results import Answer, Kept, RunResults, SampleResult, StepResult, ValidationResult
from .sampler import NEW_TOKENS, Sampler
from .verdict import judge

WatchEvent = StepDone | ValidationDone | CheckpointTaken | SampleAnswered


class Watch:
    """Runs a trainer, which is prepared (and restored, where it goes on), and watches it."""

    def __init__(
        self, trainer: Trainer, *, sampler: Sampler | None = None, prompts: Sequence[Prompt] = (),
        sample_every: int | None = None, keep: Kept = "best", patience: int = 0,
    ) -> None:  # fmt: skip
        """`sampler`, which is allocated, answers `prompts` every `sample_every` steps (None: as often as costs 5 %).

        `prompts` may be changed while the run goes on.
        """
        self.trainer, self.prompts = trainer, tuple(prompts)
        self._sampler, self._keep, self._patience = sampler, keep, patience
        self.times = SampleTimes(sample_every if sampler is not None else 0, NEW_TOKENS * len(self.prompts))
        self._answers: dict[str, tuple[str | None, list[Answer]]] = {}  # by the prompt: what is expected, what was said
        self._first_timed = 0  # step whose times are the first ones known
        self._times = array("d")  # tokens/s and milliseconds of each step since
        self._run_ms = 0.0

    async def run(self, checkpoints: CheckpointTimes | None = None) -> AsyncGenerator[WatchEvent, None]:
        """Do the run, or what is left of it. Raises what Trainer.run does."""
        self.remember()
        trainer = self.trainer
        self._first_timed = trainer.steps_done
        run = trainer.run(checkpoints, self.times, self._patience, from_start=True)
        async with aclosing(run) as events:
            async for event in events:
                if isinstance(event, SamplesDue):
                    async with aclosing(self._ask(event.step)) as answers:
                        async for answer in answers:
                            yield answer
                    continue
                if isinstance(event, StepDone):
                    self.times.step_took(event.elapsed_ms / 1e3, event.tokens)
                    self._times.extend((event.tokens_per_s, event.elapsed_ms))
                if isinstance(event, StepDone | ValidationDone):
                    self._run_ms += event.elapsed_ms
                assert not isinstance(event, SampleAnswered), "a trainer asks nothing itself"
                yield event

    async def _ask(self, step: int) -> AsyncGenerator[SampleAnswered, None]:
        """Ask every prompt. What cannot be asked is told of, and is not asked again."""
        sampler, prompts = self._sampler, self.prompts
        if sampler is None or not prompts:
            return
        ends_s = self.times.allowed_s + time.perf_counter() if self.times.every_steps is None else math.inf
        try:
            self.times.once_s = await sampler.begin()
            for index, prompt in enumerate(prompts):
                limit_s = (ends_s - time.perf_counter()) / (len(prompts) - index)
                try:
                    said = await sampler.answer(prompt, limit_s, lambda: self.trainer.stop_asked)
                except DeviceError:
                    raise
                except LoraLabError as error:
                    self.prompts = tuple(one for one in self.prompts if one != prompt)
                    yield SampleAnswered(step, index, prompt.prompt, prompt.expected, "", problem=str(error))
                    continue
                if said is None:
                    break
                self._answers.setdefault(prompt.prompt, (prompt.expected, []))[1].append(Answer(step, said.text))
                yield SampleAnswered(step, index, prompt.prompt, prompt.expected, said.text, said.is_cut)
        except DeviceError as error:
            await self._refuse_lost(error)
            self._sampler, self.times.every_steps = None, 0
            sampler.close()
            yield SampleAnswered(step, 0, "", None, "", problem=f"No answers while it learns: {error}")
        self.trainer.watched["samples"] = [
            [prompt, expected, [[one.step, one.text] for one in said]]
            for prompt, (expected, said) in self._answers.items()
        ]

    async def _refuse_lost(self, error: DeviceError) -> None:
        """Raise an error of the GPU itself. One of the answers alone is no reason to end a run, which has its own."""
        device = self.trainer.model.device
        if not isinstance(error, KernelError | OutOfMemoryError):
            await device.finished()
            if device.lost_reason is not None:
                raise error

    def remember(self) -> list[SampleAnswered]:
        """Take up what was answered before the run was interrupted, and return it, in order."""
        found: list[SampleAnswered] = []
        for index, (prompt, expected, said) in enumerate(kept_answers(self.trainer.watched)):
            self._answers[prompt] = (expected, said)
            found += [SampleAnswered(one.step, index, prompt, expected, one.text) for one in said]
        if found:
            self.times.last_step = max(one.step for one in found)
        return sorted(found, key=lambda one: (one.step, one.index))

    @property
    def sample_share(self) -> float:
        """The share of the run's time that answers have taken."""
        spent_ms = 1e3 * self.times.spent_s
        return spent_ms / max(1e-9, spent_ms + self._run_ms)

    def results(self, error: LoraLabError | None = None) -> RunResults:
        """Return what the run has shown up to now, and judge it; `error` is what it ended with."""
        trainer, history = self.trainer, self.trainer.history
        steps = RunSteps(trainer, self._first_timed, self._times)
        validation = tuple(
            ValidationResult(point.step, point.loss, perplexity(point.loss), point.accuracy)
            for point in (*history.points, *([history.final] if history.final else []))
        )
        samples = tuple(
            SampleResult(prompt, expected, tuple(said)) for prompt, (expected, said) in self._answers.items()
        )
        kept = history.kept(self._keep, trainer.steps_done)
        best = history.best
        verdict = judge(steps, validation, samples, trainer.model.config.vocab_size, error)
        return RunResults(
            steps, validation, samples, verdict, best.step if best else None, kept,
            best.step if best and kept == "best" else trainer.steps_done, trainer.stopped_early,
        )  # fmt: skip


class RunSteps(Sequence[StepResult]):
    """A run's steps: two numbers of each are kept, and those of its times where they are known."""

    def __init__(self, trainer: Trainer, first_timed: int, times: array) -> None:
        """`times`: tokens/s and milliseconds of each step behind the first `first_timed`."""
        self._losses, self._count = trainer.losses, trainer.steps_done
        self._total, self._config = trainer.total_steps, trainer.config
        self._first_timed, self._times = first_timed, times

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> StepResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[StepResult]: ...
    def __getitem__(self, index: int | slice) -> StepResult | list[StepResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        loss, norm = self._losses[2 * index : 2 * index + 2]
        at = 2 * (index - self._first_timed)
        tokens_per_s, elapsed_ms = self._times[at : at + 2] if 0 <= at < len(self._times) else (None, None)
        rate = learning_rate(index, self._total, self._config)
        return StepResult(index + 1, loss, norm, rate, tokens_per_s, elapsed_ms)


def kept_answers(watched: dict[str, Any]) -> list[tuple[str, str | None, list[Answer]]]:
    """Return what a checkpoint holds of answers: prompt, what is expected, what was said.

    Nothing where others have written it otherwise: a run does not depend on it.
    """
    found = []
    try:
        for prompt, expected, said in watched.get("samples", []):
            answers = [Answer(int(step), str(text)) for step, text in said]
            found.append((str(prompt), None if expected is None else str(expected), answers))
    except (TypeError, ValueError, OverflowError):
        return []
    return found
