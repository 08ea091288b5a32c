"""The command line, end to end with a tiny model: train, log, generate, logits, and what Ctrl-C keeps."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from build_tools.base import ROOT
from lora_lab.cli import main as cli
from lora_lab.cli import terminal
from lora_lab.errors import DeviceError, LoraLabError
from lora_lab.train import StepDone
from tests.hub_server import HubServer, Repository

# Rows that a tiny model can learn by heart within a few steps.
ROWS = [{"prompt": f"What is {n}?", "completion": f"It is the number {n}."} for n in range(12)]
LOG_KEYS = {"step", "loss", "grad_norm", "lr", "trained_tokens", "tokens_per_s", "elapsed_ms"}
TEXT = "<|im_start|>user\nWhat is 7?<|im_end|>\n<|im_start|>assistant\nIt is"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lora_lab.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment())


def run_well(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def train(model: str | Path, data: Path, out: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_well("train", "--model", model, "--data", data, "--out", out, *arguments)


@pytest.fixture(scope="module")
def trained(tiny_model_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `adapter` and `log.jsonl` of a run that learns the rows."""
    folder = tmp_path_factory.mktemp("trained")
    log = folder / "log.jsonl"
    settings = ["--steps", "60", "--lr", "0.01", "--batch", "4", "--rank", "8", "--alpha", "16", "--log", str(log)]
    done = train(tiny_model_folder, data, folder / "adapter", *settings)
    assert done.stdout == ""
    assert "The adapter of step 60 is in" in done.stderr
    assert "\r" not in done.stderr, "a progress bar was drawn though standard error is no terminal"
    return folder


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_one_line_a_step_with_all_values(trained: Path) -> None:
    lines = read_log(trained / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 61))
    for line in lines:
        assert set(line) == LOG_KEYS
        assert all(math.isfinite(value) for value in line.values())
        assert isinstance(line["trained_tokens"], int)
        assert min(line["loss"], line["grad_norm"], line["trained_tokens"], line["elapsed_ms"]) > 0
        assert line["tokens_per_s"] > 0
    # Cosine with 5 % of 60 steps, that is 3, of warm-up: from 0 up to the rate, then down towards 0.
    rates = [line["lr"] for line in lines]
    assert rates[0] == 0
    assert rates[3] == max(rates) == 0.01
    assert rates[-1] < 0.001


def test_recomputed_layers_are_told_and_change_nothing(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    """By choice, or because the budget of 1 MiB is too little for what they would keep."""
    adapters = {}
    for name, *choice in (["off"], ["on"], ["auto", "--activation-memory", "1"]):
        settings = ["--steps", "2", "--lr", "0.01", "--batch", "4", "--recompute", name, *choice]
        done = train(tiny_model_folder, data, tmp_path / name, *settings)
        assert ("; recomputes 2 of 2 layers" in done.stderr) == (name != "off")
        adapters[name] = (tmp_path / name / "adapter_model.safetensors").read_bytes()
    assert adapters["off"] == adapters["on"] == adapters["auto"]


def test_the_loss_falls(trained: Path) -> None:
    losses = [line["loss"] for line in read_log(trained / "log.jsonl")]
    assert losses[-1] < 0.3 * losses[0]


def test_the_folder_is_an_adapter_that_peft_loads(trained: Path, tiny_model_folder: Path) -> None:
    adapter = trained / "adapter"
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
        "lora-lab-run.json",
    }
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 16, "LORA")
    assert config["base_model_name_or_path"] is None  # a path on this machine would mean nothing on another
    assert "BASE_MODEL" in (adapter / "README.md").read_text()


@pytest.fixture(scope="module")
def peft_model(trained: Path, tiny_model_folder: Path) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(trained / "adapter")).eval()


@pytest.mark.parametrize("with_adapter", [False, True])
def test_logits_equal_transformers_and_peft(
    with_adapter: bool, trained: Path, tiny_model_folder: Path, peft_model: PeftModel, tmp_path: Path
) -> None:
    out = tmp_path / "logits.npy"
    chosen = ["--adapter", trained / "adapter"] if with_adapter else []
    done = run_well("logits", "--model", tiny_model_folder, *chosen, "--text", TEXT, "--out", out)
    assert done.stdout == ""
    ids = AutoTokenizer.from_pretrained(tiny_model_folder)(
        TEXT, return_tensors="pt", add_special_tokens=False
    ).input_ids
    with torch.no_grad():
        if with_adapter:
            wanted = peft_model(ids).logits[0].numpy()
        else:
            with peft_model.disable_adapter():
                wanted = peft_model(ids).logits[0].numpy()
    found = np.load(out)
    assert (found.dtype, found.shape) == (np.float32, wanted.shape)
    # float32 on both sides; see the tolerance of the engine's own logits.
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) <= 1e-5


def test_strength_0_is_the_base_model(trained: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    base, off, on = (tmp_path / f"{name}.npy" for name in ("base", "off", "on"))
    arguments = ["logits", "--model", tiny_model_folder, "--text", TEXT, "--out"]
    run_well(*arguments, base)
    run_well(*arguments, off, "--adapter", trained / "adapter", "--strength", "0")
    run_well(*arguments, on, "--adapter", trained / "adapter")
    np.testing.assert_allclose(np.load(off), np.load(base), rtol=0, atol=1e-6)
    assert np.abs(np.load(on) - np.load(base)).max() > 0.1


def test_generate_says_what_transformers_would_say(
    trained: Path, tiny_model_folder: Path, peft_model: PeftModel
) -> None:
    arguments = ["--prompt", "What is 7?", "--system", "Count.", "--temperature", "0", "--max-new-tokens", "12"]
    tuned = run_well("generate", "--model", tiny_model_folder, "--adapter", trained / "adapter", *arguments).stdout
    plain = run_well("generate", "--model", tiny_model_folder, *arguments).stdout
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    messages = [{"role": "system", "content": "Count."}, {"role": "user", "content": "What is 7?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ids = peft_model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs.input_ids.shape[1] :]
        with peft_model.disable_adapter():
            base = peft_model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs.input_ids.shape[1] :]
    assert tuned == tokenizer.decode(ids, skip_special_tokens=True) + "\n"
    assert plain == tokenizer.decode(base, skip_special_tokens=True) + "\n"
    assert tuned != plain


def test_the_same_seed_gives_the_same_bytes(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        train(tiny_model_folder, data, tmp_path / name, "--steps", "3", "--seed", str(seed))
        return (tmp_path / name / "adapter_model.safetensors").read_bytes()

    assert weights("a", 1) == weights("b", 1) != weights("c", 2)


def test_going_on_from_an_adapter(
    trained: Path, tiny_model_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))  # where --base-model is remembered
    log = tmp_path / "log.jsonl"
    start = ["--init-adapter", trained / "adapter", "--schedule", "constant", "--lr", "0.001", "--log", log]
    train(tiny_model_folder, data, tmp_path / "more", "--steps", "2", "--batch", "4", "--base-model", "me/tiny", *start)
    assert read_log(log)[0]["loss"] < 0.5 * read_log(trained / "log.jsonl")[0]["loss"]
    config = json.loads((tmp_path / "more" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16, "me/tiny")
    train(tiny_model_folder, data, tmp_path / "again", "--steps", "1", "--batch", "4")
    config = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "me/tiny", "as it was said for this model"
    arguments = ["train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path / "x", *start]
    done = run(*arguments, "--rank", "4")
    assert done.returncode == 1
    assert f"--rank 4, but {trained / 'adapter'} has 8" in done.stderr


def test_rows_held_back_are_measured_and_their_lines_have_no_loss(
    tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    train(tiny_model_folder, data, tmp_path / "out", "--steps", "2", "--val-fraction", "0.25", "--log", log)
    measured = [line for line in read_log(log) if "loss" not in line]
    assert [set(line) for line in measured] == [{"step", "validation_loss", "elapsed_ms"}] * len(measured)
    assert measured[-1]["step"] == 2


def test_a_packed_run_says_so_and_has_the_losses_of_the_padded_one(
    tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    rows = [*ROWS, {"prompt": "Count.", "completion": " ".join(map(str, range(40)))}]
    uneven = tmp_path / "rows.jsonl"
    uneven.write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = {}
    for packing, told in (("auto", True), ("off", False)):
        log = tmp_path / f"{packing}.jsonl"
        settings = ["--steps", "3", "--lr", "0.01", "--batch", "13", "--packing", packing, "--log", log]
        done = train(tiny_model_folder, uneven, tmp_path / packing, *settings)
        assert bool(re.search(r"Packing saves \d+ % of the computing, all of it padding", done.stderr)) is told
        curves[packing] = [line["loss"] for line in read_log(log)]
    assert curves["auto"] == pytest.approx(curves["off"], rel=1e-5)


def test_good_rows_are_trained_on_when_asked(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text(data.read_text() + "not json\n")
    done = train(tiny_model_folder, spoilt, tmp_path / "out", "--steps", "1", "--skip-bad-rows")
    assert "line 13" in done.stderr
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_a_model_by_its_name_on_the_hub(
    tiny_model_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes | Path] = {path.name: path for path in tiny_model_folder.iterdir() if path.is_file()}
    with HubServer(Repository("owner/tiny", files)) as hub:
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        train("hf:owner/tiny", data, tmp_path / "hub", "--steps", "2")
    train(tiny_model_folder, data, tmp_path / "folder", "--steps", "2")
    found, wanted = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("hub", "folder"))
    assert found == wanted
    config = json.loads((tmp_path / "hub" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "owner/tiny"


def test_a_gpu_that_is_not_there_exits_1(tiny_model_folder: Path, tmp_path: Path) -> None:
    arguments = ["logits", "--model", tiny_model_folder, "--text", "x", "--out", tmp_path / "x.npy"]
    done = run(*arguments, "--gpu", "no such gpu")
    assert done.returncode == 1
    assert "no such gpu" in done.stderr
    assert not (tmp_path / "x.npy").exists()


def test_list_gpus() -> None:
    lines = run_well("--list-gpus").stdout.splitlines()
    assert lines
    assert all(line.endswith(")") for line in lines)
    # The name in the list is one that --gpu takes.
    assert run_well("train", "--list-gpus").stdout.splitlines() == lines


def start_long_run(model: Path, data: Path, folder: Path, extra: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a run that would take minutes and return once its log has two steps."""
    log = folder / "log.jsonl"
    arguments = ["train", "--model", model, "--data", data, "--out", folder / "out", "--log", log, "--steps", "100000"]
    process = subprocess.Popen(command(*arguments, *extra), stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 60
    while not log.exists() or log.read_text().count("\n") < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no step within a minute"
        time.sleep(0.02)
    return process


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send one process a Ctrl-C")
def test_ctrl_c_finishes_the_step_and_keeps_what_was_learned(
    tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    process = start_long_run(tiny_model_folder, data, tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    lines = read_log(tmp_path / "log.jsonl")
    assert f"The adapter of step {lines[-1]['step']} is in" in said
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    assert any(parameter.abs().max() > 0 for name, parameter in model.named_parameters() if "lora_B" in name)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send one process a Ctrl-C")
def test_ctrl_c_ends_an_answer_at_once(tiny_model_folder: Path) -> None:
    arguments = ["generate", "--model", tiny_model_folder, "--prompt", "What is 7?", "--max-new-tokens", "1900"]
    # A high temperature: the model hardly ever comes upon its end-of-turn token.
    process = subprocess.Popen(
        command(*arguments, "--temperature", "5"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said.decode().endswith("lora-lab: interrupted\n")


@pytest.mark.parametrize(
    ("error", "code", "kept"),
    [(KeyboardInterrupt(), 130, False), (LoraLabError("the loss is nan"), 1, True), (DeviceError("lost"), 1, False)],
    ids=["second Ctrl-C", "run broke down", "device lost"],
)
def test_what_a_run_that_ends_badly_keeps(
    error: BaseException,
    code: int,
    kept: bool,
    tiny_model_folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def update(bar: terminal.StepBar, event: StepDone) -> None:
        if event.step == 2:
            raise error

    monkeypatch.setattr(terminal.StepBar, "update", update)
    arguments = ["train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path / "out", "--steps", "5"]
    assert cli.main([str(argument) for argument in arguments]) == code
    assert ("The adapter of step 2 is in" in capsys.readouterr().err) is kept
    assert (tmp_path / "out" / "adapter_model.safetensors").exists() is kept


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo terminals")
def test_the_progress_bar_is_drawn_on_a_terminal(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # a new one has no columns
    arguments = ["train", "--model", tiny_model_folder, "--data", data, "--out", tmp_path / "out", "--steps", "3"]
    process = subprocess.Popen(command(*arguments), stderr=theirs, stdout=subprocess.PIPE, env=environment())
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # Linux's way to say that the other side was closed
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    text = shown.decode()
    assert "3/3" in text
    assert "loss " in text
    assert "\r" in text


def test_another_mask_and_a_validation_file_train_something_else(
    tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    held = tmp_path / "validation.jsonl"
    held.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    common = ("--steps", "2", "--batch", "2", "--accumulate", "1", "--rank", "2", "--no-shuffle")
    losses = {}
    for name, arguments in {"assistant": (), "all": ("--mask", "all"), "held": ("--val-file", held)}.items():
        log = tmp_path / f"{name}.jsonl"
        done = train(tiny_model_folder, data, tmp_path / name, *common, *arguments, "--log", log)
        losses[name] = [line.get("loss") for line in read_log(log)]
        assert ("left out: also in the validation file" in done.stderr) is (name == "held")
    assert losses["all"][0] != losses["assistant"][0] != losses["held"][0]


def test_a_strange_run_is_warned_of_and_done(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    strange = ["--steps", "1", "--rank", "1", "--alpha", "1e6", "--lr", "1e-7"]
    for more in ((), ("--dry-run",)):
        told = train(tiny_model_folder, data, tmp_path / "out", *strange, *more).stderr
        first, second = (line for line in told.splitlines() if line.startswith("Warning: "))
        assert "alpha of 1e+06" in first and "rate of 1e-07" in second
        assert told.index(second) < told.index("GPU: ")


def test_a_dry_run_tells_memory_and_time_only(tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "adapter", tmp_path / "log.jsonl"
    told = train(tiny_model_folder, data, out, "--steps", "30", "--log", log, "--dry-run").stderr
    assert re.search(r"GPU memory: [\d.]+ MiB", told)
    found = re.search(r"30 steps take about \d+ s \(measured: ([\d.,]+) ms a step, ([\d,]+) tokens/s\)", told)
    assert found, told
    assert float(found[1].replace(",", "")) > 0
    assert not out.exists()
    assert not log.exists()
    train(tiny_model_folder, data, out, "--steps", "1", "--log", log)  # the control
    assert out.exists()
    assert log.exists()
