"""`lora-lab train`: from the arguments to an adapter in its folder, and what is kept where that is interrupted."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lora_lab.cli.adapter_path import read_adapter_path
from lora_lab.cli.base_names import remember_base, remembered_base
from lora_lab.cli.checkpoints import CheckpointFile, checkpoint_path, load_checkpoint, native_arithmetic
from lora_lab.cli.commands import on_gpu
from lora_lab.cli.data_check import rows_to_train, within_context
from lora_lab.cli.interrupt import EXIT_INTERRUPTED
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.output import check_out, check_room, free_name, place, place_somewhere, prepare_out
from lora_lab.cli.run_log import RunLog
from lora_lab.cli.run_record import data_of, record_of
from lora_lab.cli.templates import choose_template, written_template
from lora_lab.cli.terminal import GracefulInterrupt, StepBar, run_interruptible, say
from lora_lab.config import LoraConfig, ModelConfig, TrainConfig
from lora_lab.errors import AdapterError, DeviceError, DivergedError, LoraLabError
from lora_lab.formats.peft import write_adapter
from lora_lab.model import Adapter, Model
from lora_lab.model.adapter_files import BroughtAdapter
from lora_lab.model.files import ModelFiles
from lora_lab.model.fingerprint import model_fingerprint
from lora_lab.settings import TARGETS, cautions
from lora_lab.train import (
    Checkpoint,
    CheckpointTaken,
    CheckpointTimes,
    MemoryReport,
    RunTime,
    StepDone,
    Trainer,
    measure_run,
)
from lora_lab.train.checkpoint import RunIdentity
from lora_lab.train.schedule import steps_per_epoch, total_steps

EXIT_ELSEWHERE = 1  # the adapter is kept, but not where it was asked for
# Of the adapter's bytes, what a run may need on the disk: a checkpoint has the adapter and both moments; there may be
# one, the next one beside it, and the adapter itself.
ROOM_FOR_A_RUN, ROOM_FOR_THE_REST = 7, 1 << 20
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stopped:
    """A run to go on with: its checkpoint, and the file that holds it."""

    checkpoint: Checkpoint
    path: Path


def train(options: argparse.Namespace, config: TrainConfig) -> int:
    """Train an adapter and save it. After one Ctrl-C: save what was learned and return 130."""
    check_out(options.out)
    stopped = None
    if options.resume is not None:
        path = checkpoint_path(options.out) if options.resume is True else options.resume
        stopped = Stopped(load_checkpoint(path), path)
    with ExitStack() as stack:
        log = None
        if not options.dry_run:
            # Both early: a wrong path is better found before an hour of training than after it.
            prepare_out(options.out)
            log = stack.enter_context(RunLog(options.log, stopped is not None)) if options.log else None
        found = find_model(options.model, [*options.data, *(options.val_file or [])])
        return run_interruptible(_train(options, config, log, found, stopped))


async def _train(
    options: argparse.Namespace, config: TrainConfig, log: RunLog | None, found: FoundModel, stopped: Stopped | None
) -> int:
    opened = await open_found(found)
    initial = await read_adapter_path(options.init_adapter, opened.files.config) if options.init_adapter else None
    lora = _lora_config(options, opened.files.config, initial)
    base = options.base_model or found.base or opened.files.hub_id or remembered_base(found.sources)
    base = base or (initial.base_model if initial else None)
    if options.base_model:
        remember_base(found.sources, options.base_model)
    elif base is None and not options.dry_run:
        say("The adapter will name no base model: --base-model OWNER/NAME says what yours is called on huggingface.co")
    config = replace(config, max_length=within_context(config.max_length, opened.files.config))
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, options.init_adapter)
    examples, validation = await rows_to_train(options, opened.tokenizer, template, config)
    for words in run_cautions(lora, config, len(examples)):
        say(f"Warning: {words}")

    data = () if options.dry_run else data_of(options.data)
    async with on_gpu(opened.files, options.gpu) as model:
        if initial is None:
            adapter = Adapter.create(model.device, model.config, lora, config.seed)
        else:
            adapter = Adapter.from_tensors(model.device, model.config, lora, initial.tensors)
        trainer = Trainer(model, adapter, examples, config, validation=validation)
        parts = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in trainer.memory.parts.items())
        say(f"GPU memory: {trainer.memory.total_bytes / 2**20:,.1f} MiB ({parts}){_recomputes(trainer.memory)}")
        if trainer.layout.packed and trainer.layout.saved > 0:
            say(f"Packing saves {100 * trainer.layout.saved:.0f} % of the computing, all of it padding")
        if options.dry_run:
            await trainer.prepare()
            say(_described(await measure_run(trainer), trainer.total_steps))
            return 0

        check_room(options.out, ROOM_FOR_A_RUN * 4 * adapter.size + ROOM_FOR_THE_REST)
        checkpoints = await _checkpoint_file(
            options.out, opened.files, model, trainer, initial.tensors if initial else None, stopped
        )
        await trainer.prepare()
        if stopped is not None:
            trainer.restore(stopped.checkpoint.state)
            say(f"Going on after step {trainer.steps_done:,} of {trainer.total_steps:,}")
            if log is not None:
                log.go_on_after(trainer.steps_done)

        async def adapter_files() -> dict[str, bytes]:
            tensors, own = await adapter.to_tensors(), written_template(template, opened.files)
            return write_adapter(tensors, lora, model.config, base, own, record_of(base, data, lora, trainer))

        return await _run_and_save(Running(options, trainer, checkpoints, log, adapter_files))


async def _checkpoint_file(
    out: Path, files: ModelFiles, model: Model, trainer: Trainer, initial: Tensors | None, stopped: Stopped | None
) -> CheckpointFile:
    """Return where the run's checkpoints go. CheckpointError where it is not the run that was stopped."""
    identity = RunIdentity.of(
        files.name, await model_fingerprint(files), trainer.examples, trainer.validation, trainer.adapter.config,
        trainer.config, trainer.total_steps, initial,
    )  # fmt: skip
    arithmetic = native_arithmetic(model.device.info, trainer.plans.fingerprint())
    path, kept = checkpoint_path(out), 0
    if stopped is not None:
        stopped.checkpoint.refuse_other(identity, str(stopped.path))
        if differences := stopped.checkpoint.arithmetic.differences(arithmetic):
            say(f"Warning: {'; '.join(differences)}: the run goes on, but not bit for bit as it would have there")
        kept = stopped.checkpoint.state.step if stopped.path.resolve() == path else 0
    elif path.exists():
        say(f"{path} holds a run that was stopped; --resume goes on with it. This one begins anew, and moves that file "
            f"to {path.name}.before when it has a checkpoint itself")  # fmt: skip
    return CheckpointFile(path, identity, arithmetic, kept)


def run_cautions(lora: LoraConfig, config: TrainConfig, num_examples: int) -> tuple[str, ...]:
    """Return what deserves a second thought before a run."""
    passes = total_steps(num_examples, config) / steps_per_epoch(num_examples, config)
    return cautions({**vars(config), **vars(lora), "epochs": passes, "scale": lora.scale})


def _recomputes(memory: MemoryReport) -> str:
    count = memory.recomputed_layers
    return f"; recomputes {count} of {memory.layers} layers" if count else ""


def _described(timed: RunTime, steps: int) -> str:
    """Return one line about the time of a run."""
    seconds = round(timed.total_ms(steps) / 1e3)
    minutes, rest = divmod(seconds, 60)
    whole = f"{seconds} s" if minutes < 1 else f"{minutes} min {rest:02} s"
    return (
        f"{steps:,} steps take about {whole} (measured: {timed.step_ms:,.3g} ms a step, "
        f"{timed.tokens_per_s:,.0f} tokens/s)"
    )


# ---------------------------------------------------------------------------------------------------- the run itself


@dataclass(frozen=True)
class Running:
    """A run that is ready, and where its results go."""

    options: argparse.Namespace
    trainer: Trainer
    checkpoints: CheckpointFile
    log: RunLog | None
    adapter_files: Callable[[], Awaitable[dict[str, bytes]]]


async def _run_and_save(run: Running) -> int:
    """Do the steps and save the adapter, also after a stop or an error; return the exit code."""
    out, trainer, checkpoints = run.options.out, run.trainer, run.checkpoints

    def stop() -> None:
        kept = f"keeping the checkpoint of step {checkpoints.kept:,}" if checkpoints.kept else "saving nothing"
        say(f"Stopping after this step; Ctrl-C again to end at once, {kept}.")
        trainer.stop()

    async def save() -> bool:
        """Return whether the adapter is where it was asked for."""
        if not trainer.steps_done:
            return True
        where = place_somewhere(out, await run.adapter_files())
        say(f"The adapter of step {trainer.steps_done} is in {where}")
        return where == out

    with GracefulInterrupt(stop) as interrupt:
        try:
            await _run_steps(run)
        except DivergedError as error:
            await _keep_last_good(run, error)
            raise
        except DeviceError:
            _say_how_to_go_on(run)  # what was learned since was on the device and is gone with it
            raise
        except (LoraLabError, OSError):
            await save()  # a run that breaks down keeps what it has learned
            _say_how_to_go_on(run)
            raise
        is_in_place = await save()
    if trainer.steps_done < trainer.total_steps:
        _say_how_to_go_on(run)
        return EXIT_INTERRUPTED if interrupt.asked else 0
    checkpoints.forget()
    return 0 if is_in_place else EXIT_ELSEWHERE


def _say_how_to_go_on(run: Running) -> None:
    if words := run.checkpoints.how_to_go_on(run.trainer.total_steps):
        say(words)


async def _keep_last_good(run: Running, error: DivergedError) -> None:
    """After a run that fell apart: what is in --out stays, and a checkpoint would only lead to the same end."""
    run.checkpoints.forget()
    out = run.options.out
    if error.has_good_step and run.trainer.steps_done:
        where = free_name(out.with_name(f"{out.name}-last-good"))
        place(where, await run.adapter_files())
        say(f"The adapter of step {run.trainer.steps_done}, the last good one, is in {where}")
    say(f"The run has fallen apart; {out} was not touched")


async def _run_steps(run: Running) -> None:
    trainer = run.trainer
    size_bytes = 3 * 4 * trainer.adapter.size
    times = CheckpointTimes(run.options.checkpoint_every, size_bytes)
    bar = StepBar(trainer.total_steps, trainer.steps_done)
    try:
        async with aclosing(trainer.run(times)) as events:
            async for event in events:
                if isinstance(event, CheckpointTaken):
                    run.checkpoints.keep(event.state)
                    continue
                if isinstance(event, StepDone):
                    bar.update(event)
                else:
                    say(f"validation after step {event.step}: loss {event.loss:.4f}")
                if run.log is not None:
                    run.log.write(event)
    finally:
        bar.close()


def _lora_config(options: argparse.Namespace, model: ModelConfig, initial: BroughtAdapter | None) -> LoraConfig:
    """Return the adapter's settings: those of --init-adapter where it is given."""
    given = {"rank": options.rank, "alpha": options.alpha, "targets": options.targets}
    given = {name: value for name, value in given.items() if value is not None}
    if initial is None:
        targets = model.linear_names if options.targets in (None, TARGETS.default) else options.targets
        if unknown := sorted(set(targets) - set(model.linear_names)):
            wanted = ", ".join(model.linear_names)
            raise AdapterError(f"--targets {', '.join(unknown)}: no such layer in this model; wanted some of {wanted}")
        return LoraConfig(**{**given, "targets": targets})
    problems = []
    for name, wanted in given.items():
        found = getattr(initial.lora, name)
        same = set(found) == set(wanted) if name == "targets" else found == wanted
        if not same:
            problems.append(f"--{name} {_plain(wanted)}, but {options.init_adapter} has {_plain(found)}")
    if problems:
        raise AdapterError("\n".join([*problems, "Leave these options away to go on from that adapter."]))
    return initial.lora


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
