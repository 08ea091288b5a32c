"""The worker and a validation file: held apart from what is trained; and whatever comes while it is read."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.errors import DatasetError
from lora_lab.workers.protocol import (
    DatasetCleared,
    DatasetProgress,
    DatasetReady,
    NamedBlob,
    PlanTraining,
    ReadDataset,
    ReadValidation,
    StopReading,
    TrainingPlanned,
)
from lora_lab.workers.services import datasets as dataset_service
from tests.unit.workers.helpers import SETTINGS, GoneBlob, Session, drive, failures, named, pairs


def test_validation_rows_are_never_trained_on(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),)))
        # Rows 15 to 19 stand in both, in another format there; the file also has a bad row.
        held = [
            {"conversations": [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["completion"]}]}
            for row in pairs(10, 15)
        ]
        await session.send(ReadValidation((named("held.jsonl", [*held, {"messages": []}]),)))
        ready = session.ready
        part = ready.validation
        assert part is not None and ready.suggested is None
        assert (part.name, part.rows, part.good_rows, part.problem_count, part.overlap) == ("held.jsonl", 11, 10, 1, 5)
        assert part.overlap_lines == tuple((16 + i, 1 + i) for i in range(5))
        assert ready.good_rows == 15
        assert any(problem["kind"] == "in-validation" for problem in ready.report["problems"])
        assert session.worker.datasets.dataset is not None
        settings = replace(SETTINGS, max_length=200, validation_fraction=0.5)  # a fraction does not count then
        split = session.worker.datasets.dataset.split(settings)
        assert (len(split.trained), len(split.held)) == (15, 10)
        trained = {example.tokens.tobytes() for example in split.trained}
        assert not trained & {example.tokens.tobytes() for example in split.held}
        assert [row.texts[0] for row in split.held_rows] == [f"Question {i}?" for i in range(15, 25)]
        probes = session.worker.datasets.dataset.choose_probes(split)
        assert probes and all(int(probe.prompt[9:-1]) >= 15 for probe in probes)
        whole = session.worker.datasets.dataset.cut(replace_shown(session))
        leaking = {example.tokens.tobytes() for example in whole.examples}
        assert leaking & {example.tokens.tobytes() for example in split.held}  # the control
        await session.send(PlanTraining(replace(settings, masking="last"), 7))
        assert session.ready.masking == "last" and session.ready.validation is not None
        await session.send(ReadValidation())
        assert session.ready.validation is None and session.ready.good_rows == 20

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def replace_shown(session: Session) -> Any:
    assert session.worker.datasets.dataset is not None and session.worker.datasets.dataset.shown is not None
    return replace(session.worker.datasets.dataset.shown, max_length=200)


def test_a_stopped_validation_file_leaves_the_dataset(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),)))
        reading = asyncio.ensure_future(session.worker.answer(ReadValidation((named("v.jsonl", pairs(4000)),))))
        while not any(event.name == "v.jsonl" for event in session.page.all(DatasetProgress)):
            await asyncio.sleep(0)
        await session.worker.answer(StopReading())
        await reading
        assert session.worker.datasets.dataset is not None and session.worker.datasets.dataset.validation is None
        assert session.ready.good_rows == 20 and session.page.all(DatasetCleared) == []

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_a_validation_file_that_comes_in_between_costs_no_counting(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    async def work(session: Session) -> None:
        reading = asyncio.ensure_future(session.worker.answer(ReadDataset((named("d.jsonl", pairs(3000)),))))
        while not any(event.unit == "rows" for event in session.page.all(DatasetProgress)):
            await asyncio.sleep(0)
        other = asyncio.ensure_future(session.worker.answer(ReadValidation((named("v.jsonl", pairs(500, 5000)),))))
        if stopped:
            while not any(event.name == "v.jsonl" for event in session.page.all(DatasetProgress)):
                await asyncio.sleep(0)
            await session.worker.answer(StopReading())
        await asyncio.gather(reading, other)
        await session.settle()
        assert session.ready.can_train and session.ready.suggested is not None
        assert (session.ready.validation is None) is stopped
        await session.worker.answer(PlanTraining(replace(SETTINGS, masking="all"), 5))
        await session.send(ReadValidation((named("w.jsonl", pairs(5, 9000)),)))
        assert session.page.last(TrainingPlanned).request == 5 and session.ready.masking == "all"

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_a_part_held_back_holds_no_copy_of_a_trained_row(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        data = pairs(10) * 4
        await session.send(ReadDataset((named("d.jsonl", data),)))
        assert session.worker.datasets.dataset is not None
        for seed in range(6):
            split = session.worker.datasets.dataset.split(replace(SETTINGS, validation_fraction=0.3, seed=seed))
            sides = [{tuple(row.texts) for row in rows} for rows in (split.trained_rows, split.held_rows)]
            assert sides[0] and sides[1] and not sides[0] & sides[1]
            assert len(split.trained) + len(split.held) == 40
        places = np.arange(40) % 10  # the control: a split by place alone would put copies on both sides
        assert set(places[:28]) & set(places[28:])

    drive(tiny_model_folder, monkeypatch, work)


async def hears(session: Session, name: str, unit: str) -> None:
    """Wait until the page is told how far a file is: `bytes` are read, `rows` tokenized."""
    while not any((event.name, event.unit) == (name, unit) for event in session.page.all(DatasetProgress)):
        await asyncio.sleep(0)


def test_another_masking_while_it_is_read_does_not_lose_it(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),)))
        reading = asyncio.ensure_future(session.worker.answer(ReadValidation((named("v.jsonl", pairs(2000, 100)),))))
        await hears(session, "v.jsonl", "bytes")
        await session.worker.answer(PlanTraining(replace(SETTINGS, masking="all"), 4))
        assert not reading.done()
        await reading
        await session.settle()
        part = session.ready.validation
        assert part is not None and (part.name, part.rows) == ("v.jsonl", 2000)
        assert session.ready.masking == "all" and session.page.last(TrainingPlanned).request == 4

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


@pytest.mark.parametrize("end", ["read", "stopped", "removed", "failed", "replaced"])
def test_another_length_while_it_is_read_waits_for_its_end(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The page takes the next description for the end of the reading."""

    async def fail(*_: Any) -> Any:
        raise DatasetError("what is read cannot be held against the other")

    if end == "failed":
        monkeypatch.setattr(dataset_service, "find_overlap", fail)

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),)))
        reading = asyncio.ensure_future(session.worker.answer(ReadValidation((named("v.jsonl", pairs(4000, 100)),))))
        await hears(session, "v.jsonl", "bytes")
        session.page.events.clear()
        await session.worker.answer(PlanTraining(SETTINGS, 3))
        await session.worker.answer(PlanTraining(replace(SETTINGS, max_length=200), 4))
        assert not reading.done() and session.page.all(DatasetReady) == []
        if end == "stopped":
            await session.worker.answer(StopReading())
        elif end == "removed":
            await session.worker.answer(ReadValidation())
        elif end == "replaced":
            await session.worker.answer(ReadValidation((named("w.jsonl", pairs(10, 100)),)))
        await reading
        await session.settle()
        names = [event.validation and event.validation.name for event in session.page.all(DatasetReady)]
        wanted = {"read": "v.jsonl", "replaced": "w.jsonl"}.get(end)
        assert names and set(names) == {wanted}
        assert session.ready.max_length == 200
        (plan,) = session.page.all(TrainingPlanned)
        assert plan.request == 4 and plan.problems == ()

    said = failures(drive(tiny_model_folder, monkeypatch, work))
    assert len(said) == (end == "failed")


@pytest.mark.parametrize("after_rows", [False, True])
def test_it_can_be_removed_while_both_are_masked_anew(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, after_rows: bool
) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(2000)),)))
        await session.send(ReadValidation((named("v.jsonl", pairs(2000, 5000)),)))
        assert session.worker.datasets.dataset is not None
        session.page.events.clear()
        await session.worker.answer(PlanTraining(replace(SETTINGS, masking="all"), 4))
        least = 2000 if after_rows else 1
        while not any(event.unit == "rows" and event.done >= least for event in session.page.all(DatasetProgress)):
            await asyncio.sleep(0.001)
        assert session.worker.datasets._counting == ("all", "auto"), "removed too late to say anything"
        await session.worker.answer(ReadValidation())
        assert session.ready.validation is None and session.ready.masking == "assistant"
        await session.settle()
        assert session.ready.validation is None and session.ready.masking == "all"
        assert session.page.last(TrainingPlanned).request == 4

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_one_that_is_stopped_while_all_is_counted_is_gone(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        reading = asyncio.ensure_future(session.worker.answer(ReadDataset((named("d.jsonl", pairs(3000)),))))
        await hears(session, "d.jsonl", "rows")
        other = asyncio.ensure_future(session.worker.answer(ReadValidation((named("v.jsonl", pairs(500, 5000)),))))
        while session.worker.datasets.dataset is None or session.worker.datasets.dataset.validation is None:
            await asyncio.sleep(0)
        assert not other.done()
        await session.worker.answer(StopReading())
        await asyncio.gather(reading, other)
        await session.settle()
        assert session.ready.can_train and session.ready.validation is None

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_one_that_cannot_be_read_lets_the_counting_go_on(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        reading = asyncio.ensure_future(session.worker.answer(ReadDataset((named("d.jsonl", pairs(3000)),))))
        await hears(session, "d.jsonl", "rows")
        await session.worker.answer(PlanTraining(SETTINGS, 3))
        await session.worker.answer(ReadValidation((NamedBlob("v.jsonl", GoneBlob(b"{}")),)))
        assert not session.ready.can_train, "everything was counted before the other file came"
        await reading
        await session.settle()
        assert session.ready.can_train and session.ready.validation is None
        assert session.page.last(TrainingPlanned).request == 3

    (said,) = failures(drive(tiny_model_folder, monkeypatch, work))
    assert "NotReadableError" in said


def test_a_validation_file_tells_its_own_problems(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),)))
        rows = [*map(json.dumps, pairs(3, 500)), '{"prompt": "no reply"}', '{"prompt": "cut']
        await session.send(ReadValidation((named("v.jsonl", "\n".join(rows)),)))
        validation = session.ready.validation
        assert validation is not None
        groups = {group["kind"]: group for group in validation.report["groups"]}
        assert groups["missing-key"]["first_lines"] == (4,) and groups["unclosed"]["first_lines"] == (5,)
        assert "few-rows" not in groups
        await session.send(ReadValidation((named("v.jsonl", pairs(3, 500)),)))  # a control: nothing wrong, nothing told
        assert session.ready.validation is not None and not session.ready.validation.report["groups"]

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []
