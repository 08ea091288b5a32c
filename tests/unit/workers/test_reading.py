"""The worker and the datasets panel: what is read, told, stopped, masked, saved."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lora_lab.data import DataSource, read_dataset
from lora_lab.workers.dataset.inputs import progress
from lora_lab.workers.dataset.opened import Choices
from lora_lab.workers.protocol import (
    CleanedDone,
    CleanedPiece,
    ClearDataset,
    CountTokens,
    DatasetCleared,
    DatasetProgress,
    DatasetReady,
    MappingPreviewed,
    PlanTraining,
    PreviewMapping,
    ReadDataset,
    ReadValidation,
    SaveCleaned,
    StopReading,
    TrainingPlanned,
)
from lora_lab.workers.services import rows as row_service
from tests.unit.workers.helpers import SETTINGS, FakeBlob, GoneBlob, Session, drive, failures, named, pairs


def test_several_files_are_one_dataset_read_slice_by_slice(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "".join(json.dumps(row) + "\n" for row in pairs(20)).encode() + b"\n" * (3 << 20)
    files = (named("a/rows.jsonl", pairs(5, 100)), named("b/rows.jsonl", big), named("c.csv", "prompt,completion\nx,y"))

    async def work(session: Session) -> None:
        await session.send(ReadDataset(files))

    session = drive(tiny_model_folder, monkeypatch, work)
    assert failures(session) == []
    ready = session.ready
    assert (ready.rows, ready.good_rows, ready.can_train) == (26, 26, True)
    assert ready.report["files"] == ("a/rows.jsonl", "b/rows.jsonl", "c.csv")  # two of one name are told apart
    blob = files[1].blob
    assert isinstance(blob, FakeBlob)
    assert max(end - start for start, end in blob.reads) <= 1 << 20 < blob.size  # never the whole file
    told = session.page.all(DatasetProgress)
    assert {event.unit for event in told} == {"bytes", "rows"}
    assert told[0].total == sum(file.blob.size for file in files)
    assert ready.suggested is not None and (ready.masking, ready.on_long) == ("assistant", "truncate")


def test_an_encoding_holds_for_validation_files_too(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "\n".join(["prompt,completion", *(f"Où {i} ?,Là {i}" for i in range(12))]).encode("cp1252")

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("a.csv", raw),)))
        assert session.ready.report["good"] == 0
        assert "Où 0 ?,Là 0" in [choice["text"] for choice in session.ready.report["encodings"]]
        await session.send(ReadDataset((named("a.csv", raw),), encoding="cp1252"))
        await session.send(ReadValidation((named("b.csv", raw.replace(b"0", b"x")),)))
        await session.send(ReadDataset((named("a.csv", raw),), encoding="utf-9"))

    session = drive(tiny_model_folder, monkeypatch, work)
    ready = session.page.all(DatasetReady)[-1]
    assert (ready.good_rows, ready.report["encoding"], ready.report["encodings"]) == (2, "cp1252", ())  # rows 0 and 10
    assert ready.validation is not None and (ready.validation.rows, ready.validation.good_rows) == (12, 12)
    assert len(failures(session)) == 1 and "utf-9" in str(failures(session))  # the control


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("frage,antwort\nWer?,Ich\nWo?,Hier\n", ["frage", "antwort"]),
        ('ask;reply text\n"Who; where?";Me\nWhen?;Now\n', ["ask", "reply text"]),
        ("Hello, world\nThis is, prose\nand more, of it\n", None),  # controls: prose, and names over uneven rows
        ("frage,antwort\nWer?\nIch, du, er\nwir\n", None),
    ],
)
def test_a_pasted_table_of_unknown_columns_is_told_from_prose(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, columns: list[str] | None
) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset(text=text))

    report = drive(tiny_model_folder, monkeypatch, work).ready.report
    assert list(report["columns"]) == (columns or ["text"])
    assert bool(report["unknown"]) == bool(columns)
    assert report["format"] == ("unknown" if columns else "text")


def test_rows_are_read_without_a_model_and_counted_when_one_comes(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset(text="\n".join(map(json.dumps, pairs(12)))))
        early = session.ready
        assert (early.report["tokens"], early.can_train, early.suggested, early.good_rows) == (None, False, None, 12)
        await session.open_model()
        assert session.ready.report["tokens"]["total"] > 0
        assert session.ready.can_train and session.ready.suggested is not None
        before = session.ready
        await session.open_model()  # another model: nothing is asked for again
        bare, again = session.page.all(DatasetReady)[-2:]
        assert bare.report["tokens"] is None and not bare.can_train
        assert again.report["tokens"] == before.report["tokens"] and again.suggested is not None

    session = drive(tiny_model_folder, monkeypatch, work, model=False)
    assert failures(session) == [] and session.page.all(DatasetCleared) == []


def test_a_description_names_the_request_that_opened_the_dataset(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        for request in (3, 4):
            await session.send(ReadDataset((named("d.jsonl", pairs(20)),), request=request))
            await session.send(PlanTraining(replace(SETTINGS, masking="all"), 1))
            await session.open_model()  # described without tokens, then with them
        told = [event.request for event in session.page.all(DatasetReady)]
        assert told == [3] * (len(told) // 2) + [4] * (len(told) // 2) and len(told) == 8

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_another_chat_format_counts_the_rows_anew_and_text_rows_stay_as_they_are(
    base_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model without a template; before there were formats to choose from its conversations could not be read."""
    data = [*pairs(12), {"text": "A text, and nothing but that."}]

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", data),)))
        assert session.ready.good_rows == 13 and session.ready.problem_count == 0
        dataset = session.worker.datasets.dataset
        assert dataset is not None
        found = {}
        for number, value in enumerate(("family", "plain", "chatml", "auto")):
            before = dataset.rows.encoded
            await session.send(PlanTraining(replace(SETTINGS, chat_format=value), number))
            assert session.page.last(TrainingPlanned).request == number and session.ready.chat_format == value
            # What was counted for nobody's choice is what suits the model: its family's format.
            assert (dataset.rows.encoded is before) == (value == "family")
            found[value] = [example.tokens.tolist() for example in dataset.cut(Choices(200)).examples]
        assert found["family"] == found["auto"] == found["chatml"], "its family's format is ChatML"
        same = [one == other for one, other in zip(found["plain"], found["chatml"], strict=True)]
        assert same == [*[False] * 12, True]

    assert failures(drive(base_model_folder, monkeypatch, work)) == []


def test_the_tokens_told_are_those_of_reading_at_that_length(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs(30)

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", data),)))
        assert session.worker.models.model is not None
        tokenizer, template = session.worker.models.model.tokenizer, session.worker.models.model.template
        raw = "\n".join(map(json.dumps, data))
        for number, (length, masking, on_long) in enumerate(
            [(40, "assistant", "truncate"), (48, "assistant", "drop"), (64, "all", "drop"), (200, "last", "truncate")]
        ):
            settings = replace(SETTINGS, max_length=length, masking=masking, on_long=on_long)
            await session.send(PlanTraining(settings, number))
            wanted = await read_dataset(raw, tokenizer, template, length, masking=masking, on_long=on_long)  # type: ignore[arg-type]
            ready, plan = session.ready, session.page.last(TrainingPlanned)
            assert plan.request == number
            assert (ready.max_length, ready.masking, ready.on_long) == (length, masking, on_long)
            assert ready.report["tokens"] == wanted.report.as_dict()["tokens"]
            assert ready.good_rows == len(wanted.examples)
            assert ready.suggested is None
            assert session.worker.datasets.dataset is not None
            trained = session.worker.datasets.dataset.split(settings).trained
            assert [e.tokens.tolist() for e in trained] == [e.tokens.tolist() for e in wanted.examples]
            assert [e.trained.tolist() for e in trained] == [e.trained.tolist() for e in wanted.examples]
        shares = {event.masking: event.report["tokens"]["trained"] for event in session.page.all(DatasetReady)}
        assert shares["all"] != shares["assistant"]  # the control: a mask that ignores the choice would be told

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_long_rows_are_left_out_when_asked_and_need_no_consent(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        data = [*pairs(6), {"prompt": "Hi", "completion": "word " * 300}]
        await session.send(ReadDataset((named("d.jsonl", data),)))
        await session.send(PlanTraining(replace(SETTINGS, max_length=200, on_long="drop")))
        assert (session.ready.good_rows, session.ready.problem_count) == (6, 0)
        kinds = {group["kind"]: group["count"] for group in session.ready.report["groups"]}
        assert kinds["too-long"] == 1
        assert any(fact.label == "Rows left out" and fact.value.startswith("1 ") for fact in session.ready.facts)
        await session.send(PlanTraining(replace(SETTINGS, max_length=200)))
        assert (session.ready.good_rows, session.ready.report["tokens"]["truncated"]) == (7, 1)

    drive(tiny_model_folder, monkeypatch, work)


def test_settings_that_came_with_the_file_are_followed(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        settings = replace(SETTINGS, max_length=72, masking="all", on_long="drop")
        await session.send(ReadDataset((named("d.jsonl", pairs(9)),), settings=settings))
        ready = session.ready
        assert (ready.max_length, ready.masking, ready.on_long) == (72, "all", "drop")
        assert ready.suggested is not None and ready.suggested.masking == "all"

    drive(tiny_model_folder, monkeypatch, work)


@pytest.mark.parametrize("stop", [StopReading(), ClearDataset()])
def test_a_stop_leaves_nothing_half_read(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, stop: StopReading | ClearDataset
) -> None:
    async def work(session: Session) -> None:
        for waits_for in ("bytes", "rows") if isinstance(stop, ClearDataset) else ("bytes",):
            session.page.events.clear()
            reading = asyncio.ensure_future(session.worker.answer(ReadDataset((named("d.jsonl", pairs(4000)),))))
            while not any(event.unit == waits_for for event in session.page.all(DatasetProgress)):
                await asyncio.sleep(0)
            await session.worker.answer(stop)
            await reading
            await session.settle()
            assert session.worker.datasets.dataset is None
            assert isinstance(session.page.events[-1], DatasetCleared)
            assert not any(event.can_train for event in session.page.all(DatasetReady))
        await session.send(ReadDataset((named("d.jsonl", pairs(4)),)))  # and the next one is read as ever
        assert session.ready.good_rows == 4

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_a_stop_of_the_counting_keeps_what_is_read(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def counting(session: Session) -> None:
        while not any(event.unit == "rows" for event in session.page.all(DatasetProgress)):
            await asyncio.sleep(0)

    async def work(session: Session) -> None:
        reading = asyncio.ensure_future(session.worker.answer(ReadDataset((named("d.jsonl", pairs(4000)),))))
        await counting(session)
        await session.worker.answer(StopReading())
        await reading
        await session.settle()
        bare = session.ready
        assert (bare.good_rows, bare.report["tokens"], bare.can_train) == (4000, None, False)
        assert session.page.all(DatasetCleared) == []
        await session.send(CountTokens())
        counted = session.ready
        assert counted.report["tokens"]["total"] > 0 and counted.can_train and counted.suggested is not None
        # Another masking: stopped, what was told before holds, and no late plan follows.
        session.page.events.clear()
        planning = asyncio.ensure_future(session.worker.answer(PlanTraining(replace(SETTINGS, masking="all"), 7)))
        await counting(session)
        await session.worker.answer(StopReading())
        await planning
        await session.settle()
        assert session.ready.masking == "assistant" and session.ready.report["tokens"] == counted.report["tokens"]
        assert session.page.all(TrainingPlanned) == []
        await session.send(PlanTraining(replace(SETTINGS, masking="all"), 8))
        assert session.ready.masking == "all" and session.page.last(TrainingPlanned).request == 8

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_a_stop_with_nothing_going_on_changes_nothing(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(4)),)))
        await session.send(StopReading())
        assert session.worker.datasets.dataset is not None and session.page.all(DatasetCleared) == []

    drive(tiny_model_folder, monkeypatch, work)


def test_a_newer_reading_wins(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        commands = [ReadDataset((named(f"{n}.jsonl", pairs(n)),)) for n in (3000, 2000, 7)]
        await asyncio.gather(*(session.worker.answer(command) for command in commands))
        await session.settle()
        assert [event.name for event in session.page.all(DatasetReady)] == ["7.jsonl"]

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_a_newer_masking_wins_and_the_last_plan_is_answered(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(1500)),)))
        session.page.events.clear()
        for number, masking in enumerate(("all", "last", "all", "assistant", "last")):
            await session.worker.answer(PlanTraining(replace(SETTINGS, masking=masking), number))
        await session.settle()
        assert session.page.last(TrainingPlanned).request == 4
        assert session.ready.masking == "last"

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_what_cannot_be_read_is_said(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset())
        blob = named("gone.jsonl", pairs(3))
        await session.send(ReadDataset((replace(blob, blob=GoneBlob(blob.blob.data)),)))
        await session.send(ReadDataset((blob,), mapping={"promt": "a"}))
        await session.send(SaveCleaned())
        assert session.worker.datasets.dataset is None

    said = failures(drive(tiny_model_folder, monkeypatch, work))
    assert [
        any(words in message for message in said) for words in ("No file", "choose it again", "promt", "No dataset")
    ]
    assert len(said) == 4


def test_the_time_left_is_told_only_when_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told: list[DatasetProgress] = []
    sources = [DataSource(name, None, 500) for name in ("a", "b")]  # type: ignore[arg-type]
    tell = progress(told.append, "bytes", sources, "both")
    for now[0], done in ((100.5, 100), (102.0, 400), (104.0, 800), (104.05, 850), (105.0, 1000)):
        tell(done, 1000)
    assert [(event.name, event.left_ms) for event in told] == [
        ("a", None), ("a", 3000.0), ("b", 1000.0), ("both", 0.0),
    ]  # fmt: skip


# --- mapping, mending, saving ---

ODD = "frage,antwort\nWo?,Hier.\nWann?,Jetzt.\n"


def test_a_mapping_is_previewed_and_used(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        file = (named("d.csv", ODD),)
        await session.send(ReadDataset(file))
        assert not session.ready.can_train and session.ready.report["columns"] == {"frage": 2, "antwort": 2}
        await session.send(PreviewMapping({"prompt": "frage", "reply": "antwort"}, 1))
        await session.send(PreviewMapping({"prompt": "frage", "reply": "nirgends"}, 2))
        await session.send(PreviewMapping({"prompt": "frage"}, 3))
        good, bad, half = session.page.all(MappingPreviewed)
        assert [row["messages"][1]["content"] for row in good.rows] == ["Hier.", "Jetzt."]
        assert "nirgends" in bad.rows[0]["problem"] and not bad.problem
        assert "wanted are prompt and reply" in half.problem and not half.rows
        await session.send(ReadDataset(file, mapping={"prompt": "frage", "reply": "antwort"}))
        assert session.ready.good_rows == 2 and session.ready.report["mapping"]["prompt"] == "frage"

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_rows_of_several_readings_train_once_one_is_chosen(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"A report, number {i}.", "summary": f"Nr {i}."} for i in range(3)]
    file = (named("d.jsonl", "\n".join(map(json.dumps, rows))),)

    async def work(session: Session) -> None:
        await session.send(ReadDataset(file))
        report = session.ready.report
        assert session.ready.good_rows == 3 and not session.ready.can_train and report["asks"]
        first, second = (reading["mapping"] for reading in report["readings"])
        assert (first, second) == ({"prompt": "text", "reply": "summary"}, {"as": "known"})
        await session.send(PreviewMapping(first, 1))
        assert session.page.all(MappingPreviewed)[0].rows[0]["messages"][1]["content"] == "Nr 0."
        for mapping, unused in ((first, []), (second, ["summary"])):
            await session.send(ReadDataset(file, mapping=mapping))
            report = session.ready.report
            assert session.ready.can_train and not report["asks"] and report["mapping"] == mapping
            assert [column["column"] for column in report["unused"]] == unused

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


@pytest.mark.parametrize(("mended", "count"), [(True, 3001), (False, 3000)])
def test_the_cleaned_file_comes_in_pieces(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, mended: bool, count: int
) -> None:
    monkeypatch.setattr(row_service, "PIECE_BYTES", 20_000)
    text = "\n".join([*map(json.dumps, pairs(3000)), '{"text": "mend me",}', "{"])

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("my rows.jsonl.gz", gzip.compress(text.encode())),)))
        assert session.ready.problem_count == 2
        await session.send(SaveCleaned(mended, as_conversations=True))
        pieces = session.page.all(CleanedPiece)
        rows = [json.loads(line) for line in b"".join(piece.data for piece in pieces).splitlines()]
        assert len(pieces) > 3 and pieces[-1].done_rows == pieces[-1].total_rows == len(rows) == count
        assert all("messages" in row or row == {"text": "mend me"} for row in rows)
        assert session.page.last(CleanedDone) == CleanedDone("my-rows-cleaned.jsonl", count)
        await session.send(ReadDataset((named("d.jsonl", text),), use_mended=True))
        assert (session.ready.good_rows, session.ready.problem_count, session.ready.use_mended) == (3001, 1, True)

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


@pytest.mark.parametrize("other_data", [False, True])
def test_a_file_that_is_saved_anew_holds_nothing_of_the_one_given_up(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, other_data: bool
) -> None:
    monkeypatch.setattr(row_service, "PIECE_BYTES", 1000)

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("old.jsonl", pairs(3000)),)))
        first = asyncio.ensure_future(session.worker.answer(SaveCleaned()))
        while not session.page.all(CleanedPiece):
            await asyncio.sleep(0)
        assert not first.done()
        if other_data:
            await session.send(ReadDataset((named("new.jsonl", pairs(40, 5000)),)))
        session.page.events.clear()  # the page forgets the pieces that it has
        await session.send(SaveCleaned())
        await first
        (done,) = session.page.all(CleanedDone)
        pieces = b"".join(piece.data for piece in session.page.all(CleanedPiece)).splitlines()
        assert [json.loads(line) for line in pieces] == (pairs(40, 5000) if other_data else pairs(3000))
        assert done.rows == len(pieces)

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []
