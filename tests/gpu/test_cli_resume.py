"""`lora-lab train --resume`: the bytes of a run that was never interrupted; what is refused; what is never touched."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lora_lab.cli.checkpoints import load_checkpoint
from lora_lab.formats.peft import RUN_FILE
from tests.gpu.test_cli_tiny import ROWS, command, environment, read_log, run, run_well

N = 5  # steps between checkpoints
STEPS = 40
EARLIER = {"adapter_model.safetensors": b"an earlier adapter's", "adapter_config.json": b"its config"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


class Lab:
    """A model, rows, and a folder to train in."""

    def __init__(self, model: Path, data: Path, folder: Path, steps: int = STEPS) -> None:
        self.folder, self.out, self.log = folder, folder / "out", folder / "log.jsonl"
        self.checkpoint = folder / "out.checkpoint"
        self.arguments = [
            "train", "--model", model, "--data", data, "--out", self.out, "--log", self.log, "--steps", str(steps),
            "--batch", "2", "--accumulate", "2", "--lr", "0.01", "--rank", "4", "--val-fraction", "0.2",
            "--checkpoint-every", str(N), "--sample-every", "10",
        ]  # fmt: skip

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command(*self.arguments, *more), stderr=subprocess.PIPE, text=True, env=environment())

    def lines(self) -> list[dict]:
        """Return the log, without a last line that was cut off."""
        whole = self.log.read_text().rpartition("\n")[0] if self.log.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def steps_logged(self) -> int:
        return max((line["step"] for line in self.lines()), default=0)

    def losses(self) -> list[tuple]:
        told = ("loss", "grad_norm", "lr", "validation_loss", "accuracy", "prompt", "answer")
        return [(line["step"], *map(line.get, told)) for line in read_log(self.log)]

    def adapter(self) -> dict[str, bytes]:
        # The record holds the times of this very run.
        files = (path for path in self.out.rglob("*") if path.is_file() and path.name != RUN_FILE)
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}

    def keep_an_earlier_adapter(self) -> None:
        self.out.mkdir()
        for name, content in EARLIER.items():
            (self.out / name).write_bytes(content)

    def wait_for(self, process: subprocess.Popen[str], step: int) -> None:
        deadline = time.monotonic() + 120
        while self.steps_logged() < step and process.poll() is None:
            assert time.monotonic() < deadline, f"not at step {step} within two minutes"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tiny_model_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A run that was never interrupted."""
    lab = Lab(tiny_model_folder, data, tmp_path_factory.mktemp("whole"))
    run_well(*lab.arguments)
    assert not lab.checkpoint.exists()
    return lab


@pytest.fixture
def lab(tiny_model_folder: Path, data: Path, tmp_path: Path) -> Lab:
    return Lab(tiny_model_folder, data, tmp_path)


def interrupted(lab: Lab, step: int, *more: str) -> str:
    """Run until a step is logged, press Ctrl-C, and return what was said."""
    process = lab.start(*more)
    lab.wait_for(process, step)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    return said


def test_after_ctrl_c_it_goes_on_to_the_same_bytes(lab: Lab, whole: Lab) -> None:
    said = interrupted(lab, 7)
    first = load_checkpoint(lab.checkpoint).state.step
    assert f"The run stands at step {first} of {STEPS}: the same command with --resume goes on there." in said
    assert f"The adapter of step {first} is in" in said
    said = interrupted(lab, first + 6, "--resume")
    assert f"Going on after step {first} of {STEPS}" in said
    done = run_well(*lab.arguments, "--resume", lab.checkpoint)
    assert f"The adapter of step {STEPS} is in" in done.stderr
    assert lab.adapter() == whole.adapter()
    extra = {line for line in lab.losses() if line not in whole.losses()}  # what a stop measures besides
    assert [line for line in lab.losses() if line not in extra] == whole.losses()
    assert all(line[4] is not None for line in extra)
    assert not lab.checkpoint.exists()
    gone = run(*lab.arguments, "--resume")
    assert gone.returncode == 1
    assert "no run was stopped there, or it came to its end. Leave --resume away to begin anew" in gone.stderr
    assert lab.adapter() == whole.adapter()


def test_another_run_is_refused_by_what_differs_and_nothing_is_touched(lab: Lab, data: Path, tmp_path: Path) -> None:
    interrupted(lab, 6)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    step = load_checkpoint(lab.checkpoint).state.step
    rows = data.read_text().splitlines(keepends=True)
    other = tmp_path.parent / f"{tmp_path.name}-rows.jsonl"
    other.write_text("".join([rows[1], rows[0], *rows[2:]]))
    for arguments, words in (
        (
            ["--lr", "0.02", "--seed", "1"],
            "learning_rate is 0.02, in the checkpoint 0.01; seed is 1, in the checkpoint 0",
        ),
        (["--rank", "8"], "rank is 8, in the checkpoint 4"),
        (["--data", other], "training rows are others, or in another order"),
        (["--data", other, data], "training rows, the checkpoint has 10"),
    ):
        done = run(*lab.arguments, "--resume", *arguments)
        assert done.returncode == 1
        assert "out.checkpoint is of another run: " in done.stderr
        assert words in done.stderr
    damaged = bytearray(lab.checkpoint.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    done = run(*lab.arguments, "--resume", tmp_path / "damaged")
    assert done.returncode == 1
    assert "damaged is damaged: its content is not what its digest says" in done.stderr
    (tmp_path / "damaged").unlink()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # One that begins anew says so, and leaves the other aside.
    done = run_well(*lab.arguments, "--steps", "7")
    assert "--resume goes on with it. This one begins anew" in done.stderr
    assert load_checkpoint(lab.folder / "out.checkpoint.before").state.step == step


@pytest.mark.parametrize(("rate", "keeps"), [("1e3", False), ("1e25", True)])
def test_a_run_that_falls_apart_exits_1_and_touches_nothing(lab: Lab, rate: str, keeps: bool) -> None:
    lab.keep_an_earlier_adapter()
    done = run(*lab.arguments, "--lr", rate, "--warmup-steps", "0", "--schedule", "constant")
    assert done.returncode == 1, done.stderr
    assert f"The learning rate is {float(rate):g}: try a tenth of it." in done.stderr
    assert f"The run has fallen apart; {lab.out} was not touched" in done.stderr
    assert lab.adapter() == EARLIER
    assert not lab.checkpoint.exists()
    assert (lab.folder / "out-last-good" / "adapter_config.json").exists() is keeps


def test_a_disk_that_fills_up_in_the_middle_names_the_file_and_puts_the_adapter_elsewhere(
    lab: Lab, tmp_path: Path
) -> None:
    """Files of more than 20 kB cannot be written: no checkpoint, no adapter, anywhere; then those of 40 kB can be."""
    lab.keep_an_earlier_adapter()
    limit = 20_000
    done = subprocess.run(
        command(*lab.arguments, "--steps", "6"), capture_output=True, text=True, env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Warning: no checkpoint could be written to") == 1
    assert "adapter_model.safetensors: File too large" in done.stderr
    assert lab.adapter() == EARLIER
    assert {path.name for path in tmp_path.iterdir()} == {"out", "log.jsonl"}


# ---------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.long)])
def test_kills_at_any_moment_lose_no_more_than_n_steps(lab: Lab, whole: Lab, kills: int) -> None:
    """SIGKILL, also while it starts, writes a checkpoint or puts the adapter in place; over an earlier adapter."""
    rng = random.Random(kills)
    lab.keep_an_earlier_adapter()
    killed = finished = lost_most = early = 0
    while killed < kills or not finished:
        before = load_checkpoint(lab.checkpoint).state.step if lab.checkpoint.exists() else 0
        process = lab.start(*(["--resume"] if before else []))
        if killed < kills:
            if early_kill := rng.random() < 0.15:
                time.sleep(rng.uniform(0, 4))  # while it starts
            else:
                while lab.steps_logged() > before and process.poll() is None:
                    time.sleep(0.01)  # until the steps that are done again are taken out of the log
                target = min(STEPS, before + rng.randint(1, 14))
                lab.wait_for(process, target)
                time.sleep(rng.uniform(0, 0.05 if target < STEPS else 1.5))  # it may come to its end
            reached = lab.steps_logged()
            process.kill()
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                killed += 1
                early += early_kill
        else:
            process.communicate()
            reached = STEPS
        is_done = lab.adapter() == whole.adapter() and not lab.checkpoint.exists()  # killed on its way out, perhaps
        if process.returncode == 0 or is_done:
            assert lab.adapter() == whole.adapter()
            assert lab.losses() == whole.losses()
            assert not lab.checkpoint.exists()
            finished += 1
            shutil.rmtree(lab.out)
            lab.keep_an_earlier_adapter()
            lab.log.unlink()
            continue
        assert process.returncode == -signal.SIGKILL
        after = load_checkpoint(lab.checkpoint).state.step if lab.checkpoint.exists() else 0
        assert after >= before
        lost_most = max(lost_most, reached - after)
        if lab.adapter() != EARLIER:  # it was killed after the adapter was whole in its place
            assert lab.adapter() == whole.adapter()
    print(f"{killed} kills ({early} while starting), {finished} runs came to their end, {lost_most} steps lost at most")
    assert lost_most <= N
