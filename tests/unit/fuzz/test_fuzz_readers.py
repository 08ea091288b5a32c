"""Files are hostile until read: whatever a reader gets, a value or its documented error, in bounded time and memory.

The short run is a few thousand cases; the long one (`python3 build.py test --long`) a million, of which
docs/reliability.md tells. A case is made from its seed alone: `run.run_case(target, seed, Found())` repeats a finding.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest

from tests.unit.fuzz import more_targets
from tests.unit.fuzz import targets as targets_module
from tests.unit.fuzz.mutators import some_json, spoil_bytes, spoil_json
from tests.unit.fuzz.run import MAX_GROWN_BYTES, Found, grown_bytes, make_all, peak_bytes, run_case
from tests.unit.fuzz.targets import Target

SHORT, LONG = 2_000, int(os.environ.get("LORA_LAB_FUZZ_CASES", "1000000"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_all(tmp_path_factory.mktemp("fuzz"))


def fuzz(targets: dict[str, Target], cases: int, seed: str) -> dict[str, Found]:
    before, found = peak_bytes(), {name: Found() for name in targets}
    for number in range(cases // sum(target.share for target in targets.values()) + 1):
        for name, target in targets.items():
            for part in range(target.share):
                run_case(target, f"{seed}/{name}/{number}/{part}", found[name])
    assert {name: one.findings[:5] for name, one in found.items() if one.findings} == {}
    assert grown_bytes(before) < MAX_GROWN_BYTES
    return found


def test_a_short_run(targets: dict[str, Target]) -> None:
    found = fuzz(targets, SHORT, "short")
    for name, one in found.items():
        assert one.read, f"{name}: nothing was good enough to be read"
        assert one.read < one.cases or not targets[name].errors, f"{name}: nothing was spoiled enough to be refused"


@pytest.mark.long
def test_a_long_run(targets: dict[str, Target]) -> None:
    found = fuzz(targets, LONG, "long")
    for name, one in found.items():
        print(f"{name:20} {one.cases:9,} cases, {one.read:9,} read, slowest {one.slowest_s:.2f} s")


def test_what_a_reader_does_not_document_is_found(targets: dict[str, Target]) -> None:
    """The control: another error, one without words, and one that takes for ever."""

    def fail(error: BaseException) -> Found:
        def case(_: random.Random) -> object:
            raise error

        run_case(Target(case, (ValueError,)), "x", found := Found())
        return found

    assert not fail(ValueError("said")).findings
    assert fail(ValueError("")).findings
    assert "KeyError" in fail(KeyError("x")).findings[0][1]
    assert fail(type("PanicException", (BaseException,), {})("x")).findings
    silent = dataclasses.replace(targets["JSON"], errors=())
    found = Found()
    for number in range(50):
        run_case(silent, f"x/{number}", found)
    assert found.findings


def test_a_case_is_made_from_its_seed_alone() -> None:
    def made(seed: str) -> tuple:
        rng = random.Random(seed)
        return (
            spoil_bytes(b"some bytes of a file", rng),
            repr(spoil_json({"a": [1, {"b": "c"}]}, rng)),
            repr(some_json(rng)),
        )

    assert made("a/1") == made("a/1") and len({made(f"a/{number}") for number in range(50)}) > 45


def test_the_good_inputs_are_good(tmp_path: Path, targets: dict[str, Target], monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: unspoiled, everything is read."""
    for module in (targets_module, more_targets):
        for name in ("spoil_bytes", "spoil_json", "spoil_text"):
            monkeypatch.setattr(module, name, lambda value, *_: value, raising=False)
        monkeypatch.setattr(module, "json_bytes", lambda value, _: json.dumps(value).encode())
    for name in ("JSON", "safetensors", "GGUF", "model folder", "tokenizer.json", "adapter", "zip", "dataset", "hub",
                 "Unigram tokenizer", "adapter of another make", "checkpoint", "a run's rows"):  # fmt: skip
        for seed in range(4):
            targets[name].case(random.Random(seed))
