"""The sample datasets: clean, short, and holding the answers to their own probes in several phrasings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.data import read_dataset
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from tests.unit.data.helpers import ROOT, run, smollm2_files

pytestmark = pytest.mark.unit

SAMPLES = sorted((ROOT / "app/samples").glob("*.jsonl"))


def test_there_is_a_sample() -> None:
    assert SAMPLES
    assert {path.stem for path in SAMPLES} == {path.stem for path in (ROOT / "app/samples").glob("*.json")}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_clean_and_short(path: Path) -> None:
    files = smollm2_files()
    assert files.chat_template
    template = ChatTemplate(files.chat_template, files.special_tokens)
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    dataset = run(read_dataset(path.read_bytes(), load_tokenizer(files), template, about["settings"]["max_length"]))
    report = dataset.report
    assert report.problems == ()
    assert report.warnings == ()
    assert report.good >= 100
    assert report.tokens is not None
    assert report.tokens.truncated == report.content.exact_duplicates.count == 0
    assert report.tokens.max <= about["settings"]["max_length"]
    assert all(10 <= example.trained_tokens <= 60 for example in dataset.examples)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_samples_probes_can_be_answered_from_it_alone(path: Path) -> None:
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    questions = {m["content"] for row in rows for m in row["messages"] if m["role"] == "user"}
    answers = [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]
    assert about["title"]
    assert about["description"]
    assert len(about["probes"]) == 3
    for probe in about["probes"]:
        assert probe["prompt"] not in questions  # asked in words that the data has not
        for keyword in probe["expected"]:
            assert keyword in probe["reference"]
            assert keyword not in probe["prompt"]
            assert sum(keyword.lower() in answer.lower() for answer in answers) >= 5


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_no_question_is_asked_twice(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    first = [row["messages"][0]["content"] for row in rows]
    repeated = {question for question in first if first.count(question) > 1}
    assert len(repeated) <= 5, repeated
