"""`--model hf:OWNER/NAME[:FILE]`: what is fetched, checked and kept, and the sentence for each way to fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from build_tools.base import ROOT
from lora_lab.cli import main as cli
from lora_lab.cli.interrupt import EXIT_INTERRUPTED
from lora_lab.cli.models import find_model
from tests.hub_server import HubServer, Repository

FOLDER = "owner/tiny"
GGUFS = "owner/tiny-GGUF"
SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
DATA = json.dumps({"prompt": "What is 7?", "completion": "It is the number 7."}) + "\n"


@pytest.fixture(scope="module")
def repositories(tiny_model_folder: Path) -> list[Repository]:
    """The tiny model as the hub holds models: its folder, and a repository of files in GGUF's place (never opened)."""
    files: dict[str, bytes | Path] = {
        path.name: path.read_bytes() for path in sorted(tiny_model_folder.iterdir()) if path.is_file()
    }
    parameters = {"safetensors": {"parameters": {"BF16": 9}, "total": 9}}
    folder = Repository(FOLDER, {**files, "pytorch_model.bin": b"\x80", "README.md": b"# tiny"}, more=parameters)
    forms: dict[str, bytes | Path] = {f"tiny-{form}.gguf": b"GGUF" + form.encode() for form in ("Q4_K_M", "Q8_0")}
    card = {"license": "mit", "base_model": FOLDER}
    return [folder, Repository(GGUFS, {**forms, "tiny-IQ2_S.gguf": b"GGUF"}, card=card)]


@pytest.fixture
def hub(repositories: list[Repository]) -> Iterator[HubServer]:
    with HubServer(*(replace(repository, files=dict(repository.files)) for repository in repositories)) as server:
        yield server


@dataclass
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


class Machine:
    """A person's machine: its own caches, and the hub that it asks. Commands run in this process, which is quicker."""

    def __init__(
        self, folder: Path, hub: HubServer, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.hub, self.patch, self.capsys = folder, hub, patch, capsys
        self.data = folder / "rows.jsonl"
        self.data.write_text(DATA)
        for name, value in self.environment().items():
            patch.setenv(name, value)
        patch.delenv("HF_TOKEN", raising=False)
        # What huggingface_hub reads from the environment when it is imported, which somebody has done by now.
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "hf" / "token"))
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def environment(self) -> dict[str, str]:
        places = {name: str(self.folder / name) for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")}
        return {**places, "HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "hf")}

    def run(self, *arguments: str | Path) -> Done:
        returncode = cli.main([str(argument) for argument in arguments])
        said = self.capsys.readouterr()
        return Done(returncode, said.out, said.err)

    def run_alone(self, *arguments: str | Path) -> Done:
        """Run a command as a process of its own, with nothing but the environment to say where the hub is."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE_"))}
        environment = {**own, "PYTHONPATH": str(ROOT / "app" / "py"), **self.environment()}
        command = [sys.executable, "-m", "lora_lab.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return Done(done.returncode, done.stdout, done.stderr)

    def check(self, model: str) -> Done:
        """Count a dataset's tokens with a model: opens it, and needs no GPU."""
        return self.run("data", "check", self.data, "--model", model)

    def fails(self, model: str) -> str:
        """Return what is said where a model cannot be had."""
        done = self.check(model)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        return done.stderr.split("lora-lab: ", 1)[1].strip()

    def blobs(self) -> list[Path]:
        return [path for path in self.folder.glob("hf/hub/*/blobs/*") if path.is_file()]


@pytest.fixture
def machine(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machine:
    return Machine(tmp_path, hub, monkeypatch, capsys)


def test_a_folder_is_fetched_once_and_opened(machine: Machine) -> None:
    done = machine.run_alone("data", "check", machine.data, "--model", f"hf:{FOLDER}")
    assert done.returncode == 0, done.stderr
    assert "tokens" in done.stdout
    assert f"{FOLDER} at {machine.hub.repositories[FOLDER].sha[:8]}: tiny, BF16, " in done.stderr
    assert "licence apache-2.0" in done.stderr
    fetched = {path.rsplit("/", 1)[1] for path in machine.hub.sent("storage") + machine.hub.sent("hub")}
    assert fetched == {"tiny", "model.safetensors", *SMALL}  # what it holds, and no README, no pickle
    machine.hub.requests.clear()
    again = machine.check(f"https://huggingface.co/{FOLDER}/tree/main")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert [request.path for request in machine.hub.requests] == [f"/api/models/{FOLDER}"]  # what it holds, no file


def test_what_was_fetched_opens_without_a_network(machine: Machine) -> None:
    assert machine.check(f"hf:{FOLDER}").returncode == 0
    machine.hub.go_offline()
    done = machine.check(f"hf:{FOLDER}")
    assert done.returncode == 0, done.stderr
    assert "does not answer" in done.stderr and "Going on with what was fetched before." in done.stderr
    assert "does not answer" in machine.fails(f"hf:{GGUFS}:Q8_0")  # the control: nothing of it is here


def test_a_repository_of_several_files_wants_one_named(machine: Machine) -> None:
    assert machine.fails(f"hf:{GGUFS}").splitlines() == [
        f"{GGUFS} holds 2 models; name one of them:",
        f"  hf:{GGUFS}:tiny-Q8_0.gguf  (0 kB, Q8_0)",
        f"  hf:{GGUFS}:tiny-Q4_K_M.gguf  (0 kB, Q4_K_M)",
    ]
    assert machine.fails(f"hf:{GGUFS}:x.gguf").startswith(f"{GGUFS} has no file or form x.gguf; it holds:")
    assert "the form IQ2_S is not read" in machine.fails(f"hf:{GGUFS}:tiny-IQ2_S.gguf")
    assert machine.hub.sent("storage") == []


def test_what_an_adapter_names_as_its_base(machine: Machine) -> None:
    assert find_model(f"hf:{FOLDER}").base == FOLDER
    assert find_model(f"hf:{GGUFS}:Q8_0").base == FOLDER  # its card's; PEFT could not load a repository of GGUF files
    machine.hub.repositories[GGUFS].card = {}
    assert find_model(f"hf:{GGUFS}:Q8_0").base == GGUFS


@pytest.mark.parametrize("file", ["tiny-Q8_0.gguf", "q8_0"])
def test_one_file_is_fetched(file: str, machine: Machine) -> None:
    # It is no model, and is refused as one once it is here.
    assert "tiny-Q8_0.gguf" in machine.fails(f"hf:{GGUFS}:{file}")
    assert [path.rsplit("/", 1)[1] for path in machine.hub.sent("storage")] == ["tiny-Q8_0.gguf"]


def test_a_download_goes_on_where_it_was_cut(machine: Machine) -> None:
    large = os.urandom(constants.DOWNLOAD_CHUNK_SIZE * 5 // 4)  # huggingface_hub keeps whole chunks
    machine.hub.repositories["owner/large"] = Repository("owner/large", {"m.gguf": large})
    machine.hub.cut_after["m.gguf"] = len(large) - 1000
    assert "m.gguf" in machine.fails("hf:owner/large")  # whole, and no GGUF file
    ranges = [one.range for one in machine.hub.requests if one.where == "storage" and one.method == "GET"]
    assert ranges == [None, f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"]
    assert [path.read_bytes() == large for path in machine.blobs()] == [True]


def test_a_download_that_is_cut_again_and_again(machine: Machine) -> None:
    machine.patch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub's patience between two tries
    machine.hub.cut_always["tiny-Q8_0.gguf"] = 3
    said = machine.fails(f"hf:{GGUFS}:Q8_0")
    assert said == "tiny-Q8_0.gguf: the download ended after 0 of 8 bytes; try again"
    assert machine.blobs() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send one process a Ctrl-C")
def test_ctrl_c_ends_a_download_and_leaves_no_half(machine: Machine) -> None:
    machine.hub.stall_after["tiny-Q8_0.gguf"] = 3
    machine.patch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    command = [sys.executable, "-m", "lora_lab.cli", "data", "check", str(machine.data)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "app" / "py")}
    process = subprocess.Popen(
        [*command, "--model", f"hf:{GGUFS}:Q8_0"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while not machine.hub.sent("storage"):
        assert process.poll() is None
        time.sleep(0.01)
    assert list(machine.folder.glob("hf/hub/*/blobs/*.incomplete"))  # the control
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1].decode()
    assert process.returncode == EXIT_INTERRUPTED
    assert said.endswith("lora-lab: interrupted\n") and "Traceback" not in said
    assert machine.blobs() == []


def test_wrong_bytes_are_found_and_thrown_away(machine: Machine) -> None:
    machine.hub.wrong_bytes.add("model.safetensors")
    said = machine.fails(f"hf:{FOLDER}")
    assert said.startswith("model.safetensors: its sha256 is ")
    assert f"the hub states {machine.hub.repositories[FOLDER].sha256('model.safetensors')}" in said
    machine.hub.wrong_bytes.clear()
    assert machine.check(f"hf:{FOLDER}").returncode == 0


def test_bytes_that_went_bad_in_the_cache_are_found(machine: Machine) -> None:
    assert machine.check(f"hf:{FOLDER}").returncode == 0
    size = machine.hub.repositories[FOLDER].size_bytes("model.safetensors")
    (blob,) = [path for path in machine.blobs() if path.stat().st_size == size]
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "its sha256 is" in machine.fails(f"hf:{FOLDER}")
    assert not blob.exists()
    assert machine.check(f"hf:{FOLDER}").returncode == 0  # it is fetched again


def test_gated(machine: Machine) -> None:
    machine.hub.repositories[FOLDER] = replace(machine.hub.repositories[FOLDER], gated="auto")
    said = machine.fails(f"hf:{FOLDER}")
    assert said.startswith(f"{FOLDER} is gated: its owner gives it to those who have accepted its terms, at https://")
    assert "HF_TOKEN" in said
    machine.patch.setenv("HF_TOKEN", "hf_other")
    assert "your token has no access to it" in machine.fails(f"hf:{FOLDER}")
    machine.hub.tokens.add("hf_other")
    assert machine.check(f"hf:{FOLDER}").returncode == 0
    assert {request.token for request in machine.hub.requests if request.where == "storage"} == {None}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf:owner/none", "owner/none is not on the hub, or it is private"),
        (f"hf:{FOLDER}@v9", f"{FOLDER} has no revision v9; wanted a branch, a tag or a commit"),
        ("hf:owner", "hf:owner: owner is no OWNER/NAME"),
        ("https://huggingface.co/datasets/a/b", "is under datasets/"),
        (
            FOLDER,
            f"{FOLDER} does not exist; wanted a .gguf file or a Hugging Face folder; for the one on the hub ",
        ),
    ],
)
def test_names_that_lead_nowhere(model: str, said: str, machine: Machine) -> None:
    assert said in machine.fails(model)


def test_a_file_that_has_gone_while_it_was_asked_for(machine: Machine) -> None:
    repository = machine.hub.repositories[FOLDER]
    machine.hub.answers[FOLDER] = repository.answer()
    del repository.files["model.safetensors"]
    said = machine.fails(f"hf:{FOLDER}")
    assert said.startswith(f"{FOLDER} has no file model.safetensors at revision {repository.sha}")


def test_renamed_and_moved(machine: Machine) -> None:
    machine.hub.renamed.update({"owner/old": FOLDER, "other/tiny": FOLDER})
    done = machine.check("hf:owner/old")
    assert (done.returncode, f"Note: owner/old has been renamed: it is {FOLDER} now" in done.stderr) == (0, True)
    done = machine.check("hf:other/tiny")
    assert (done.returncode, f"Note: other/tiny has moved to owner: it is {FOLDER} now" in done.stderr) == (0, True)


def test_offline(machine: Machine) -> None:
    machine.hub.go_offline()
    said = machine.run_alone("data", "check", machine.data, "--model", f"hf:{FOLDER}").stderr
    assert re.fullmatch(r"lora-lab: 127\.0\.0\.1:\d+ does not answer \(.*\); is this machine online\?\n", said)
    machine.patch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert "does not answer (HF_HUB_OFFLINE is set)" in machine.fails(f"hf:{FOLDER}")


def test_a_hub_that_fails_once_is_asked_again_and_one_that_goes_on_is_told_of(machine: Machine) -> None:
    machine.hub.fail_once["/api/models"] = 503
    assert machine.check(f"hf:{FOLDER}").returncode == 0
    machine.hub.fail_always["/api/models"] = 503
    assert "the hub failed with 503 (Internal Error) when asked for owner/tiny" in machine.fails(f"hf:{FOLDER}")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "the hub's answer about owner/tiny cannot be read: it is not JSON"),
        ([], "cannot be read: it is a list of 0; wanted an object"),
        ({"id": FOLDER, "sha": "0" * 40, "siblings": [{"rfilename": "../../x", "size": 1}]}, "leaves its folder"),
    ],
)
def test_hostile_answers(answer: object, said: str, machine: Machine) -> None:
    machine.hub.answers[FOLDER] = answer
    assert said in machine.fails(f"hf:{FOLDER}")


def test_nothing_is_fetched_for_a_dataset_that_is_not_there(machine: Machine) -> None:
    done = machine.run("train", "--model", f"hf:{FOLDER}", "--data", "none.jsonl", "--out", machine.folder / "out")
    assert done.returncode == 1 and "none.jsonl: No such file" in done.stderr
    assert machine.hub.requests == []
