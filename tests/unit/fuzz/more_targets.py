"""Readers that came after the first: Unigram tokenizers in both hosts, adapters of other makes, a run's checkpoint."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data.tokens.examples import Example, Examples
from lora_lab.data.tokens.tokenizer import browser_tokenizer, load_tokenizer
from lora_lab.errors import AdapterError, CheckpointError, LoraLabError, ModelError
from lora_lab.evaluation.record import RecordError, read_record, record_bytes
from lora_lab.evaluation.report import report_html, report_json_bytes
from lora_lab.evaluation.settings_travel import (
    read_fragment,
    read_settings_file,
    settings_file,
    settings_fragment,
    train_command,
)
from lora_lab.evaluation.watch import kept_answers
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import FileFormatError
from lora_lab.formats.peft import expected_shapes
from lora_lab.formats.tokenizer_files import TokenizerFiles
from lora_lab.model.adapter_files import open_adapter
from lora_lab.train import Best, Checkpoint, RunState, ValidationPoint
from lora_lab.train.checkpoint import (
    DIGEST,
    METADATA,
    Arithmetic,
    RunIdentity,
    _digest,
    check_bytes,
    checkpoint_bytes,
    read_checkpoint,
)
from lora_lab.workers.run.run_record import known_of
from lora_lab.workers.storage.checkpoints import rows_from_bytes, rows_to_bytes
from tests.adapter_makes import as_gguf, as_mlx
from tests.unit.data.unigram_files import spm_files
from tests.unit.evaluation.records import record
from tests.unit.fuzz.mutators import json_bytes, spoil_bytes, spoil_json
from tests.unit.fuzz.targets import MODEL, TEXT, Target

_loop = asyncio.new_event_loop()


def make_more_targets(folder: Path) -> dict[str, Target]:
    """Return the readers by name; `folder` is for the good inputs that are files."""
    return {
        "Unigram tokenizer": Target(_unigram(spm_files(True, "first").tokenizer_json), (ModelError,)),
        "adapter of another make": Target(_other_make(folder), (AdapterError,), 4),
        "checkpoint": Target(_checkpoint(), (CheckpointError,), 4),
        "a run's record": Target(_record(), (RecordError,), 3),
        "settings of others": Target(_settings(), (LoraLabError,), 2),
        "a run's rows": Target(_rows(), (FileFormatError, KeyError, ValueError), 2),
    }


def _unigram(good: dict[str, Any]) -> Callable[[random.Random], object]:
    parts = [key for key in good if key != "model"]

    def case(rng: random.Random) -> object:
        key = rng.choice(parts) if rng.random() < 0.8 else "model"
        spoiled = {**good, key: spoil_json(good[key], rng)}
        files = TokenizerFiles(spoiled, None, {"eos_token": "</s>"})
        read = []
        for load in (load_tokenizer, browser_tokenizer):
            tokenizer = load(files)
            ids = tokenizer.encode(TEXT, True)
            read.append((tokenizer.decode(ids), tokenizer.token_ends(TEXT, ids), tokenizer.lost_bytes(TEXT)))
        return read

    return case


def _other_make(folder: Path) -> Callable[[random.Random], object]:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "v_proj"))
    rng = np.random.default_rng(1)
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in expected_shapes(lora, MODEL).items()}
    mlx = as_mlx(tensors, lora)
    gguf = as_gguf(folder / "adapter.gguf", tensors, lora, MODEL, "llama", True)
    config = json.loads(mlx["adapter_config.json"])

    def case(rng: random.Random) -> object:
        files = rng.choice((mlx, mlx, gguf))
        name = rng.choice(sorted(files))
        data = spoil_bytes(files[name], rng)
        if name.endswith(".json") and rng.random() < 0.8:
            data = json_bytes(spoil_json(config, rng), rng)
        return _loop.run_until_complete(open_adapter({**files, name: data}, MODEL))

    return case


def _checkpoint() -> Callable[[random.Random], object]:
    """What a file says is spoiled and signed again: else nothing but its digest would be read."""
    rows = [Example(np.arange(size, dtype=np.int32), np.arange(size) > 1) for size in (5, 9)]
    run = RunIdentity.of("tiny", "w", rows, rows[:1], LoraConfig(rank=2), TrainConfig(steps=10), 10)
    here = Arithmetic("gpu", "Vulkan", "native", "k", "1.0")
    ones = {"a.lora_A.weight": np.ones((2, 5), np.float32)}
    points = (ValidationPoint(0, 0.7), ValidationPoint(1, 0.5, 0.25))
    watched = {"samples": [["prompt", "expected", [[1, "said"]]]]}
    state = RunState(1, ones, ones, ones, np.ones((1, 2), np.float32), points, Best(1, 0.5, ones), watched)
    whole = checkpoint_bytes(Checkpoint(run, here, state, {"a": 1}))
    about, arrays = check_bytes(whole, "x")

    def case(rng: random.Random) -> object:
        if rng.random() < 0.2:
            return read_checkpoint(spoil_bytes(whole, rng), "x")
        text = json_bytes(spoil_json(about, rng), rng).decode("utf-8", "replace")
        found = read_checkpoint(safetensors.write(arrays, {METADATA: text, DIGEST: _digest(text, arrays)}), "x")
        found.arithmetic.differences(here)
        found.refuse_other(run, "x")
        kept_answers(found.state.watched)
        return found

    return case


def _record() -> Callable[[random.Random], object]:
    """What was read can be told of, too."""
    whole = record_bytes(record())
    about = json.loads(whole)

    def case(rng: random.Random) -> object:
        data = spoil_bytes(whole, rng) if rng.random() < 0.3 else json_bytes(spoil_json(about, rng), rng)
        found = read_record(data)
        assert read_record(record_bytes(found)) == found
        return report_html(found), report_json_bytes(found), known_of(found)

    return case


def _settings() -> Callable[[random.Random], object]:
    whole = settings_file(record().settings)
    about, link = json.loads(whole), settings_fragment(record().settings)

    def case(rng: random.Random) -> object:
        if rng.random() < 0.3:
            return read_fragment(spoil_bytes(link.encode(), rng).decode("utf-8", "replace"))
        data = spoil_bytes(whole, rng) if rng.random() < 0.3 else json_bytes(spoil_json(about, rng), rng)
        found = read_settings_file(data, "x")
        assert read_fragment(settings_fragment(found.values)).values == found.values
        return train_command(found.values, ["x"], "y")

    return case


def _rows() -> Callable[[random.Random], object]:
    tokens, trained, sizes = np.arange(14, dtype=np.int32), np.arange(14) > 3, np.array([5, 9])
    examples = Examples([(tokens, trained)], np.zeros(2, np.int64), np.array([0, 5]), sizes)
    whole = rows_to_bytes(examples, examples)
    return lambda rng: [list(part) for part in rows_from_bytes(spoil_bytes(whole, rng))]
