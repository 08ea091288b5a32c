"""Which adapters a command applies, and how strongly; whom --compare names; what is wrong is said."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lora_lab.cli import main as cli
from lora_lab.cli.adapters import Chosen, chosen_adapters, other_adapters, written_by
from lora_lab.errors import LoraLabError

A, B = Chosen(Path("a"), 1.0), Chosen(Path("b"), 1.0)


def parse(*arguments: str) -> argparse.Namespace:
    return cli.make_parser().parse_args(["generate", "--prompt", "x", *arguments])


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ()),
        (["--adapter", "a"], (A,)),
        (["--adapter", "a", "--strength", "0.5"], (Chosen(Path("a"), 0.5),)),
        (["--adapter", "a", "--adapter", "b"], (A, B)),
        (["--adapter", "a", "--adapter", "b", "--strength", "2"], (Chosen(Path("a"), 2), Chosen(Path("b"), 2))),
        (
            ["--adapter", "a", "--strength", "0.5", "--adapter", "b", "--strength", "0"],
            (Chosen(Path("a"), 0.5), Chosen(Path("b"), 0)),
        ),
    ],
)
def test_adapters_and_strengths_belong_together(arguments: list[str], wanted: tuple[Chosen, ...]) -> None:
    assert chosen_adapters(parse(*arguments)) == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strength", "0.5"], "--strength is given without --adapter"),
        (["--adapter", "a", "--strength", "1", "--strength", "2"], "given 2 times for 1 adapters; wanted one for all"),
        (["--adapter", "a", "--adapter", "b", "--adapter", "c", "--strength", "1", "--strength", "2"], "2 times for 3"),
    ],
)
def test_strengths_that_belong_to_nothing_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(LoraLabError, match=words):
        chosen_adapters(parse(*arguments))


def test_whom_compare_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "at@home").mkdir()
    assert other_adapters([], [A]) == other_adapters(["base"], [A]) == ()
    assert other_adapters(["0.5"], [A, B]) == (Chosen(Path("a"), 0.5), Chosen(Path("b"), 0.5))
    assert other_adapters(["b"], [A]) == (B,)
    assert other_adapters(["b@0.25", "c"], [A]) == (Chosen(Path("b"), 0.25), Chosen(Path("c"), 1.0))
    assert other_adapters(["at@home"], []) == (Chosen(Path("at@home"), 1.0),)  # it is there under this name
    assert other_adapters(["at@home@2"], []) == (Chosen(Path("at@home"), 2.0),)
    assert other_adapters(["./0.5"], []) == (Chosen(Path("0.5"), 1.0),)
    for names, chosen, words in (
        (["0.5"], [], "a strength, and there is no --adapter that it is for"),
        (["-1"], [A], "the strength is -1; wanted 0 or more"),
        (["nan"], [A], "the strength is nan; wanted 0 or more"),
        (["b@inf"], [A], "the strength is inf; wanted 0 or more"),
        (["b@x"], [A], "'x' is no number; wanted PATH or PATH@STRENGTH"),
    ):
        with pytest.raises(LoraLabError, match=words):
            other_adapters(names, chosen)


def test_who_writes_is_said_with_the_strength() -> None:
    assert written_by([]) == "base" == written_by([Chosen(Path("a"), 0)])
    assert written_by([A, Chosen(Path("b"), 0.25)]) == "a at 1 + b at 0.25"


def test_equal_sides_are_no_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--compare"], ["--adapter", "a", "--compare", "1"], ["--adapter", "a", "--compare", "a"]):
        assert cli.main(["generate", "--model", "none.gguf", "--prompt", "x", *arguments]) == 1
        assert "lora-lab: --compare: both sides are " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "-3"], "argument --temperature: -3 must be at least 0"),
        (["--temperature", "nan"], "argument --temperature: nan must be at least 0"),
        (["--top-p", "7"], "argument --top-p: 7 must be at most 1"),
        (["--top-k", "-1"], "argument --top-k: -1 is less than 0"),
        (["--repetition-penalty", "0"], "argument --repetition-penalty: 0 must be at least 0.01"),
        (["--max-new-tokens", "0"], "argument --max-new-tokens: 0 is less than 1"),
        (["--seed", "4294967296"], "argument --seed: 4294967296 must be at most 4294967295"),
        (["--strength", "-1"], "argument --strength: -1 must be at least 0"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "diff"])
def test_sampling_without_a_meaning_is_refused_by_name(
    command: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--prompt", "x", *arguments])
    assert caught.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "x"], "diff needs an --adapter"),
        (["--text", "x", "--reply", "y", "--adapter", "a"], "--reply is the answer to a --prompt, and none is given"),
    ],
)
def test_a_diff_of_nothing_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert cli.main(["diff", "--model", "none.gguf", *arguments]) == 1
    assert words in capsys.readouterr().err
