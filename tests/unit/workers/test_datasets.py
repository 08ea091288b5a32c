"""The open dataset: cut to any length without reading it again, suggestions, questions; unusable settings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.synthetic import SMOLLM2_135M
from lora_lab.config import ModelConfig
from lora_lab.data import DataSource, Masking, Problem, read_table
from lora_lab.data.tokens.batches import encode_row
from lora_lab.data.tokens.examples import Examples
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.formats.byte_source import FileSource
from lora_lab.model.files import open_model
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Reader, Split
from lora_lab.workers.dataset.words import describe
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.planner import check_settings, lora_config, train_config
from lora_lab.workers.run.words import run_notes, run_summary

Parts = tuple[Tokenizer, ChatTemplate, ModelConfig]


@pytest.fixture(scope="module")
def parts(tiny_model_folder: Path) -> Parts:
    files = asyncio.run(open_model([FileSource(path) for path in tiny_model_folder.iterdir() if path.is_file()]))
    assert files.tokenizer.chat_template is not None
    template = ChatTemplate(files.tokenizer.chat_template, files.tokenizer.special_tokens)
    return load_tokenizer(files.tokenizer), template, files.config


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of growing length."""
    return [{"prompt": f"Question {i}?", "completion": "The answer is this. " * (1 + i % 7)} for i in range(count)]


def read(parts: Parts, data: list[dict[str, Any]], about: dict[str, Any] | None = None) -> OpenDataset:
    raw = "\n".join(map(json.dumps, data)).encode()
    tokenizer, template, _ = parts

    async def work() -> OpenDataset:
        opened = OpenDataset.of("d.jsonl", "d.jsonl", await read_table([DataSource.from_bytes(raw)]), about or {})
        await opened.encode(Reader(tokenizer, template, 4096), opened.first_masking, lambda done, total: None)
        return opened

    return asyncio.run(work())


@pytest.mark.parametrize("masking", ["assistant", "last", "all"])
@pytest.mark.parametrize("max_length", [24, 40, 64, 400])
def test_a_cut_equals_reading_the_file_at_that_length(parts: Parts, max_length: int, masking: Masking) -> None:
    data = rows(30)
    tokenizer, template, _ = parts
    raw = "\n".join(map(json.dumps, data)).encode()
    opened = read(parts, data, {"settings": {"masking": masking}})
    for on_long in ("truncate", "drop"):
        cut = opened.cut(Choices(max_length, masking, on_long))
        # One row after the other, without the arrays that a cut works on.
        table = asyncio.run(read_table([DataSource.from_bytes(raw)]))
        wanted = [encode_row(table.row(i), tokenizer, template, max_length, masking, on_long) for i in range(30)]  # type: ignore[arg-type]
        good = [row for row in wanted if not isinstance(row, Problem)]
        assert [e.tokens.tolist() for e in cut.examples] == [row.example.tokens.tolist() for row in good]
        assert [e.trained.tolist() for e in cut.examples] == [row.example.trained.tolist() for row in good]
        assert list(cut.report.problems) == [row for row in wanted if isinstance(row, Problem)]
        assert cut.tokens.trained == sum(row.example.trained_tokens for row in good)
        assert cut.tokens.kept == sum(len(row.example.tokens) for row in good)
        assert cut.tokens.truncated == sum(row.full_length > max_length for row in good)
        assert cut.examples.input_lengths.tolist() == [row.example.input_length for row in good]


def test_rows_that_lose_everything_are_problems_with_a_line(parts: Parts) -> None:
    data = [{"prompt": "word " * 100, "completion": "lost"}, {"prompt": "Hi", "completion": "kept"}]
    event = describe(read(parts, data), Choices(48), None)
    assert event.problem_count == 1
    assert [p["line"] for p in event.report["problems"] if p["severity"] == "error"] == [1]
    assert event.good_rows == 1 and event.can_train


SIZES = [(3, 3, 0.0), (49, 8, 0.0), (50, 8, 0.1), (400, 8, 0.1), (2000, 8, 0.05)]


@pytest.mark.parametrize(("count", "batch", "fraction"), SIZES)
def test_suggestions_suit_the_size(parts: Parts, count: int, batch: int, fraction: float) -> None:
    opened = read(parts, rows(count))
    suggested = opened.suggest()
    assert (suggested.batch, suggested.validation_fraction) == (batch, fraction)
    assert suggested.steps >= 60
    assert suggested.max_length % 32 == 0
    assert check_settings(suggested, parts[2]) == []


def test_a_sample_brings_settings_and_questions(parts: Parts) -> None:
    about = {"settings": {"steps": 7, "unknown": 1}, "probes": [{"prompt": "Who?", "reference": "Me."}]}
    opened = read(parts, rows(60), about)
    assert opened.suggest().steps == 7
    probe = opened.choose_probes(opened.split(opened.suggest()))[0]
    assert (probe.prompt, probe.reference, probe.messages[0].role) == ("Who?", "Me.", "user")


def test_questions_come_from_the_rows_held_back_first(parts: Parts) -> None:
    opened = read(parts, rows(60))
    settings = replace(opened.suggest(), validation_fraction=0.1)
    split = opened.split(settings)
    assert len(split.trained) + len(split.held) == 60 and len(split.held) == len(split.held_rows) > 0
    probes = opened.choose_probes(split)
    prompts = {row.texts[0] for row in split.held_rows}
    assert len(probes) == 3
    assert all(probe.prompt in prompts and probe.reference for probe in probes)


def test_a_text_row_asks_nothing(parts: Parts) -> None:
    opened = read(parts, [{"text": "Once upon a time."}] * 3)
    assert opened.choose_probes(opened.split(replace(opened.suggest(), validation_fraction=0.5))) == ()


SETTINGS = TrainSettings(10, 8, 2e-4, 16, 32, 128, 0, ("v_proj", "q_proj"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": 2.0}, "learning_rate"),
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"max_length": 10**6}, "max_length"),
        ({"targets": ()}, "targets"),
        ({"targets": ("lm_head",)}, "targets"),
        ({"schedule": "wavy"}, "schedule"),
        ({"warmup_steps": 11}, "warmup_steps"),
        ({"rows_at_once": 3}, "rows_at_once"),
        ({"packing": "yes"}, "packing"),
        ({"masking": "some"}, "masking"),
        ({"on_long": "keep"}, "on_long"),
        ({"validation_fraction": 0.9}, "validation_percent"),
    ],
)
def test_settings_that_cannot_be_used_are_named(parts: Parts, change: dict, field: str) -> None:
    assert check_settings(SETTINGS, parts[2]) == []
    assert field in {problem.field for problem in check_settings(replace(SETTINGS, **change), parts[2])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "1 to 10,000,000."),
        ({"batch": 0}, "1 to 1,048,576."),
        ({"learning_rate": 2.0}, "Above 0 and at most 1; usual are 1e-5 to 2e-3."),
        ({"rank": 513}, "1 to 512."),
        ({"alpha": 2e6}, "Above 0, and no more than 1e6."),
        ({"max_length": 7}, "8 to {context} for this model."),
        ({"seed": -1}, "0 or more."),
        ({"seed": 2**53}, "0 or more."),
        ({"targets": ()}, "Choose one at least."),
        ({"targets": ("lm_head",)},
         "Only q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj can be chosen."),
        ({"schedule": "wavy"}, "cosine, linear or constant."),
        ({"warmup_steps": 11}, "0 up to the number of steps."),
        ({"weight_decay": 1.5}, "0 to 1."),
        ({"max_grad_norm": -1.0}, "0 (off) or more, up to 1e30."),
        ({"masking": "some"}, "assistant, last or all."),
        ({"on_long": "keep"}, "truncate or drop."),
        ({"packing": "yes"}, "auto, on or off."),
        ({"validation_fraction": 0.51}, "0 to 50."),
        ({"rows_at_once": 0}, "It must divide the rows a step (8)."),
        ({"rows_at_once": 3}, "It must divide the rows a step (8)."),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_told_what_can(parts: Parts, change: dict, message: str) -> None:
    context = f"{min(8192, parts[2].max_position_embeddings):,}"
    (problem,) = check_settings(replace(SETTINGS, **change), parts[2])
    assert problem.message == message.format(context=context)


def test_what_is_at_a_bound_can_be_used(parts: Parts) -> None:
    context = min(8192, parts[2].max_position_embeddings)
    for change in ({"learning_rate": 1.0}, {"rank": 512}, {"alpha": 1e6}, {"steps": 10_000_000},
                   {"max_length": 8}, {"max_length": context}, {"seed": 2**53 - 1}, {"warmup_steps": 10},
                   {"weight_decay": 1.0}, {"max_grad_norm": 0.0},
                   {"validation_fraction": 0.5}, {"rows_at_once": 8}):  # fmt: skip
        assert check_settings(replace(SETTINGS, **change), parts[2]) == []


@pytest.mark.parametrize(
    ("change", "passes", "words"),
    [
        ({}, 3.0, []),
        ({}, 20.5, ["20 passes through the same rows: the model will learn them by heart."]),
        ({}, 50.5, ["50 passes through the same rows, where 1 to 10 are usual"]),
        ({"learning_rate": 1.0}, 1.0, ["A learning rate of 1 is hundreds of times the usual"]),
        ({"learning_rate": 1e-7}, 1.0, ["A learning rate of 1e-07 is so low"]),
        ({"rank": 256, "alpha": 512}, 1.0, ["A rank of 256 is beyond the usual 4 to 128"]),
        ({"alpha": 1e6}, 1.0, ["An alpha of 1e+06"]),
        ({"rank": 1, "alpha": 17}, 1.0, ["The adapter's scale, alpha / rank, is 17;"]),
        ({"rank": 16, "alpha": 1}, 1.0, ["The adapter's scale, alpha / rank, is 0.0625;"]),
    ],
)
def test_what_deserves_a_second_thought_is_told(change: dict, passes: float, words: list[str]) -> None:
    said = run_notes(replace(SETTINGS, **change), passes)
    assert [line[: len(wanted)] for line, wanted in zip(said, words, strict=True)] == words


def split_of(trained: int, held: int = 0, **more: bool) -> Split:
    """A split of rows that are all alike."""

    def examples(rows: int) -> Examples:
        tokens, mask = np.array([1, 2, 3], np.int32), np.array([False, True, True])
        return Examples([(tokens, mask)], *(np.full(rows, value) for value in (0, 0, 3)))

    return Split(examples(trained), examples(held), (), (), **more)


def test_the_plan_line_counts_in_words_that_fit() -> None:
    assert "; 1 row is held back for checking" in run_summary(SETTINGS, split_of(80, 1), 8)
    assert "; 2 rows are held back for checking; each step takes 1 row at a time" in run_summary(
        SETTINGS, split_of(80, 2), 1
    )
    line = run_summary(replace(SETTINGS, steps=1), split_of(1, 4, needs_held=True), 8)
    assert line == "1 step is 8.0 passes through 1 row; it is checked on the 4 rows of the validation file."


@pytest.mark.parametrize(("saves", "told"), [(0.376, True), (None, False), (-0.1, False)])
def test_the_plan_line_tells_what_packing_saves(saves: float | None, told: bool) -> None:
    line = run_summary(SETTINGS, split_of(80), 8, saves)
    assert line.startswith("10 steps are 1.0 passes through 80 rows")
    assert ("packing saves 38 % of the computing, all of it padding." in line) is told


def test_a_step_is_split_into_parts_that_make_it_up() -> None:
    config = train_config(SETTINGS, 2)
    assert (config.batch, config.accumulate, config.steps, config.packing) == (2, 4, 10, "auto")
    assert train_config(replace(SETTINGS, packing="on"), 2).packing is True
    assert train_config(replace(SETTINGS, packing="off"), 2).packing is False
    lora = lora_config(replace(SETTINGS, alpha=32.0), SMOLLM2_135M)
    assert lora.targets == ("q_proj", "v_proj")  # in the order of the model
    assert isinstance(lora.alpha, int)  # PEFT's file wants 32, not 32.0
