"""What each command of the command line does. The arguments are checked by then; see cli.py."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from lora_lab.cli.data_check import rows_to_train, within_context
from lora_lab.cli.interrupt import EXIT_INTERRUPTED, interrupts
from lora_lab.cli.templates import choose_template, written_template
from lora_lab.cli.terminal import ByteBar, GracefulInterrupt, StepBar, run_interruptible, say
from lora_lab.config import LoraConfig, ModelConfig, SamplingConfig, TrainConfig
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.errors import AdapterError, DeviceError, LoraLabError, ModelError
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import TEMPLATE_FILE, read_adapter, write_adapter
from lora_lab.formats.peft_config import CONFIG_FILE
from lora_lab.formats.zipping import unpack_adapter
from lora_lab.generate import ChatEngine, logits
from lora_lab.gpu import Device, list_adapters, open_device
from lora_lab.model import Adapter, Model, load_model
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.settings import TARGETS, cautions
from lora_lab.train import MemoryReport, RunTime, StepDone, Trainer, TrainEvent, measure_run
from lora_lab.train.schedule import steps_per_epoch, total_steps

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def list_gpus() -> int:
    """Print every GPU, the best first. Raises DeviceError when there is none."""
    interrupts.check()
    adapters = list_adapters()
    interrupts.check()
    if not adapters:
        raise DeviceError("no GPU was found; a Vulkan, Metal or Direct3D 12 driver is needed")
    for adapter in adapters:
        kind = ", software" if adapter.is_software else ""
        print(f"{adapter.name} ({adapter.backend}{kind})")
    return 0


# ---------------------------------------------------------------------------------------------------- what all share


@dataclass(frozen=True)
class Opened:
    """A model's files with what is made from the small ones. Nothing of it is on the GPU."""

    files: ModelFiles
    tokenizer: Tokenizer


async def _open(path: Path) -> Opened:
    if not path.exists():
        raise ModelError(f"{path} does not exist; wanted a .gguf file or a Hugging Face folder")
    files = await open_model(sources_from_path(path))
    return Opened(files, load_tokenizer(files.tokenizer))


@asynccontextmanager
async def _on_gpu(files: ModelFiles, adapter_name: str | None) -> AsyncIterator[Model]:
    """Open the device that was asked for and bring the model to it."""
    device: Device = await open_device(adapter_name)
    try:
        slow = ", a software device: slow" if device.info.is_software else ""
        say(f"GPU: {device.info.name} ({device.info.backend}{slow})")
        bar = ByteBar(files.name)
        try:
            model = await load_model(device, files, on_progress=bar)
        finally:
            bar.close()
        yield model
    finally:
        await device.close()


def read_adapter_path(path: Path, model: ModelConfig) -> tuple[LoraConfig, dict[str, np.ndarray]]:
    """Read a PEFT adapter, a folder or a zip, and check it against the model. Raises AdapterError naming the path."""
    if path.is_dir():
        files = {name: (path / name).read_bytes() for name in ADAPTER_FILES if (path / name).is_file()}
    elif path.is_file():
        files = unpack_adapter(path.read_bytes())
    else:
        raise AdapterError(f"{path} does not exist; wanted a PEFT adapter's folder, or a zip of it")
    try:
        return read_adapter(files, model)
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from error


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes `target`'s place only when it is whole."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    interrupts.unfinished.add(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        umask = os.umask(0)  # mkstemp gives 0600; the person expects what any other program would give
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
        interrupts.unfinished.discard(name)


# ---------------------------------------------------------------------------------------------------- train


def train(options: argparse.Namespace, config: TrainConfig) -> int:
    """Train an adapter and save it. After one Ctrl-C: save what was learned and return 130."""
    if options.out.exists() and not options.out.is_dir():
        raise LoraLabError(f"--out {options.out} is a file; wanted a folder")
    with ExitStack() as stack:
        log = None
        if not options.dry_run:
            # Both early: a wrong path is better found before an hour of training than after it.
            options.out.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(options.log.open("w", encoding="utf-8")) if options.log else None
        return run_interruptible(_train(options, config, log))


async def _train(options: argparse.Namespace, config: TrainConfig, log: IO[str] | None) -> int:
    opened = await _open(options.model)
    lora, initial = _lora_config(options, opened.files.config)
    config = replace(config, max_length=within_context(config.max_length, opened.files.config))
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, options.init_adapter)
    examples, validation = await rows_to_train(options, opened.tokenizer, template, config)
    for words in run_cautions(lora, config, len(examples)):
        say(f"Warning: {words}")

    async with _on_gpu(opened.files, options.adapter_name) as model:
        if initial is None:
            adapter = Adapter.create(model.device, model.config, lora, config.seed)
        else:
            adapter = Adapter.from_tensors(model.device, model.config, lora, initial)
        trainer = Trainer(model, adapter, examples, config, validation=validation)
        parts = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in trainer.memory.parts.items())
        say(f"GPU memory: {trainer.memory.total_bytes / 2**20:,.1f} MiB ({parts}){_recomputes(trainer.memory)}")
        if trainer.layout.packed and trainer.layout.saved > 0:
            say(f"Packing saves {100 * trainer.layout.saved:.0f} % of the computing, all of it padding")
        await trainer.prepare()
        if options.dry_run:
            say(_described(await measure_run(trainer), trainer.total_steps))
            return 0

        def stop() -> None:
            say("Stopping after this step; Ctrl-C again to end at once, saving nothing.")
            trainer.stop()

        async def save() -> None:
            if trainer.steps_done:
                tensors, own = await adapter.to_tensors(), written_template(template, opened.files)
                _write_adapter(options.out, write_adapter(tensors, lora, model.config, _base_model(options), own))
                say(f"The adapter of step {trainer.steps_done} is in {options.out}")

        with GracefulInterrupt(stop) as interrupt:
            try:
                await _run_steps(trainer, log)
            except DeviceError:
                raise  # what was learned was on the device and is gone with it
            except (LoraLabError, OSError):
                await save()  # a run that breaks down keeps what it has learned
                raise
            await save()
        if interrupt.asked and trainer.steps_done < trainer.total_steps:
            return EXIT_INTERRUPTED
    return 0


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


def _write_adapter(folder: Path, files: dict[str, bytes]) -> None:
    if (folder / CONFIG_FILE).exists() and not (folder / "config.json").exists():
        (folder / TEMPLATE_FILE).unlink(missing_ok=True)  # an earlier adapter's: it would be taken for this one's
    for name, content in files.items():
        with _replacing(folder / name) as out:
            out.write(content)


async def _run_steps(trainer: Trainer, log: IO[str] | None) -> None:
    bar = StepBar(trainer.total_steps)
    try:
        async with aclosing(trainer.run()) as events:
            async for event in events:
                values = _told(event, bar)
                if log is not None:
                    log.write(json.dumps(values) + "\n")
                    log.flush()
    finally:
        bar.close()


def _told(event: TrainEvent, bar: StepBar) -> dict[str, float]:
    """Show an event and return what the log says of it."""
    if isinstance(event, StepDone):
        bar.update(event)
        return {
            "step": event.step,
            "loss": event.loss,
            "grad_norm": event.grad_norm,
            "lr": event.learning_rate,
            "trained_tokens": event.trained_tokens,
            "tokens_per_s": event.tokens_per_s,
            "elapsed_ms": event.elapsed_ms,
        }
    say(f"validation after step {event.step}: loss {event.loss:.4f}")
    # Another name than `loss`, which only steps have.
    return {"step": event.step, "validation_loss": event.loss}


def _lora_config(options: argparse.Namespace, model: ModelConfig) -> tuple[LoraConfig, dict[str, np.ndarray] | None]:
    """Return the adapter's settings, and its tensors when --init-adapter gives them."""
    given = {"rank": options.rank, "alpha": options.alpha, "targets": options.targets}
    given = {name: value for name, value in given.items() if value is not None}
    if options.init_adapter is None:
        targets = model.linear_names if options.targets in (None, TARGETS.default) else options.targets
        if unknown := sorted(set(targets) - set(model.linear_names)):
            wanted = ", ".join(model.linear_names)
            raise AdapterError(f"--targets {', '.join(unknown)}: no such layer in this model; wanted some of {wanted}")
        return LoraConfig(**{**given, "targets": targets}), None
    lora, tensors = read_adapter_path(options.init_adapter, model)
    problems = []
    for name, wanted in given.items():
        found = getattr(lora, name)
        same = set(found) == set(wanted) if name == "targets" else found == wanted
        if not same:
            problems.append(f"--{name} {_plain(wanted)}, but {options.init_adapter} has {_plain(found)}")
    if problems:
        raise AdapterError("\n".join([*problems, "Leave these options away to go on from that adapter."]))
    return lora, tensors


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


def _base_model(options: argparse.Namespace) -> str:
    """Return what PEFT should load as the base: the name that was given, the model's folder, or its file's name."""
    path: Path = options.model
    return options.base_model or (str(path) if path.is_dir() else path.stem)


# ---------------------------------------------------------------------------------------------------- generate, logits


def generate(options: argparse.Namespace, sampling: SamplingConfig) -> int:
    """Answer one prompt on standard output, piece by piece."""
    run_interruptible(_generate(options, sampling))
    return 0


async def _generate(options: argparse.Namespace, sampling: SamplingConfig) -> None:
    opened = await _open(options.model)
    messages = [{"role": "system", "content": options.system}] if options.system is not None else []
    messages.append({"role": "user", "content": options.prompt})
    tuned = read_adapter_path(options.adapter, opened.files.config) if options.adapter else None
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, options.adapter)
    async with _on_gpu(opened.files, options.adapter_name) as model:
        length = len(opened.tokenizer.encode(template.render(messages, add_generation_prompt=True)))
        wanted = min(length + sampling.max_new_tokens, model.config.max_position_embeddings)
        chat = ChatEngine(model, opened.tokenizer, template, context_length=wanted)
        await chat.prepare()
        if tuned is not None:
            await chat.set_adapter(*tuned)
        async with aclosing(chat.reply(messages, sampling, adapter_strength=options.strength)) as pieces:
            async for piece in pieces:
                print(piece.text, end="", flush=True)
        print(flush=True)
        stats = chat.last_stats
        assert stats is not None, "a reply that has ended leaves its numbers"
        say(
            f"{stats.new_tokens} tokens, {stats.tokens_per_s:,.1f} tokens/s, "
            f"the first after {stats.time_to_first_token_ms:,.0f} ms"
            + (", cut off by --max-new-tokens or the model's length" if stats.finish_reason == "length" else "")
        )


def write_logits(options: argparse.Namespace) -> int:
    """Write a text's logits, float32 (tokens, vocabulary), as a .npy file."""
    if not options.out.parent.is_dir():
        raise LoraLabError(f"--out {options.out}: the folder {options.out.parent} does not exist")
    values = run_interruptible(_logits(options))
    with _replacing(options.out) as out:
        np.save(out, values)
    say(f"{values.shape[0]} x {values.shape[1]} logits are in {options.out}")
    return 0


async def _logits(options: argparse.Namespace) -> np.ndarray:
    opened = await _open(options.model)
    token_ids = opened.tokenizer.encode(options.text)
    if not token_ids:
        raise LoraLabError("--text is empty: it gives no token")
    tuned = read_adapter_path(options.adapter, opened.files.config) if options.adapter else None
    async with _on_gpu(opened.files, options.adapter_name) as model:
        adapter = Adapter.from_tensors(model.device, model.config, *tuned) if tuned else None
        return await logits(model, adapter, token_ids, strength=options.strength)
