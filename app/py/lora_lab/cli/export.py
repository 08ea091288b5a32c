"""`lora-lab export`: an adapter in the form of another program, alone or merged into its model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_lab.cli.adapter_path import adapter_files, brought_template, read_adapter_path
from lora_lab.cli.base_names import remembered_base
from lora_lab.cli.commands import on_gpu
from lora_lab.cli.data_check import rows_to_train, within_context
from lora_lab.cli.export_sink import DiskSink, check_place
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.templates import choose_template
from lora_lab.cli.terminal import ByteBar, run_interruptible, say
from lora_lab.config import TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.record import take_record
from lora_lab.export import Base, open_base, plan_export, write_files
from lora_lab.export.measure import mean_loss
from lora_lab.export.merge import Adapted
from lora_lab.export.plan import GGUF_NAME, ONE_FILE, Going, check_form
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.run_facts import RUN_FILE
from lora_lab.model.files import open_model
from lora_lab.model.model_files import ModelFiles

MERGED = frozenset({"merged", "gguf", "ollama"})
HOW = {
    "peft": "load it with PEFT: PeftModel.from_pretrained(model, {out!r})",
    "gguf-adapter": "run it with llama.cpp: llama-cli -m BASE.gguf --lora {out}",
    "mlx": "run it with mlx-lm: mlx_lm.generate --model {base} --adapter-path {out}",
    "merged": "load it with transformers: AutoModelForCausalLM.from_pretrained({out!r})",
    "gguf": "run it with llama.cpp: llama-cli -m {out}",
    "ollama": "run it with Ollama: cd {out} && ollama create my-model -f Modelfile && ollama run my-model",
}


def export(options: argparse.Namespace) -> int:
    """Write the export, or nothing of it."""
    form = check_form(options.to, options.form)
    if options.measure and options.to not in MERGED:
        raise LoraLabError(f"--measure: {options.to} is not merged, so its numbers stay as they are")
    out = options.out or default_out(options.adapter, options.to)
    run_interruptible(_export(options, form, out, find_model(options.model, options.measure or ())))
    return 0


def default_out(adapter: Path, kind: str) -> Path:
    """Return where an export goes when nobody says: into the current folder, named after the adapter."""
    stem = adapter.resolve().stem if adapter.suffix in (".zip", ".gguf") else adapter.resolve().name
    return Path(f"{stem}-{kind}{'.gguf' if kind in ONE_FILE else ''}")


async def _export(options: argparse.Namespace, form: str, out: Path, found: FoundModel) -> None:
    base = await open_base(found.sources)
    going = await going_of(options, base, found)
    name = out.name if options.to in ONE_FILE else GGUF_NAME
    planned = await plan_export(base, going, options.to, form, name, options.system)
    check_place(out, planned)
    rows = await _rows(options, base, found) if options.measure else ()
    for remark in planned.remarks:
        say(f"Note: {remark}")
    adapted = Adapted(going.lora, going.tensors)
    before = await _loss(options, base.files, adapted, rows) if rows else None
    bar = ByteBar(out.name)
    try:
        written = await write_files(planned.files, DiskSink(out, options.to in ONE_FILE), bar)
    finally:
        bar.close()
    say(f"{out}: {written / 1e6:,.1f} MB, {form}")
    if before is not None:
        result = await open_model(sources_from_path(out / GGUF_NAME if options.to == "ollama" else out))
        after = await _loss(options, result, None, rows)
        say(f"loss on {len(rows):,} rows: {before:.4f} with the adapter on, {after:.4f} of what was written "
            f"({after - before:+.4f})")  # fmt: skip
    elif planned.requantised:
        say("Rounding to this form changes the numbers; --measure FILE tells the loss on its rows before and after")
    say(f"To use it, {HOW[options.to].format(out=str(out), base=going.base_name or 'BASE')}")


async def going_of(options: argparse.Namespace, base: Base, found: FoundModel) -> Going:
    """Return the adapter of a command with all that is known of it. AdapterError names its path."""
    brought = await read_adapter_path(options.adapter, base.config)
    files, _ = adapter_files(options.adapter)
    record, trouble = take_record(files)
    if trouble:
        say(f"Warning: {trouble}")
    named = options.base_model or found.base or base.files.hub_id or remembered_base(found.sources)
    return Going(
        brought.lora, brought.tensors, named or brought.base_model, brought_template(options.adapter),
        None if record is None else card_facts(record, files[RUN_FILE]),
    )  # fmt: skip


async def _rows(options: argparse.Namespace, base: Base, found: FoundModel) -> Sequence[Example]:
    """Return the rows to measure on, all of them."""
    opened = await open_found(found)
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, options.adapter)
    length = within_context(options.max_length, base.config)
    options.data, options.val_file, options.skip_bad_rows, options.repair = options.measure, None, False, False
    config = TrainConfig(max_length=length, validation_fraction=0.0)
    return (await rows_to_train(options, opened.tokenizer, template, config)).trained


async def _loss(
    options: argparse.Namespace, files: ModelFiles, adapted: Adapted | None, rows: Sequence[Example]
) -> float:
    async with on_gpu(files, options.gpu) as model:
        return await mean_loss(model, adapted, rows, TrainConfig(max_length=options.max_length, batch=1, accumulate=1))
