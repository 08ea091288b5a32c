"""A run's record comes back as it was; whatever else a file of that name holds is refused with a word why."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from lora_lab.evaluation.closed import MAX_ITEMS, ClosedError, from_plain
from lora_lab.evaluation.record import (
    MAX_FILE_BYTES,
    MAX_POINTS,
    RecordError,
    RunRecord,
    perplexity,
    read_record,
    record_bytes,
    step_columns,
    take_record,
    with_results,
)
from lora_lab.evaluation.results import StepResult
from lora_lab.evaluation.seen import Seen
from lora_lab.formats.peft import RUN_FILE
from lora_lab.train import StepDone, ValidationDone
from tests.unit.evaluation.records import VERDICT, record, results


def test_it_comes_back_as_it_was() -> None:
    for made in (record(), with_results(record(neutral=None), results(verdict=VERDICT, stopped_early=True))):
        data = record_bytes(made)
        assert read_record(data) == made
        assert json.loads(data)["form"] == 1
        assert b"NaN" not in data and b"Infinity" not in data


def test_what_can_be_seen_of_the_run() -> None:
    made = record()
    kept, before = made.validation_kept, made.validation_before
    assert kept is not None and (kept.step, kept.loss) == (40, 0.48)
    assert before is not None and (before.step, before.loss) == (0, 2.91)
    assert kept.perplexity == pytest.approx(1.6160744)
    only = with_results(record(), results(validation=results().validation[2:3]))
    assert only.validation_before is None and only.validation_kept is not None
    assert perplexity(5000.0) == float("inf")


def test_a_long_run_is_thinned_and_keeps_its_last_step() -> None:
    steps = [StepResult(i, 1.0 / i, 1.0, 1e-3, None, None) for i in range(1, 3 * MAX_POINTS)]
    columns = step_columns(steps)
    assert columns.every == 3 and len(columns.step) <= MAX_POINTS + 1
    assert columns.step[:3] == (1, 4, 7) and columns.step[-1] == 3 * MAX_POINTS - 1
    made = replace(record(), steps=columns)
    assert read_record(record_bytes(made)) == made
    assert step_columns([]).step == ()


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(record_bytes(record())), **changes}).encode()


def without(name: str) -> bytes:
    about = json.loads(record_bytes(record()))
    del about[name]
    return json.dumps(about).encode()


def deep(part: str, **changes: Any) -> bytes:
    about = json.loads(record_bytes(record()))
    about[part] |= changes
    return json.dumps(about).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"[]", 'wanted an object with "form"'),
        (b"{}", 'wanted an object with "form"'),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"form": ' + b"[" * 100_000, "nested"),
        (changed(form=2), "of form 2; this version reads form 1"),
        (changed(form=True), "of form True"),
        (changed(form="1"), "of form '1'"),
        (changed(evil=1), "has evil, which has no place there"),
        (without("model"), "has no model"),
        (changed(name=7), "the record.name is 7; wanted text"),
        (changed(name="x" * 30_000), "30,000 characters; wanted at most 20,000"),
        (changed(settings=[]), "settings are no object"),
        (changed(settings={"rank": -1}), "settings: rank is -1"),
        (changed(settings={"targets": ["$(rm -rf ~)"]}), "wanted some of q_proj"),
        (deep("model", path="/home/me"), "the record.model has path"),
        (deep("machine", host="elsewhere"), "wanted one of native, browser"),
        (deep("data", rows=1.5), "the record.data.rows is 1.5; wanted a whole number"),
        (deep("data", rows=10**30), "wanted a whole number"),
        (deep("data", files=[{"name": "a", "size_bytes": True, "sha256": ""}]), "files[0].size_bytes is True"),
        (deep("outcome", steps=-3), "fewer than no steps"),
        (deep("outcome", stopped=None), "the record.outcome.stopped is None"),
        (deep("outcome", verdict={"kind": "splendid", "words": ""}), "wanted one of diverged"),
        (deep("steps", loss=[1.0]), "loss has 1 values for 60 steps"),
        (deep("steps", loss=[1e999] * 60), "loss[0] is inf; wanted a number"),
        (deep("steps", step=list(range(60, 0, -1))), "do not rise"),
        (deep("steps", step=[1] * (MAX_ITEMS + 1)), "20,001 items; wanted at most 20,000"),
        (deep("validation", step=[-1, 20, 40, 60]), "do not rise"),
        (deep("validation", accuracy=[7, None, None, None]), "an accuracy is 7"),
        (deep("validation", accuracy=[]), "accuracy has 0 values for 4 steps"),
        (deep("time", started_at="yesterday"), "yesterday"),
        (deep("time", ended_at="2026-11-29T12:00:00"), "no time zone"),
        (deep("neutral", rows=[{"words": "x"}]), "has no tokens, base, tuned"),
        (changed(samples=[[1]]), "samples[0] is a list of 1; wanted an object"),
        (b" " * (MAX_FILE_BYTES + 1), "a run's record has at most 8,388,608"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_a_word(data: bytes, said: str) -> None:
    with pytest.raises(RecordError) as error:
        read_record(data)
    assert said in str(error.value) and len(str(error.value)) < 600
    assert RUN_FILE in str(error.value)
    kept, trouble = take_record({RUN_FILE: data, "adapter_config.json": b"{}"})
    assert kept is None and "The adapter is used without it." in trouble


def test_an_adapter_without_one_has_nothing_to_say() -> None:
    assert take_record({"adapter_config.json": b"{}"}) == (None, "")
    found, trouble = take_record({RUN_FILE: record_bytes(record())})
    assert found == record() and trouble == ""


def test_settings_of_a_later_version_are_left_out() -> None:
    found = read_record(changed(settings={"rank": 4, "dropout": 0.1}))
    assert found.settings == {"rank": 4}


def test_half_characters_become_whole_ones() -> None:
    data = record_bytes(record()).replace(b"Brindle, 60 steps", b"Br\\ud800ndle")
    assert read_record(data).name == "Br\ufffdndle"
    assert record_bytes(record(name="\ud800")).decode()


def test_a_spoiled_file_never_does_anything_else() -> None:
    """A thousand of them: every byte may be another, and lines may be gone."""
    rng, whole = random.Random(5), record_bytes(record())
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[place] = rng.randrange(256)
            else:
                del data[place : place + rng.randrange(1, 200)]
        try:
            assert isinstance(read_record(bytes(data)), RunRecord)
        except RecordError:
            refused += 1
    assert 300 < refused < 1000  # some changes are of a digit or a letter


def test_the_closed_reader_knows_no_other_kinds() -> None:
    with pytest.raises(AssertionError, match="cannot be read"):
        from_plain(bytes, b"", "x")
    with pytest.raises(ClosedError, match="x is None; wanted text"):
        from_plain(str, None, "x")


# --- its time ---


def test_the_time_of_a_run_is_that_of_all_its_sittings() -> None:
    seen = Seen({"started_at": "2026-01-01T00:00:00+00:00", "training_s": 10.0})
    seen.note(StepDone(3, 4, 1.0, 0.5, 1e-3, 10, 12, 100.0, 250.0, 0.0))
    seen.note(ValidationDone(3, 2.0, 750.0, None))
    assert seen.notes() == {"started_at": "2026-01-01T00:00:00+00:00", "training_s": 11.0}
    times = seen.times()
    assert times.started_at < times.ended_at and times.training_s == 11.0
    assert Seen().training_s == 0
    for others in ({"started_at": "yesterday", "training_s": "x"}, {"started_at": 3, "training_s": float("nan")}):
        seen = Seen(others)
        assert seen.times().training_s == 0 and seen.started_at.startswith("20")
