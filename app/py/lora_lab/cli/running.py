"""The run of `lora-lab train` itself: its steps, what is said of them, and where its adapters go.

`--out` holds the adapter that is given out: that of the step with the lowest validation loss, or with `--keep last`
that of the last step. Where these are two, the other one lies in a folder within it, `last` or `best`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from lora_lab.cli.checkpoints import CheckpointFile
from lora_lab.cli.interrupt import EXIT_INTERRUPTED
from lora_lab.cli.output import free_name, place, place_somewhere
from lora_lab.cli.run_log import RunLog
from lora_lab.cli.run_record import Recorder, Which
from lora_lab.cli.terminal import GracefulInterrupt, StepBar, say
from lora_lab.errors import DeviceError, DivergedError, LoraLabError
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.record import RunRecord
from lora_lab.evaluation.results import Kept
from lora_lab.evaluation.watch import Watch
from lora_lab.train import CheckpointTaken, CheckpointTimes, SampleAnswered, StepDone, ValidationDone

EXIT_ELSEWHERE = 1  # the adapter is kept, but not where it was asked for
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Running:
    """A run that is ready, and where its results go."""

    options: argparse.Namespace
    watch: Watch
    checkpoints: CheckpointFile
    log: RunLog | None
    adapter_files: Callable[[Tensors, RunRecord], dict[str, bytes]]  # PEFT's, with the card and the record
    recorder: Recorder
    neutral: Callable[[Tensors], Awaitable[Neutral | None]]  # what else an adapter changed; ends the run's own memory


async def run_and_save(run: Running) -> int:
    """Do the steps and save the adapters, also after a stop or an error; return the exit code."""
    trainer, checkpoints = run.watch.trainer, run.checkpoints

    def stop() -> None:
        kept = f"keeping the checkpoint of step {checkpoints.kept:,}" if checkpoints.kept else "saving nothing"
        say(f"Stopping after this step; Ctrl-C again to end at once, {kept}.")
        trainer.stop()

    with GracefulInterrupt(stop) as interrupt:
        try:
            await _run_steps(run)
        except DivergedError as error:
            _tell_end(run, error)
            await _keep_last_good(run, error)
            raise
        except DeviceError:
            _say_how_to_go_on(run)  # what was learned since was on the device and is gone with it
            raise
        except (LoraLabError, OSError) as error:
            await _save(run, error)  # a run that breaks down keeps what it has learned
            _say_how_to_go_on(run)
            raise
        _tell_end(run, None)
        is_in_place = await _save(run, None)
    if not trainer.is_complete:
        _say_how_to_go_on(run)
        return EXIT_INTERRUPTED if interrupt.asked else 0
    checkpoints.forget()
    return 0 if is_in_place else EXIT_ELSEWHERE


async def _save(run: Running, error: Exception | None) -> bool:
    """Put the adapters into their folders; return whether they are where they were asked for. `error` ended the run."""
    out, trainer, best = run.options.out, run.watch.trainer, run.watch.trainer.history.best
    if not trainer.steps_done:
        return True
    adapters: dict[Kept, Tensors] = {"last": await trainer.adapter.to_tensors()}
    steps: dict[Kept, int] = {"last": trainer.steps_done}
    kept = trainer.history.kept(run.options.keep, trainer.steps_done)
    if best is not None and best.step != trainer.steps_done:
        adapters["best"], steps["best"] = best.adapter, best.step
    is_whole = error is None and trainer.is_complete
    neutral = await run.neutral(adapters[kept]) if is_whole else None
    files = await _files(run, adapters[kept], Which(kept, steps[kept]), error, neutral)
    others: list[Kept] = [which for which in adapters if which != kept]
    for other in others:
        own = await _files(run, adapters[other], Which(other, steps[other]), error)
        files |= {f"{other}/{name}": content for name, content in own.items()}
    where = place_somewhere(out, files)
    why = ", the one with the lowest validation loss," if kept == "best" else ""
    say(f"The adapter of step {steps[kept]}{why} is in {where}")
    for other in others:
        say(f"The adapter of step {steps[other]}, the {other} one, is in {where / other}")
    return where == out


async def _files(
    run: Running, tensors: Tensors, which: Which, error: Exception | None, neutral: Neutral | None = None
) -> dict[str, bytes]:
    """Return an adapter's files, the record of the run among them."""
    results = run.watch.results(error if isinstance(error, LoraLabError) else None)
    record = await run.recorder.record(results, which, error, neutral)
    return run.adapter_files(tensors, record)


def _say_how_to_go_on(run: Running) -> None:
    if words := run.checkpoints.how_to_go_on(run.watch.trainer.total_steps):
        say(words)


async def _keep_last_good(run: Running, error: DivergedError) -> None:
    """After a run that fell apart: what is in --out stays, and a checkpoint would only lead to the same end."""
    run.checkpoints.forget()
    out, trainer = run.options.out, run.watch.trainer
    where = free_name(out.with_name(f"{out.name}-last-good"))
    if (best := trainer.history.best) is not None and trainer.history.outlives(error):
        place(where, await _files(run, best.adapter, Which("best", best.step), error))
        say(f"The adapter of step {best.step}, the best one, is in {where}")
    elif error.has_good_step and trainer.steps_done:
        tensors = await trainer.adapter.to_tensors()
        place(where, await _files(run, tensors, Which("last", trainer.steps_done), error))
        say(f"The adapter of step {trainer.steps_done}, the last good one, is in {where}")
    say(f"The run has fallen apart; {out} was not touched")


async def _run_steps(run: Running) -> None:
    trainer = run.watch.trainer
    times = CheckpointTimes(run.options.checkpoint_every, 4 * 4 * trainer.adapter.size)
    bar = StepBar(trainer.total_steps, trainer.steps_done)
    try:
        async with aclosing(run.watch.run(times)) as events:
            async for event in events:
                if isinstance(event, CheckpointTaken):
                    run.checkpoints.notes = run.recorder.notes()
                    run.checkpoints.keep(event.state)
                    continue
                if not isinstance(event, SampleAnswered):
                    run.recorder.note(event)
                if isinstance(event, StepDone):
                    bar.update(event)
                elif isinstance(event, ValidationDone):
                    say(_validation_words(event))
                else:
                    say(_answer_words(event))
                if run.log is not None and not (isinstance(event, SampleAnswered) and event.problem):
                    run.log.write(event)
    finally:
        bar.close()


def _validation_words(event: ValidationDone) -> str:
    when = f"after step {event.step}" if event.step else "before training"
    accuracy = "" if event.accuracy is None else f", accuracy {100 * event.accuracy:.1f} %"
    return f"validation {when}: loss {event.loss:.4f}, perplexity {event.perplexity:,.4g}{accuracy}"


def _answer_words(event: SampleAnswered) -> str:
    if event.problem:
        return f"Warning: {event.problem}"
    when = f"after step {event.step}" if event.step else "before training"
    return f"{when}, to {_short(event.prompt)}: {_short(event.text)}{' (cut off)' * event.is_cut}"


def _short(text: str, most: int = 120) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[: most - 1] + "…")


def _tell_end(run: Running, error: LoraLabError | None) -> None:
    """Say what there is to say of a run that has ended: why so early, what answers have cost, what is wrong with it."""
    watch = run.watch
    results = watch.results(error)
    if results.stopped_early:
        lowest = watch.trainer.history.lowest
        assert lowest is not None, "something was lower"
        say(
            f"Ended early, after step {len(results.steps):,} of {watch.trainer.total_steps:,}: the validation loss has "
            f"not fallen below the {lowest.loss:.4f} of step {lowest.step:,} for {run.options.patience} checks"
        )
    if watch.times.spent_s > 0 and math.isfinite(watch.sample_share):
        say(f"Answers took {watch.times.spent_s:.1f} s, {100 * watch.sample_share:.1f} % of the run")
    if results.verdict is not None and error is None:  # the error says the same
        say(f"Warning: {results.verdict.words}")
    if run.log is not None and (error is not None or watch.trainer.is_complete):
        run.log.write_end(results, watch.sample_share)
