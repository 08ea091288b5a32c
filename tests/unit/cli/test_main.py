"""The command line's arguments: mistakes exit 2 and are named, defaults are the documented ones, errors exit 1."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from build_tools.base import ROOT
from lora_lab.cli import main as cli
from lora_lab.cli.builtin import BUILT_IN
from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.errors import DeviceError
from lora_lab.setting_schema import Setting
from lora_lab.settings import ADAPTER, RUN, SAMPLING, TARGET_LAYERS

TRAIN = ["train", "--model", "m.gguf", "--data", "d.jsonl", "--out", "adapter"]
GENERATE = ["generate", "--model", "m.gguf", "--prompt", "Hello"]
LOGITS = ["logits", "--model", "m.gguf", "--text", "Hello", "--out", "x.npy"]


def parse(*arguments: str) -> argparse.Namespace:
    return cli.make_parser().parse_args(arguments)


def test_defaults_of_a_run() -> None:
    assert cli.train_config(parse(*TRAIN)) == TrainConfig()
    assert cli.train_config(parse(*TRAIN)).accumulate * cli.train_config(parse(*TRAIN)).batch == 8


def test_every_setting_of_a_run_arrives() -> None:
    arguments = (
        "--steps 7 --lr 0.001 --schedule linear --warmup-steps 2 --batch 3 --accumulate 4 --max-length 99 --seed 5 "
        "--no-shuffle --weight-decay 0.01 --max-grad-norm 0 --val-fraction 0.25 --packing off "
        "--recompute on --activation-memory 300"
    )
    assert cli.train_config(parse(*TRAIN, *arguments.split())) == TrainConfig(
        steps=7,
        learning_rate=0.001,
        schedule="linear",
        warmup_steps=2,
        batch=3,
        accumulate=4,
        max_length=99,
        recompute=True,
        activation_budget_bytes=300 << 20,
        seed=5,
        shuffle=False,
        weight_decay=0.01,
        max_grad_norm=0.0,
        validation_fraction=0.25,
        packing=False,
    )


@pytest.mark.parametrize(
    ("arguments", "batch", "accumulate"),
    [("", 1, 8), ("--batch 4", 4, 1), ("--accumulate 2", 1, 2), ("--batch 2 --accumulate 3", 2, 3)],
)
def test_how_rows_make_a_step(arguments: str, batch: int, accumulate: int) -> None:
    config = cli.train_config(parse(*TRAIN, *arguments.split()))
    assert (config.batch, config.accumulate) == (batch, accumulate)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("all-linear", TARGET_LAYERS),
        ("v_proj,q_proj", ("q_proj", "v_proj")),
        ("q_proj q_proj", ("q_proj",)),
        (" down_proj ,", ("down_proj",)),
    ],
)
def test_targets(text: str, targets: tuple[str, ...]) -> None:
    assert parse(*TRAIN, "--targets", text).targets == targets


@pytest.mark.parametrize("name", ["--rank", "--alpha", "--targets"])
def test_what_is_not_given_is_known_as_such(name: str) -> None:
    # --init-adapter brings its own; only what was asked for may contradict it.
    assert getattr(parse(*TRAIN), name.strip("-")) is None


@pytest.mark.parametrize("option", ["--gpu", "--adapter-name"])  # the second is its name of before
def test_the_gpu_may_stand_before_or_after_the_command(option: str) -> None:
    assert parse(option, "llvm", *LOGITS).gpu == "llvm"
    assert parse(*LOGITS, option, "llvm").gpu == "llvm"
    assert parse(option, "first", *LOGITS, "--gpu", "second").gpu == "second"
    assert parse(*LOGITS).gpu is None


def test_the_model_may_be_left_out() -> None:
    assert [parse(*command).model for command in (TRAIN[:1] + TRAIN[3:], GENERATE[:1] + GENERATE[3:])] == [BUILT_IN] * 2
    assert parse(*TRAIN).model == "m.gguf"
    assert parse("data", "check", "d.jsonl").model is None  # no tokens are counted then


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["tune"], "invalid choice: 'tune'"),
        (TRAIN[:-2], "--out"),
        ([*TRAIN, "--steps", "0"], "--steps: 0 is less than 1"),
        ([*TRAIN, "--steps", "1.5"], "--steps: '1.5' is no whole number"),
        ([*TRAIN, "--steps", "2", "--epochs", "1"], "not allowed with argument"),
        ([*TRAIN, "--epochs", "0"], "--epochs: 0 must be more than 0"),
        ([*TRAIN, "--lr", "nan"], "--lr: nan must be more than 0"),
        ([*TRAIN, "--alpha", "1e39"], "--alpha: 1e39 must be at most 1e+06"),
        ([*TRAIN, "--lr", "fast"], "--lr: 'fast' is no number"),
        ([*TRAIN, "--schedule", "step"], "invalid choice: 'step'"),
        ([*TRAIN, "--recompute", "some"], "invalid choice: 'some'"),
        ([*TRAIN, "--activation-memory", "0"], "--activation-memory: 0 is less than 1"),
        ([*TRAIN, "--packing", "yes"], "invalid choice: 'yes'"),
        ([*TRAIN, "--val-fraction", "1"], "--val-fraction: 1 must be less than 1"),
        ([*TRAIN, "--max-length", "1"], "--max-length: 1 is less than 2"),
        ([*TRAIN, "--targets", "q_proj,lm_head"], "lm_head found; wanted all-linear or some of q_proj"),
        ([*TRAIN, "--targets", ""], "nothing found"),
        ([*TRAIN, "--step", "3"], "unrecognized arguments: --step"),
        ([*GENERATE, "--top-p", "0"], "--top-p: 0 must be at least 1e-06"),
        ([*GENERATE, "--top-p", "1.1"], "--top-p: 1.1 must be at most 1"),
        ([*GENERATE, "--temperature", "-1"], "--temperature: -1 must be at least 0"),
        (LOGITS[:-2], "--out"),
    ],
)
def test_mistakes_exit_2_and_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


@pytest.mark.parametrize("command", [[], ["train"], ["generate"], ["logits"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "--gpu" in told and "--adapter-name" not in told
    assert not command or f"default: {BUILT_IN}" in " ".join(told.split())


@pytest.mark.parametrize("page", ["README.md", "examples/README.md", "docs/formats.md"])
def test_the_commands_in_the_documents_are_well_formed(page: str) -> None:
    """Each line that begins with lora-lab; names in capitals stand for anything."""
    lines = re.findall(r"^    lora-lab ([^#\n]*)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    for line in lines:
        if line.strip() != "--list-gpus":
            parse(*shlex.split(line))
    with pytest.raises(SystemExit):  # the control
        parse(*shlex.split(lines[0]), "--no-such-option")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, "lora-lab 0.1.0\n")


@pytest.mark.parametrize(
    ("command", "setting"),
    [(TRAIN, one) for one in (*ADAPTER, *RUN) if one.option] + [(GENERATE, one) for one in SAMPLING],
    ids=lambda value: value.name if isinstance(value, Setting) else value[0],
)
def test_an_option_takes_what_the_table_says(
    command: list[str], setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setting.option is not None
    with pytest.raises(SystemExit):
        cli.main([command[0], "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert setting.option in told
    assert setting.kind is bool or f"default: {setting.default_said}" in told
    assert setting.kind is bool or not setting.term or f"({setting.term})" in told
    for choice in setting.values:
        assert choice in told
    if setting.kind not in (int, float):
        return
    beyond = setting.bounds.least - (0 if setting.bounds.above else 1)
    with pytest.raises(SystemExit) as caught:
        parse(*command, setting.option, str(beyond))
    assert caught.value.code == 2
    assert f"argument {setting.option}: {beyond}" in capsys.readouterr().err
    if setting.bounds.most < 1e30:
        with pytest.raises(SystemExit):
            parse(*command, setting.option, f"{setting.bounds.most + 1}")


def test_replies_begin_with_the_settings_of_the_engine() -> None:
    options = parse(*GENERATE)
    assert SamplingConfig(**{one.name: getattr(options, one.name) for one in SAMPLING}) == SamplingConfig()


@pytest.mark.parametrize(
    ("changes", "rows", "words"),
    [
        ({}, 3, []),  # a step of 8 where there are 3 rows is one pass
        ({"epochs": 20.0}, 100, []),
        ({"epochs": 51.0}, 100, ["51 passes"]),
        ({"steps": 63}, 24, ["21 passes"]),
        ({"steps": 63, "learning_rate": 1.0, "rank": 256}, 24, ["A rank of 256", "21 passes", "A learning rate of 1 "]),
        ({"alpha": 2.0**20}, 100, ["An alpha of 1.04858e+06"]),
        ({"rank": 1}, 100, ["The adapter's scale, alpha / rank, is 32;"]),
        ({"rank": 64, "use_rslora": True}, 100, []),  # its scale is 4
    ],
)
def test_what_deserves_a_second_thought_before_a_run(changes: dict, rows: int, words: list[str]) -> None:
    from lora_lab.cli.training import run_cautions

    lora = LoraConfig(**{name: value for name, value in changes.items() if name in vars(LoraConfig())})
    config = TrainConfig(**{name: value for name, value in changes.items() if name in vars(TrainConfig())})
    said = run_cautions(lora, config, rows)
    assert [line[: len(wanted)] for line, wanted in zip(said, words, strict=True)] == words


@pytest.mark.parametrize("dry", [False, True])
def test_warnings_stand_on_standard_error_before_the_run(
    dry: bool,
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lora_lab.cli import commands

    async def no_device(name: str | None) -> None:
        raise DeviceError("no GPU here")

    monkeypatch.setattr(commands, "open_device", no_device)
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    arguments = ["train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path / "out", "--dry-run"]
    strange = ["--lr", "1", "--steps", "70", "--alpha", "1e6"]
    chosen = arguments if dry else arguments[:-1]
    assert cli.main([str(argument) for argument in (*chosen, *strange)]) == 1
    output = capsys.readouterr()
    said = [line for line in output.err.splitlines() if line.startswith("Warning: ")]
    assert ["alpha" in said[0], "70 passes" in said[1], "rate of 1 " in said[2]] == [True] * 3 and len(said) == 3
    assert output.err.index("Warning") < output.err.index("no GPU here")
    assert output.out == ""
    assert cli.main([str(argument) for argument in (*chosen, "--steps", "2")]) == 1  # the control
    assert "Warning" not in capsys.readouterr().err


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lora_lab.cli", *map(str, arguments)]
    # From the checkout, whether the package is installed or not.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model", "{model}", "--data", "{data}", "--out", "{tmp}/out"],
        ["generate", "--model", "{model}", "--prompt", "x"],
        ["logits", "--model", "{model}", "--text", "x", "--out", "{tmp}/x.npy"],
    ],
)
def test_a_model_that_is_not_there_exits_1(arguments: list[str], tmp_path: Path) -> None:
    names = {"model": tmp_path / "none.gguf", "data": tmp_path / "d.jsonl", "tmp": tmp_path}
    done = run(*[argument.format(**names) for argument in arguments])
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"lora-lab: {tmp_path}/none.gguf does not exist; wanted a .gguf file or a Hugging Face folder"
    )


def test_a_dataset_that_is_not_there_exits_1(tmp_path: Path, tiny_model_folder: Path) -> None:
    done = run("train", "--model", tiny_model_folder, "--data", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert f"{tmp_path}/none.jsonl: No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_rows_exit_1_with_their_lines_and_nothing_is_trained(tmp_path: Path, tiny_model_folder: Path) -> None:
    data = tmp_path / "data.jsonl"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data.write_text(json.dumps(good) + "\nnot json\n" + json.dumps({"prompt": "a"}) + "\n")
    done = run("train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "2 bad rows" in done.stderr
    assert "line 2" in done.stderr
    assert "line 3" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_exits_1_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    done = run("train", "--model", "none", "--data", "none", "--out", tmp_path / "out")
    assert (done.returncode, "is a file; wanted a folder" in done.stderr) == (1, True)


def test_an_adapter_that_does_not_fit_exits_1_with_every_problem(tmp_path: Path, tiny_model_folder: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    done = run("logits", "--model", tiny_model_folder, "--adapter", adapter, "--text", "x", "--out", tmp_path / "x.npy")
    assert done.returncode == 1
    assert "adapter_config.json is missing" in done.stderr
    assert "adapter_model.safetensors is missing" in done.stderr


def test_an_empty_text_exits_1(tmp_path: Path, tiny_model_folder: Path) -> None:
    done = run("logits", "--model", tiny_model_folder, "--text", "", "--out", tmp_path / "x.npy")
    assert (done.returncode, done.stderr) == (1, "lora-lab: --text is empty: it gives no token\n")
