"""`lora-lab data check`: reads datasets as training would, and tells what is in them and what is wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.templates import choose_template
from lora_lab.cli.terminal import ByteBar, run_interruptible, say
from lora_lab.config import ModelConfig, TrainConfig
from lora_lab.data import (
    ColumnMapping,
    Dataset,
    DataSource,
    Example,
    RowTable,
    build_report,
    encode_table,
    read_table,
)
from lora_lab.data.dataset import Rows, without_overlap
from lora_lab.data.files.source import CHUNK_BYTES
from lora_lab.data.problem_titles import is_about_file
from lora_lab.data.problems import Problem
from lora_lab.data.report import DatasetReport
from lora_lab.data.rows.overlap import find_overlap
from lora_lab.data.rows.row_table import ReadFile
from lora_lab.data.tokens.batches import split_indices
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import DatasetError
from lora_lab.evaluation.prompts import Prompt, choose_prompts

EXIT_ERRORS_FOUND = 1


def check(options: argparse.Namespace) -> int:
    """Print the report on standard output. Return 1 for errors, an open question or nothing to train on, else 0."""
    paths = [*options.files, *([options.validation] if options.validation else [])]
    model = None if options.model is None else find_model(options.model, paths)
    report = run_interruptible(_check(options, model))
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=True, indent=2))
    else:
        print(describe(report))
    return EXIT_ERRORS_FOUND if report.counts["error"] or not report.good or report.asks else 0


async def _check(options: argparse.Namespace, model: FoundModel | None) -> DatasetReport:
    sources = [DataSource.from_path(path) for path in options.files]
    mapping = ColumnMapping.parse(options.map) if options.map else None
    table = await _read(sources, mapping, options)
    if options.validation is not None:
        other = await _read([DataSource.from_path(options.validation)], mapping, options)
        await _compare(table, other)
    if options.cleaned is not None:
        await _write_cleaned(table, options.cleaned)
    if model is None:
        return build_report(table)
    tokenizer, template, length = await open_for_rows(model, options)
    dataset = await _encode(table, tokenizer, template, length, options)
    return dataset.report


async def open_for_rows(model: FoundModel, options: argparse.Namespace) -> tuple[Tokenizer, ChatTemplate, int]:
    """Return what makes tokens of rows with this model, and the length of the longest that it takes."""
    opened = await open_found(model)
    length = within_context(options.max_length, opened.files.config)
    return opened.tokenizer, choose_template(options.chat_template, opened.files, opened.tokenizer), length


def within_context(max_length: int, config: ModelConfig) -> int:
    """Return the longest row that the model can take; say so where that is less than was asked for."""
    context = config.max_position_embeddings
    if max_length > context:
        say(f"The model's context holds {context:,} tokens, not the {max_length:,} of --max-length: rows end there")
    return min(max_length, context)


@dataclass(frozen=True)
class RunRows:
    """What a run trains on and what it validates on, questions to ask while it learns, and the files of the rows.

    The last `mixed` of those that are trained are everyday ones.
    """

    trained: Sequence[Example]
    held: Sequence[Example]
    prompts: tuple[Prompt, ...]
    files: tuple[ReadFile, ...]
    validation_files: tuple[ReadFile, ...] = ()
    mixed: int = 0


async def rows_to_train(
    options: argparse.Namespace, tokenizer: Tokenizer, template: ChatTemplate | None, config: TrainConfig
) -> RunRows:
    """Return the rows of a run as the options of `train` say; tell what they are.

    Raises DatasetError for bad rows that nobody has agreed to leave out, or when nothing is left.
    """
    mapping = ColumnMapping.parse(options.map) if options.map else None
    held_sources = [DataSource.from_path(path) for path in options.val_file or []]  # a wrong path is told at once
    table = await _read([DataSource.from_path(path) for path in options.data], mapping, options)
    dataset = await _encode(table, tokenizer, template, config.max_length, options)
    dataset.require(options.skip_bad_rows)
    say(dataset.report.as_text())
    if options.val_file is None:
        kept, back = split_indices(dataset.examples, config.validation_fraction, config.seed)
        prompts = choose_prompts(_rows_of(dataset, back), _rows_of(dataset, kept))
        return RunRows(dataset.examples.subset(kept), dataset.examples.subset(back), prompts, table.files)
    other = await _read(held_sources, mapping, options)
    validation = await _encode(other, tokenizer, template, config.max_length, options)
    try:
        validation.require(options.skip_bad_rows)
    except DatasetError as error:
        raise DatasetError(f"the validation file: {error}", error.problems) from error
    overlap = await find_overlap(table, other)
    examples = without_overlap(dataset, overlap)
    left_out = len(dataset.examples) - len(examples)
    if left_out:
        line, held = overlap.lines[0]
        rows = "row is" if left_out == 1 else "rows are"
        say(f"{left_out} {rows} left out: also in the validation file (the first: line {line}, there line {held})")
    if not examples:
        raise DatasetError("every row stands in the validation file too; nothing is left to train on")
    say(f"validation: {_rows(len(validation.examples))}")
    prompts = choose_prompts(validation.rows, dataset.rows)
    return RunRows(examples, validation.examples, prompts, table.files, other.files)


def _rows_of(dataset: Dataset, indices: np.ndarray) -> Rows:
    return Rows(dataset.table, dataset.places[indices])


async def _encode(
    table: RowTable, tokenizer: Tokenizer, template: ChatTemplate | None, max_length: int, options: argparse.Namespace
) -> Dataset:
    bar = ByteBar("tokens", unit="row")
    try:
        return await encode_table(table, tokenizer, template, max_length, bar, options.mask, options.on_long)
    finally:
        bar.close()


async def _read(sources: list[DataSource], mapping: ColumnMapping | None, options: argparse.Namespace) -> RowTable:
    bar = ByteBar("reading")
    try:
        return await read_table(sources, mapping, options.repair, bar, options.encoding)
    finally:
        bar.close()


async def _compare(table: RowTable, validation: RowTable) -> None:
    overlap = await find_overlap(table, validation)
    if overlap.indices:
        line, other = overlap.lines[0]
        count = len(overlap.indices)
        rows = "row stands" if count == 1 else "rows stand"
        message = f"{count} {rows} in the validation file too (this one: its line {other})"
        hint = "leave them out of one of the two, or the measured loss flatters"
        table.problems.add(Problem(line, message, kind="in-validation", severity="warning", hint=hint))


async def _write_cleaned(table: RowTable, path: Path) -> None:
    count = len(table)
    with path.open("wb", buffering=CHUNK_BYTES) as out:
        async for piece in table.cleaned():
            await asyncio.to_thread(out.write, piece)
    mended = f", {table.mendable} of them mended" if table.mendable else ""
    say(f"{_rows(count)} written to {path}{mended}")


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def describe(report: DatasetReport) -> str:
    """Return the report for a terminal: what is there, then what is wrong, by kind."""
    lines = [f"format: {report.format}", *report.as_text(0 if len(report.groups) > 40 else 10).split("\n")]
    content = report.content
    if report.good:
        turns = ", ".join(f"{count:,} {role}" for role, count in content.turns.items())
        if turns:
            lines.append(f"turns: {turns}")
        if content.scripts:
            lines.append("scripts: " + ", ".join(f"{name} {_rows(count)}" for name, count in content.scripts.items()))
        if content.system_prompt_count:
            text, count = content.system_prompts[0]
            lines.append(f"system prompts: {content.system_prompt_count}, most often ({count:,}): {text[:80]!r}")
        if report.tokens is not None:
            tokens = report.tokens
            padding, packing = 100 * tokens.padding_share, 100 * tokens.packing_saves
            lines.append(
                f"padding: {padding:.0f} % of 8 rows at once; packing would save {packing:.0f} % of the tokens"
            )
    if report.groups:
        lines.append("by kind:")
        for group in report.groups:
            if group.severity == "info" and is_about_file(group.kind):
                lines.append(f"  {group.severity:8}{group.kind}: {group.message}")
                continue
            first = ", ".join(map(str, group.first_lines[:5])) + (", …" if group.count > 5 else "")
            mend = f", {group.repairable} can be mended (--repair)" if group.repairable else ""
            lines.append(f"  {group.severity:8}{group.kind}: {group.count:,} (line {first}){mend}")
    return "\n".join(lines)
