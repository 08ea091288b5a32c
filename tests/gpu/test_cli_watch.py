"""`lora-lab train`, watched: what the model answers on the way, which adapter lies where, and how a bad run is told."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora_lab.cli import main as cli
from lora_lab.evaluation.record import read_record
from lora_lab.formats.peft import RUN_FILE
from tests.gpu.test_cli_tiny import ROWS, log_end


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def command(model: Path, data: Path, folder: Path, *more: str) -> list[str | Path]:
    return ["train", "--model", model, "--data", data, "--out", folder / "out", "--log", folder / "log.jsonl",
            "--rank", "4", "--batch", "2", "--accumulate", "2", *more]  # fmt: skip


Lab = Callable[..., str]


@pytest.fixture
def lab(capsys: pytest.CaptureFixture[str]) -> Lab:
    """Run a command in this process, which must end well (or, with `fails`, not); return what it says."""

    def started(arguments: Sequence[str | Path], fails: bool = False) -> str:
        code = cli.main([str(one) for one in arguments])
        said = capsys.readouterr().err
        assert code == (1 if fails else 0), said
        return said

    return started


def lines(folder: Path, key: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if key in line]


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != RUN_FILE)  # it holds the run's times
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_it_answers_rows_held_back_every_n_steps(lab: Lab, tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    more = ("--steps", "30", "--lr", "0.01", "--val-fraction", "0.25")
    said = lab(command(tiny_model_folder, data, tmp_path, *more, "--sample-every", "10"))
    answers = lines(tmp_path, "answer")
    assert [line["step"] for line in answers] == [step for step in (0, 10, 20, 30) for _ in range(3)]
    asked = {line["prompt"]: line["expected"] for line in answers}
    assert len(asked) == 3 and all({"prompt": p, "completion": e} in ROWS for p, e in asked.items())
    assert answers[-1]["answer"].startswith("It is the number"), "it has learned how to answer"
    assert not any(line["answer"].startswith("It is") for line in answers if line["step"] == 0)
    assert f"after step 30, to {answers[-1]['prompt']!r}: " in said
    assert re.search(r"Answers took [\d.]+ s, [\d.]+ % of the run", said)
    assert log_end(tmp_path / "log.jsonl")["sample_share"] > 0
    # The same run without answers, and with other questions: the same bytes.
    (tmp_path / "alone").mkdir()
    lab(command(tiny_model_folder, data, tmp_path / "alone", *more, "--sample-every", "0"))
    assert files(tmp_path / "alone" / "out") == files(tmp_path / "out")
    assert lines(tmp_path / "alone", "answer") == []
    (tmp_path / "own").mkdir()
    own = ("--sample-every", "15", "--sample-prompt", "What is 5?", "--sample-prompt", "Who?")
    lab(command(tiny_model_folder, data, tmp_path / "own", *more, *own))
    found = [(line["step"], line["prompt"], line["expected"]) for line in lines(tmp_path / "own", "answer")]
    assert found == [(step, prompt, None) for step in (0, 15, 30) for prompt in ("What is 5?", "Who?")]
    assert files(tmp_path / "own" / "out") == files(tmp_path / "out")


@pytest.fixture
def overfit(tmp_path: Path) -> tuple[Path, Path]:
    """Rows that are answered in some words, and rows in others: what is learned of the ones is wrong for the others."""
    random, paths = torch.Generator().manual_seed(1), []
    for name, words in (("rows", "north south east west red blue"), ("held", "ship lamp tide rock green wall")):
        drawn = [[words.split()[int(i)] for i in torch.randint(6, (10,), generator=random)] for _ in range(6)]
        rows = [{"prompt": f"{n}?", "completion": " ".join(answer)} for n, answer in enumerate(drawn)]
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths[0], paths[1]


def losses_with(lab: Lab, model: Path, adapter: Path, held: Path, tmp_path: Path) -> float:
    """Return the loss of an adapter as a run that begins from it measures it before its first step."""
    folder = tmp_path / f"check-{adapter.name}-{adapter.parent.name}"
    folder.mkdir()
    arguments = command(model, held, folder, "--init-adapter", str(adapter), "--val-file", str(held), "--steps", "1")
    arguments = [one for one in arguments if one not in ("--rank", "4")]
    other = folder / "rows.jsonl"
    other.write_text(json.dumps({"prompt": "x", "completion": "y"}) + "\n")
    arguments[arguments.index(held)] = other
    lab([*arguments, "--sample-every", "0"])
    return lines(folder, "validation_loss")[0]["validation_loss"]


def test_both_adapters_are_kept_and_each_is_the_one_that_it_is_called(
    lab: Lab, tiny_model_folder: Path, overfit: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, held = overfit
    more = ("--val-file", str(held), "--steps", "40", "--lr", "0.02", "--sample-every", "0")
    out = tmp_path / "out"
    said = lab(command(tiny_model_folder, rows, tmp_path, *more))
    measured = {line["step"]: line["validation_loss"] for line in lines(tmp_path, "validation_loss")}
    best = min((loss, step) for step, loss in measured.items() if step)[1]
    assert 0 < best < 40
    assert {path.name for path in out.iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "README.md", RUN_FILE, "last"
    }  # fmt: skip
    end = log_end(tmp_path / "log.jsonl")
    assert (end["kept"], end["kept_step"], end["best_step"]) == ("best", best, best)
    assert f"The adapter of step {best}, the one with the lowest validation loss, is in {out}\n" in said
    assert f"The adapter of step 40, the last one, is in {out / 'last'}" in said
    for adapter, step in ((out, best), (out / "last", 40)):
        assert losses_with(lab, tiny_model_folder, adapter, held, tmp_path) == pytest.approx(measured[step], rel=1e-5)
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), str(adapter))
        record = read_record((adapter / RUN_FILE).read_bytes())
        which = "best" if step == best else "last"
        assert (record.outcome.kept, record.outcome.kept_step, record.outcome.best_step) == (which, step, best)
        assert record.validation_kept is not None and record.validation_kept.step == step
        assert record.validation_kept.loss == pytest.approx(measured[step], rel=1e-6)
    found = files(out)
    lab(command(tiny_model_folder, rows, tmp_path, *more, "--keep", "last"))  # over it: the other way round
    weights = "adapter_model.safetensors"
    assert files(out)[weights] == found[f"last/{weights}"]
    assert files(out)[f"best/{weights}"] == found[weights] != found[f"last/{weights}"]
    assert not (out / "last").exists()
    assert log_end(tmp_path / "log.jsonl")["kept_step"] == 40
    # A run whose last step is its best one leaves no other behind, not that of before either.
    lab(command(tiny_model_folder, rows, tmp_path, "--steps", "1", "--sample-every", "0"))
    assert set(files(out)) == {weights, "adapter_config.json", "README.md"}


def test_patience_ends_a_run_and_says_so(
    lab: Lab, tiny_model_folder: Path, overfit: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, held = overfit
    more = ("--val-file", str(held), "--steps", "40", "--lr", "0.02", "--sample-every", "0", "--patience", "2")
    said = lab(command(tiny_model_folder, rows, tmp_path, *more))
    end = log_end(tmp_path / "log.jsonl")
    assert end["stopped_early"] and end["step"] < 40 and end["step"] - end["best_step"] == 8
    assert f"Ended early, after step {end['step']} of 40: the validation loss has not fallen below the " in said
    assert not (tmp_path / "out.checkpoint").exists()
    assert "--resume" not in said


def test_patience_without_rows_held_back_is_warned_of(
    lab: Lab, tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    said = lab(command(tiny_model_folder, data, tmp_path, "--steps", "1", "--patience", "2"))
    assert "Warning: --patience does nothing without rows held back" in said


def test_a_good_run_is_warned_of_nothing(lab: Lab, tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    more = ("--steps", "40", "--lr", "0.01", "--val-fraction", "0.25", "--sample-every", "20")
    said = lab(command(tiny_model_folder, data, tmp_path, *more))
    assert log_end(tmp_path / "log.jsonl")["verdict"] is None
    warned = [line for line in said.splitlines() if "Warning" in line]
    assert len(warned) == 1 and "A learning rate of 0.01 is very high" in warned[0]  # said beforehand
    assert re.search(r"validation before training: loss [\d.]+, perplexity [\d,.]+, accuracy [\d.]+ %", said)
    first, *_, last = lines(tmp_path, "validation_loss")
    assert last["accuracy"] > first["accuracy"] + 0.2 and last["perplexity"] < first["perplexity"]
    assert last["perplexity"] == pytest.approx(math.exp(last["validation_loss"]))


def test_a_run_that_learns_nothing_is_told(lab: Lab, tiny_model_folder: Path, data: Path, tmp_path: Path) -> None:
    more = ("--steps", "12", "--lr", "1e-9", "--val-fraction", "0.25", "--sample-every", "0")
    said = lab(command(tiny_model_folder, data, tmp_path, *more))
    assert log_end(tmp_path / "log.jsonl")["verdict"]["kind"] == "unchanged"
    assert "Warning: Hardly anything was learned" in said


def test_a_run_that_falls_apart_says_so_in_the_log_too(
    lab: Lab, tiny_model_folder: Path, data: Path, tmp_path: Path
) -> None:
    more = ("--steps", "12", "--lr", "1e3", "--warmup-steps", "0", "--schedule", "constant", "--sample-every", "0")
    said = lab(command(tiny_model_folder, data, tmp_path, *more), fails=True)
    verdict = log_end(tmp_path / "log.jsonl")["verdict"]
    assert verdict["kind"] == "diverged" and verdict["words"] in said
    assert verdict["numbers"]["learning_rate"] == 1e3
