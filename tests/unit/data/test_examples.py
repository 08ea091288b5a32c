"""The examples: every dataset reads without a problem and has rows to train, and every script's commands are real."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lora_lab.cli.main import make_parser
from lora_lab.data import ColumnMapping, DataSource, read_dataset
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from tests.unit.data.helpers import ROOT, run, smollm2_files

pytestmark = pytest.mark.unit

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sh"))
VALUES = {"here": "examples", "model": "model.gguf", "@:2": ""}


def commands(script: Path) -> list[list[str]]:
    """Return the arguments of every `lora-lab` in a script, with its variables filled in."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, value in VALUES.items():
        text = text.replace(f'"${{{name}}}"', value).replace(f"${name}", value)
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("lora-lab ")]


def parsed(script: Path, command: str) -> argparse.Namespace:
    """Return the arguments of a script's one `command`, as the command line reads them."""
    (arguments,) = [arguments for arguments in commands(script) if arguments[0] == command]
    return make_parser().parse_args(arguments)


def test_every_dataset_has_a_script_and_a_place_in_the_readme() -> None:
    datasets = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jsonl", ".csv", ".txt"))
    assert len(SCRIPTS) >= 3
    assert [path.stem for path in datasets] == [path.stem for path in SCRIPTS]
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in [*datasets, *SCRIPTS] if path.name not in readme] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_reads_without_a_problem_and_has_rows_to_train(script: Path) -> None:
    options = parsed(script, "train")
    mapping = ColumnMapping.parse(options.map) if options.map else None
    sources = [DataSource.from_path(ROOT / path) for path in options.data]
    files = smollm2_files()
    assert files.chat_template
    template = ChatTemplate(files.chat_template, files.special_tokens)
    dataset = run(read_dataset(sources, load_tokenizer(files), template, options.max_length, mapping=mapping))
    report = dataset.report
    assert [problem for problem in report.problems if problem.severity != "info"] == []
    assert {problem.kind for problem in report.problems} <= {"container"}  # a table says that it was read as one
    assert report.good == len(dataset.examples) >= 20
    assert report.tokens is not None
    assert report.tokens.truncated == report.content.exact_duplicates.count == 0
    assert all(example.trained_tokens for example in dataset.examples)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_valid_and_its_options_are_accepted(script: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None, "the examples' scripts are for bash, and there is none"
    assert subprocess.run([bash, "-n", script], capture_output=True, text=True).stderr == ""
    train, generate = parsed(script, "train"), parsed(script, "generate")
    assert train.model == generate.model
    assert [train.out] == generate.adapter
    assert train.out.is_relative_to("examples/out")  # which git ignores
    # What git ignores is what the scripts write: nothing else of them would turn up in a commit.
    assert "/examples/out/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert generate.prompt not in dataset_text(train.data)  # the question is a new one, or at least worded anew


def dataset_text(paths: list[Path]) -> str:
    return "".join((ROOT / path).read_text(encoding="utf-8") for path in paths)


def test_an_option_that_is_none_would_be_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.sh"
    wrong.write_text(re.sub("--steps", "--stepps", SCRIPTS[0].read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SystemExit):
        parsed(wrong, "train")
    assert "--stepps" in capsys.readouterr().err
