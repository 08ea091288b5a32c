"""`lora-lab train`: from the arguments to an adapter in its folder, and what is kept where that is interrupted."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lora_lab.cli.adapter_path import read_adapter_path
from lora_lab.cli.base_names import remember_base, remembered_base
from lora_lab.cli.checkpoints import CheckpointFile, checkpoint_path, load_checkpoint, native_arithmetic
from lora_lab.cli.commands import on_gpu
from lora_lab.cli.data_check import rows_to_train, within_context
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.neutral import measured, measures_neutral, mixed_with_neutral
from lora_lab.cli.output import check_out, check_room, prepare_out
from lora_lab.cli.run_log import RunLog
from lora_lab.cli.run_record import ModelSaid, Recorder
from lora_lab.cli.running import Running, run_and_save
from lora_lab.cli.templates import choose_template, written_template
from lora_lab.cli.terminal import run_interruptible, say
from lora_lab.config import LoraConfig, ModelConfig, TrainConfig
from lora_lab.errors import AdapterError
from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.neutral import Neutral
from lora_lab.evaluation.prompts import Prompt
from lora_lab.evaluation.record import RunRecord, record_bytes
from lora_lab.evaluation.sampler import Sampler, sampler_bytes
from lora_lab.evaluation.watch import Watch
from lora_lab.formats.peft import write_adapter
from lora_lab.model import Adapter, Model
from lora_lab.model.adapter_files import BroughtAdapter
from lora_lab.model.files import ModelFiles
from lora_lab.model.fingerprint import model_fingerprint
from lora_lab.settings import TARGETS, cautions
from lora_lab.train import (
    Checkpoint,
    MemoryReport,
    RunTime,
    Trainer,
    measure_run,
)
from lora_lab.train.checkpoint import RunIdentity
from lora_lab.train.schedule import steps_per_epoch, total_steps

# Of the adapter's bytes, what a run may need on the disk: a checkpoint has the adapter, the best one and both moments;
# there may be one, the next one beside it, and the last and the best adapter themselves.
ROOM_FOR_A_RUN, ROOM_FOR_THE_REST = 10, 1 << 20
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
    rows = await rows_to_train(options, opened.tokenizer, template, config)
    rows = mixed_with_neutral(options, rows, opened.tokenizer, template, config)
    for words in run_cautions(lora, config, len(rows.trained)):
        say(f"Warning: {words}")
    if options.patience and not rows.held:
        say("Warning: --patience does nothing without rows held back: give --val-fraction or --val-file")

    async with on_gpu(opened.files, options.gpu) as model:
        if initial is None:
            adapter = Adapter.create(model.device, model.config, lora, config.seed)
        else:
            adapter = Adapter.from_tensors(model.device, model.config, lora, initial.tensors)
        trainer = Trainer(model, adapter, rows.trained, config, validation=rows.held)
        prompts = tuple(map(Prompt.of_text, options.sample_prompt)) or rows.prompts
        asks = options.sample_every != 0 and bool(prompts) and template is not None
        memory = trainer.memory.with_part("samples", sampler_bytes(trainer)) if asks else trainer.memory
        parts = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in memory.parts.items())
        say(f"GPU memory: {memory.total_bytes / 2**20:,.1f} MiB ({parts}){_recomputes(memory)}")
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

        def adapter_files(tensors: Tensors, record: RunRecord) -> dict[str, bytes]:
            own, run = written_template(template, opened.files), card_facts(record, record_bytes(record))
            return write_adapter(tensors, lora, model.config, base, own, run)

        async def neutral(tensors: Tensors) -> Neutral | None:
            if not measures_neutral(options, model.device):
                return None
            adapter.write(tensors)
            return await measured(model, adapter, opened.tokenizer, template, trainer)

        sampler = None
        if asks:
            assert template is not None
            sampler = Sampler(trainer, opened.tokenizer, template)
            sampler.allocate()
        watch = Watch(
            trainer, sampler=sampler, prompts=prompts, sample_every=options.sample_every, keep=options.keep,
            patience=options.patience,
        )  # fmt: skip
        before = stopped.checkpoint.notes if stopped else None
        recorder = Recorder(options, trainer, rows, ModelSaid(opened.files, base), before)
        return await run_and_save(Running(options, watch, checkpoints, log, adapter_files, recorder, neutral))


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
