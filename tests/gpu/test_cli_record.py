"""`lora-lab train` leaves a record, mixes everyday rows in, measures what else changed; its command does it again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel

from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.evaluation.answers import answers_of
from lora_lab.evaluation.neutral import encode_neutral, mixed_count, neutral_rows
from lora_lab.evaluation.record import RunRecord, read_record
from lora_lab.evaluation.settings_travel import run_command, settings_file
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import RUN_FILE
from lora_lab.model.files import open_model
from tests import torch_reference
from tests.gpu.test_cli_tiny import ROWS, environment, read_log
from tests.tiny_model import write_tiny_model

STEPS = ["--steps", "6", "--lr", "0.01", "--batch", "2", "--accumulate", "2", "--rank", "4", "--alpha", "8",
         "--sample-every", "0"]  # fmt: skip
NAME = "ships & 'seas'.jsonl"


class Place:
    """A folder with a model and rows, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_tiny_model(folder / "tiny")
        (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(self, *words: str) -> str:
        command = [sys.executable, "-m", "lora_lab.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def train(self, out: str, *more: str) -> str:
        return self.run("train", "--model", "tiny", "--data", NAME, "--out", out, *STEPS, *more)

    def record(self, out: str) -> RunRecord:
        return read_record((self.folder / out / RUN_FILE).read_bytes())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("record"))


def curve(record: RunRecord) -> tuple:
    return record.steps.step, record.steps.loss, record.steps.grad_norm, record.steps.learning_rate


def test_the_record_says_what_was_done(place: Place) -> None:
    place.train("first", "--val-fraction", "0.25", "--neutral", "off", "--log", "log.jsonl", "--sample-every", "3")
    record = place.record("first")
    lines = [line for line in read_log(place.folder / "log.jsonl") if "loss" in line]
    assert list(record.steps.step) == [1, 2, 3, 4, 5, 6]
    for name, column in (("loss", record.steps.loss), ("grad_norm", record.steps.grad_norm),
                         ("lr", record.steps.learning_rate), ("elapsed_ms", record.steps.elapsed_ms)):  # fmt: skip
        assert column == pytest.approx([line[name] for line in lines], rel=1e-7)
    card = (place.folder / "first/README.md").read_text()
    assert (
        f"sha256 `{record.data.sha256}`" in card and "9 rows; 3 more held back" in card and "learning_rate 0.01" in card
    )
    assert f"first step {record.steps.loss[0]:.4f}, last step {record.steps.loss[-1]:.4f}, held-back rows" in card
    assert record.name == "first" and record.program.startswith("lora-lab ")
    data = (place.folder / NAME).read_bytes()
    assert record.data.sha256 == hashlib.sha256(data).hexdigest()
    assert (record.data.name, record.data.files[0].size_bytes) == (NAME, len(data))
    assert (record.data.rows, record.data.held_rows, record.data.mixed_rows) == (9, 3, 0)
    assert 0 < record.data.trained_tokens < record.data.tokens
    assert record.model.source == "tiny" and len(record.model.hash) == 32
    assert record.settings["targets"] == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert (record.settings["batch"], record.settings["rows_at_once"], record.settings["steps"]) == (4, 2, 6)
    assert (record.outcome.steps, record.outcome.total_steps, record.outcome.stopped) == (6, 6, "end")
    assert [one.step for one in record.validations] == [0, 1, 2, 3, 4, 5, 6]
    assert all(one.accuracy is not None for one in record.validations)
    lowest = min(record.validations[1:], key=lambda one: one.loss)
    assert record.outcome.best_step == record.outcome.kept_step == lowest.step == 6 and record.outcome.kept == "last"
    assert [one.step for one in record.samples[0].answers] == [0, 3, 6]
    assert [(one.before, one.after) for one in answers_of(record)] == [
        (sample.answers[0].text, sample.answers[-1].text) for sample in record.samples
    ]
    assert record.time.started_at <= record.time.ended_at and 0 < record.time.training_s < 600
    assert record.machine.host == "native" and record.machine.device
    assert record.neutral is None
    assert str(place.folder) not in (place.folder / "first" / RUN_FILE).read_text(), "a path of this machine"


def test_the_command_does_the_run_again_to_the_same_losses(place: Place) -> None:
    """Written by the record, read by a shell, with settings far from the defaults."""
    more = ["--val-fraction", "0.2", "--schedule", "linear", "--warmup-steps", "2", "--seed", "5", "--no-shuffle",
            "--weight-decay", "0.01", "--targets", "q_proj,down_proj", "--mask", "all", "--mix-neutral", "0.3",
            "--packing", "on", "--neutral", "off", "--max-length", "48"]  # fmt: skip
    place.train("one", *more)
    first = place.record("one")
    command = run_command(first, "again")
    program = f"{shlex.quote(sys.executable)} -m lora_lab.cli"
    shell = ["bash", "-c", f'lora-lab() {{ {program} "$@"; }}; {command}']
    done = subprocess.run(shell, capture_output=True, text=True, env=environment(), cwd=place.folder)
    assert done.returncode == 0, done.stderr
    again = place.record("again")
    assert curve(again) == curve(first)
    assert again.validation == first.validation
    assert again.settings == first.settings
    weights = [(place.folder / name / "adapter_model.safetensors").read_bytes() for name in ("one", "again")]
    assert weights[0] == weights[1]
    # The same by a file of settings; and the control, one of them another.
    (place.folder / "settings.json").write_bytes(settings_file(first.settings))
    data = ["train", "--model", "tiny", "--data", NAME, "--settings", "settings.json"]
    place.run(*data, "--out", "file")
    assert curve(place.record("file")) == curve(first)
    place.run(*data, "--out", "other", "--seed", "6")
    assert place.record("other").steps.loss != first.steps.loss


def test_mixed_rows_are_told_and_trained_and_exact_after_a_stop(place: Place) -> None:
    told = place.train("mixed", "--mix-neutral", "0.25", "--neutral", "off", "--checkpoint-every", "2")
    count = mixed_count(len(ROWS), 0.25)
    assert f"{count} everyday rows are mixed in: {len(ROWS) + count} rows a pass" in told
    whole = place.record("mixed")
    assert (whole.data.rows, whole.data.mixed_rows) == (len(ROWS) + count, count)
    assert whole.data.sha256 == hashlib.sha256((place.folder / NAME).read_bytes()).hexdigest()
    place.train("without", "--neutral", "off")
    assert place.record("without").steps.loss != whole.steps.loss  # the control
    # A run that ends at its checkpoint of step 4 goes on to the same bytes.
    checkpoint = place.folder / "cut.checkpoint"
    stop = (
        "import sys, asyncio\n"
        "from lora_lab.train import Trainer\n"
        "from lora_lab.cli import main\n"
        "run = Trainer.run\n"
        "async def cut(self, *given, **named):\n"
        "    async for event in run(self, *given, **named):\n"
        "        yield event\n"
        "        if getattr(event, 'step', 0) == 4: self.pause()\n"
        "Trainer.run = cut\n"
        "sys.exit(main.main())\n"
    )
    words = ["train", "--model", "tiny", "--data", NAME, "--out", "cut", *STEPS, "--mix-neutral", "0.25",
             "--neutral", "off", "--checkpoint-every", "2"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", stop, *words], capture_output=True, text=True, env=environment(),
                          cwd=place.folder)  # fmt: skip
    assert done.returncode == 0 and checkpoint.exists(), done.stderr
    half = place.record("cut")
    assert half.outcome.stopped == "by hand" and half.outcome.steps < 6
    place.run(*words, "--resume")
    resumed = place.record("cut")
    assert curve(resumed) == curve(whole)
    assert resumed.time.training_s > half.time.training_s and resumed.time.started_at == half.time.started_at
    assert (place.folder / "cut" / "adapter_model.safetensors").read_bytes() == (
        place.folder / "mixed" / "adapter_model.safetensors").read_bytes()  # fmt: skip
    other = subprocess.run([sys.executable, "-m", "lora_lab.cli", *words, "--resume", "x"], capture_output=True,
                           text=True, env=environment(), cwd=place.folder)  # fmt: skip
    assert other.returncode == 1


def test_what_else_changed_is_measured_as_peft_does_and_less_where_rows_are_mixed_in(place: Place) -> None:
    steps = ["--lr", "0.02", "--steps", "30", "--neutral", "on"]
    told = place.train("measured", *steps)
    found = place.record("measured").neutral
    assert found is not None
    assert len(found.rows) == len(neutral_rows("measured")) and len(found.answers) == 3
    assert f"loss {found.base:.3f} -> {found.tuned:.3f}" in told
    files = asyncio.run(open_model(sources_from_path(place.folder / "tiny"))).tokenizer
    assert files.chat_template is not None
    template = ChatTemplate(files.chat_template, files.special_tokens)
    examples = list(encode_neutral(neutral_rows("measured"), load_tokenizer(files), template, 512).examples)
    base = torch_reference.load_base(place.folder / "tiny")
    assert found.base == pytest.approx(torch_reference.loss(base, examples).item(), abs=2e-5)
    peft = PeftModel.from_pretrained(base, str(place.folder / "measured")).eval()
    assert found.tuned == pytest.approx(torch_reference.loss(peft, examples).item(), abs=2e-5)
    assert abs(found.tuned - found.base) > 0.01  # the control
    # Rows like them, and none of them, mixed in.
    place.train("less", *steps, "--mix-neutral", "0.5")
    less = place.record("less").neutral
    assert less is not None and less.base == found.base
    assert less.tuned < found.tuned - 0.1
    # A software device is not asked for it unless somebody says so.
    assert place.train("auto", "--steps", "1").count("Everyday questions") == 0
    assert place.record("auto").neutral is None
