"""Every script of the benchmark and of the build with arguments that use each of its options: the tests run them all.

What options there are is asked of argparse itself, so that a new one without a run of its own is noticed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from unittest.mock import patch

# By script, or by command of build.py. Words in capitals are replaced by what the test has: files, folders.
RUNS: dict[str, list[list[str]]] = {
    "bench.baseline": [["--check"], ["--quick", "--compile", "--out", "OUT"], ["--shape", "qwen3-0.6b", "--bf16"], []],
    "bench.run": [
        ["--out", "OUT", "--quick", "--model", "MODEL", "--commit", "abc1234", "--baseline", "BASELINE"],
        ["--out", "OUT", "--profile", "--model", "tiny"],
        ["--out", "OUT", "--quick", "--shape", "gemma-3-1b", "--form", "q4_k_m"],
        ["--out", "OUT", "--model", "GGUF", "--steps-only", "2"],
        ["--out", "OUT", "--forms", "q4_1,q6_k,f16", "--sizes", "256,512", "--rows", "8,40"],
    ],
    "bench.startup": [
        ["--runs", "2", "--dist", "DIST", "--model", "one", "--json", "OUT", "--browser", "/a/browser"],
        [],
    ],
    "bench.write_model": [
        ["--out", "GGUF", "--shape", "tiny", "--form", "q8_0", "--embedding-form", "f16"],
        ["--out", "GGUF", "--shape", "qwen3-4b", "--sparse", "--parts", "3"],
    ],
    "build.py serve": [
        ["--port", "0", "--no-model", "--add-model", "one=MODEL", "--no-hub", "--out", "DIST"],
        ["--hub", "https://mirror.example/hf", "https://storage.example"],
        [],
    ],
    "build.py build": [
        ["--no-model", "--add-model", "one=MODEL", "--no-hub", "--out", "DIST"],
        ["--hub", "https://mirror.example/hf", "https://storage.example"],
        [],
    ],
    "build.py test": [["unit", "-k", "anything"]],
    "build.py bench": [
        ["--baseline", "--profile", "--quick", "--host", "both", "--model", "MODEL", "--out", "OUT"],
        ["--host", "node", "--model", "tiny"],
        ["--browser", "--port", "0"],
    ],
    "build.py bench-bundle": [["--out", "OUT"]],
    "build.py bench-docs": [["RESULT"]],
    "build.py settings-docs": [[]],
    "build.py types": [[]],
    "build.py lock": [[], ["--upgrade"]],
    "build.py clean": [[], ["--all"]],
}


class _ParserSeen(Exception):
    """Carries the parser with which a script was about to read its arguments."""


def parser_of(start: Callable[[], object]) -> argparse.ArgumentParser:
    """Return the parser that a script makes, without letting it do anything else."""

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _ParserSeen(parser)

    names = ("parse_args", "parse_known_args")
    with patch.multiple(argparse.ArgumentParser, **dict.fromkeys(names, stop)):
        try:
            start()
        except _ParserSeen as seen:
            return seen.args[0]
    raise AssertionError("it parsed no arguments")


def commands_of(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command of a parser (or the script itself, where it has none) with its options, --help left out."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield name, {action.option_strings[-1] for action in parser._actions if action.option_strings} - {"--help"}
    for action in inner:
        for command, one in action.choices.items():
            yield from commands_of(one, f"{name} {command}")


def options_used(name: str) -> set[str]:
    """Return the options in a script's RUNS."""
    return {word for run in RUNS[name] for word in run if word.startswith("--")}
