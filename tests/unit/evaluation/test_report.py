"""The report: its sentence says facts, its HTML stands alone and lets nobody's words out of their place."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main as cli
from lora_lab.evaluation.answers import answers_of, is_match, matches_of
from lora_lab.evaluation.curves_svg import HEIGHT, WIDTH, picture_of, ticks
from lora_lab.evaluation.record import (
    AnswerPair,
    DataFacts,
    DataFile,
    ModelFacts,
    Outcome,
    StepColumns,
    ValidationColumns,
    read_record,
    record_bytes,
    with_results,
)
from lora_lab.evaluation.report import duration, folder_name, headline, report_html, report_json, report_json_bytes
from lora_lab.evaluation.results import Verdict
from lora_lab.formats.peft import RUN_FILE
from tests.unit.evaluation.records import record, results

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*77777}}{% raw %}&amp;"


class Page(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the sentence ---


def test_the_sentence_of_a_run_with_everything() -> None:
    assert headline(record()) == "Validation loss 2.91 → 0.48 at step 40 of 60; 2 of 3 answers match the data."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": ()}, "Validation loss 2.91 → 0.48 at step 40 of 60."),
        ({"validation": ValidationColumns((40,), (0.048,), (None,)), "samples": ()},
         "Validation loss 0.048 at step 40 of 60."),
        ({"validation": ValidationColumns(), "samples": ()},
         "Loss 3.00 → 0.47 at step 40 of 60; no rows were held back to check on."),
        ({"validation": ValidationColumns(), "samples": (), "steps": StepColumns((1,), (3.0,), (1.0,))},
         "Loss 3.00 at step 40 of 60; no rows were held back to check on."),
        ({"validation": ValidationColumns(), "samples": (), "steps": StepColumns()},
         "The adapter of step 40 of 60; its losses are not known."),
        ({"samples": (), "outcome": Outcome(45, 60, "by hand", kept_step=45)},
         "Validation loss 2.91 → 0.48 at step 40 of 60; stopped by hand after step 45."),
        ({"samples": (), "outcome": Outcome(45, 60, "early", kept_step=40)},
         "Validation loss 2.91 → 0.48 at step 40 of 60; stopped early after step 45."),
        ({"answers": (AnswerPair("q", "yes", "no", "Yes."),), "samples": ()},
         "Validation loss 2.91 → 0.48 at step 40 of 60; 1 of 1 answer matches the data."),
        ({"answers": (AnswerPair("q", None, "no", "yes"),), "samples": ()},
         "Validation loss 2.91 → 0.48 at step 40 of 60."),
    ],
)  # fmt: skip
def test_the_sentence_says_what_is_known(change: dict[str, Any], said: str) -> None:
    assert headline(record(**change)) == said


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [("It is 3.", "it is  3", True), ("“Paris.”", "Paris", True), ("Paris, I think", "Paris", False), ("", "", False),
     ("...", "!", False), ("It's so", "Its so", False), ("straße", "STRASSE", True)],
)  # fmt: skip
def test_when_an_answer_is_what_the_data_says(answer: str, expected: str, same: bool) -> None:
    assert is_match(answer, expected) is same


def test_answers_come_from_the_step_that_was_kept() -> None:
    last = with_results(record(), results(kept="last", kept_step=60))
    assert [one.after for one in answers_of(last)] == ["it is number 0", "It is  number 1!", "It is 2."]
    early = with_results(record(), results(kept_step=39))
    assert answers_of(early) == ()
    own = (AnswerPair("q", "a", "b", "c"),)
    assert answers_of(record(answers=own)) == own
    assert vars(matches_of(answers_of(record()))) == {"of": 3, "before": 0, "after": 2}


# --- JSON ---


def test_the_json_holds_what_the_page_shows() -> None:
    about = json.loads(report_json_bytes(record()))
    assert about == json.loads(json.dumps(report_json(record())))
    assert about["headline"] == headline(record())
    assert about["before"]["loss"] == 2.91 and about["after"]["perplexity"] == pytest.approx(1.6160744)
    assert [one["matches"] for one in about["answers"]] == [True, True, False]
    assert about["data"]["sha256"] == "cd" * 32
    assert about["neutral"]["rose"] == pytest.approx(0.3) and len(about["neutral"]["advice"]) == 2
    assert "lora-lab train --data lighthouse.jsonl --out brindle-60-steps" in about["command"]
    bad = record(validation=ValidationColumns((40,), (1e6,), (None,)))
    assert json.loads(report_json_bytes(bad))["after"]["perplexity"] is None


# --- HTML ---


def test_the_page_stands_alone() -> None:
    page = Page(report_html(record()))
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href") or "url(" in value]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    html = report_html(record()).decode()
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html and "@media print" in html
    for words in (headline(record()), "Tern Point.", "something was unlearned", "cd" * 32, "matches the data",
                  "42 s of training", "2e-3", "lora-lab train"):  # fmt: skip
        assert words in page.text, words
    assert page.tags.count("svg") == 1 and page.tags.count("polyline") == 2


def hostile() -> Any:
    pair = AnswerPair(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    neutral = record().neutral
    assert neutral is not None
    rows = tuple(replace(row, words=HOSTILE) for row in neutral.rows)
    answers = tuple(replace(one, prompt=HOSTILE, base=HOSTILE, tuned=HOSTILE) for one in neutral.answers)
    data = replace(record().data, name=HOSTILE, files=(DataFile(HOSTILE, 1, HOSTILE),), mapping=HOSTILE)
    return record(
        name=HOSTILE, program=HOSTILE, model=ModelFacts(HOSTILE, HOSTILE, HOSTILE, HOSTILE), data=data, answers=(pair,),
        neutral=replace(neutral, rows=rows, answers=answers),
        outcome=replace(record().outcome, verdict=Verdict("worse", HOSTILE), error=HOSTILE),
        machine=replace(record().machine, device=HOSTILE, backend=HOSTILE),
        time=replace(record().time, started_at="2026-11-29T12:00:00+00:00"),
    )  # fmt: skip


def test_nobodys_words_leave_their_place() -> None:
    found, plain = Page(report_html(hostile())), Page(report_html(record()))
    assert set(found.tags) == set(plain.tags) and found.tags.count("style") == 1
    assert {name for name, _ in found.attributes} == {name for name, _ in plain.attributes}
    assert str(7 * 77777) not in found.text
    assert found.text.count(HOSTILE) >= 12
    assert json.loads(report_json_bytes(hostile()))["name"] == HOSTILE


def test_a_report_without_anything_is_still_one() -> None:
    bare = record(
        steps=StepColumns(), validation=ValidationColumns(), samples=(), neutral=None, settings={},
        data=DataFacts("", (), 0, 0, 0, 0, 0), name="",
    )  # fmt: skip
    page = Page(report_html(bare))
    assert "svg" not in page.tags and "its losses are not known" in page.text
    assert picture_of(bare) is None
    assert json.loads(report_json_bytes(bare))["command"].startswith("lora-lab train")


def test_the_curve_stays_in_the_picture_and_its_ticks_are_round() -> None:
    picture = picture_of(record())
    assert picture is not None
    points = [tuple(map(float, point.split(","))) for point in (picture.loss + " " + picture.validation).split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert len(picture.loss.split()) == 60 and len(picture.dots) == 4
    assert [tick.text for tick in picture.steps] == ["0", "20", "40", "60"]
    assert picture.kept_at == [x for x, _ in picture.dots][2]
    # The lowest loss stands lowest, which in a picture is the largest y.
    assert max(picture.dots, key=lambda dot: dot[1]) == picture.dots[2]
    assert ticks(0, 3) == [0, 1, 2, 3] and ticks(0.1, 0.52) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert ticks(0, 1e6)[-1] == 1e6 and ticks(1, 1) == [1]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.42, "0.4 s"), (41.5, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (59.7, "1 min 00 s")],
)
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Brindle, 60 steps", "brindle-60-steps"), ("../../etc", "etc"), ("", "adapter"), ("…", "adapter")],
)
def test_a_name_becomes_a_folders(name: str, folder: str) -> None:
    assert folder_name(record(name=name)) == folder


# --- the command ---


def test_the_command_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (adapter / name).write_bytes(b"")
    (adapter / RUN_FILE).write_bytes(record_bytes(record()))
    html, data = tmp_path / "r.html", tmp_path / "r.json"
    assert cli.main(["report", str(adapter), "--html", str(html), "--json", str(data)]) == 0
    read = read_record(record_bytes(record()))
    assert html.read_bytes() == report_html(read) and data.read_bytes() == report_json_bytes(read)
    assert capsys.readouterr().out == ""
    assert cli.main(["report", str(adapter / RUN_FILE)]) == 0
    said = capsys.readouterr().out
    assert headline(record()) in said and f"sha256: {'cd' * 32}  lighthouse.jsonl" in said
    (adapter / RUN_FILE).write_bytes(record_bytes(record(name="\x1b[2J\x07")))
    assert cli.main(["report", str(adapter)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_bytes(b"{}")
    for arguments, said in (
        ([str(adapter)], f"holds no {RUN_FILE}"),
        ([str(tmp_path / "gone")], "does not exist"),
        ([str(adapter), "--html", str(tmp_path / "gone" / "r.html")], "the folder"),
    ):
        assert cli.main(["report", *arguments]) == 1
        assert said in capsys.readouterr().err
    (adapter / RUN_FILE).write_bytes(b"{}")
    assert cli.main(["report", str(adapter)]) == 1
    assert "cannot be used" in capsys.readouterr().err
    assert isinstance(cli.make_parser(), argparse.ArgumentParser)
