"""The table of runs: what is known of each, what differs, notes, reports; settings out of runs, files and links."""

from __future__ import annotations

import asyncio
import json
import math
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from lora_lab.cli import main as cli
from lora_lab.evaluation.record import DataFacts, DataFile, RunRecord, record_bytes
from lora_lab.evaluation.report import report_html
from lora_lab.evaluation.settings_travel import read_fragment, read_settings_file, settings_file, settings_fragment
from lora_lab.formats.peft import RUN_FILE
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    AdapterInfo,
    Command,
    CompareRuns,
    Failed,
    ListRuns,
    MakeReport,
    NoteRun,
    ReportMade,
    RunList,
    RunsCompared,
    RunSummedUp,
    SampleAnswer,
    SettingsShared,
    SettingsTaken,
    ShareSettings,
    SumUpRun,
    TakeSettings,
)
from lora_lab.workers.run.run_record import known_of
from lora_lab.workers.services.run_table import RunTable
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.evaluation.records import VERDICT, record
from tests.unit.workers.helpers import SETTINGS, Page
from tests.unit.workers.services.helpers import FakeDatasets, FakeModels, FakeStores


class Desk:
    """The service over a shelf in memory."""

    def __init__(self, opened: OpenedModel | None = None) -> None:
        self.page = Page()
        self.stores = FakeStores(self.page)
        self.datasets = FakeDatasets()
        self.table = RunTable(self.page, self.stores, FakeModels(opened), self.datasets)  # type: ignore[arg-type]
        self._dispatcher = Dispatcher(self.page, [self.table])

    async def send(self, command: Command) -> None:
        await self._dispatcher.answer(command)

    async def keep(self, made: RunRecord, **more: Any) -> str:
        """Put an adapter with this record on the shelf; return its id."""
        info = AdapterInfo(
            id="", name=made.name, created_at="", base_model="tiny", rank=16, alpha=32.0, targets=("q_proj",),
            size_bytes=0, **{**known_of(made), **more},
        )  # fmt: skip
        return (await self.stores.shelf.add(info, {"a": b"x", RUN_FILE: record_bytes(made)})).id

    async def keep_old(self, **more: Any) -> str:
        """Put an adapter on the shelf as a version without records did."""
        info = AdapterInfo(
            id="", name="Old", created_at="", base_model="tiny", dataset="old.jsonl", rows=20, steps=2, rank=8,
            alpha=16.0, targets=("q_proj",), size_bytes=0, learning_rate=1e-3, final_loss=1.5,
            loss_curve=((1, 2.0), (2, 1.5)), validation_curve=((2, 1.75),), **more,
        )  # fmt: skip
        return (await self.stores.shelf.add(info, {"a": b"x"})).id

    def failed(self) -> str:
        return self.page.last(Failed).message


def at(work: Callable[[Desk], Awaitable[None]], opened: OpenedModel | None = None) -> Page:
    async def main() -> Page:
        desk = Desk(opened)
        await work(desk)
        return desk.page

    return asyncio.run(main())


def test_the_table_has_every_run_and_what_is_known_of_it() -> None:
    async def work(desk: Desk) -> None:
        await desk.keep_old()
        verdict = replace(record().outcome, verdict=VERDICT)
        await desk.keep(record(outcome=verdict))
        await desk.send(ListRuns())
        new, old = desk.page.last(RunList).runs
        assert (new.name, new.dataset, new.steps, new.total_steps) == ("Brindle, 60 steps", "lighthouse.jsonl", 40, 60)
        assert (new.rank, new.learning_rate, new.batch) == (16, 2e-3, 8)
        assert new.validation_loss == 0.48 and new.perplexity == pytest.approx(1.6160744) and new.accuracy == 0.4
        assert new.rose == pytest.approx(0.3) and new.training_s == 41.5 and new.data_sha256 == "cd" * 32
        assert new.verdict == VERDICT.words and new.has_record and new.notes == ""
        assert (old.name, old.dataset, old.rank, old.learning_rate) == ("Old", "old.jsonl", 8, 1e-3)
        assert (old.loss, old.validation_loss, old.has_record) == (1.5, 1.75, False)
        assert (old.training_s, old.rose, old.data_sha256) == (None, None, "")

    at(work)


def test_notes_are_kept_and_told() -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record())
        await desk.send(NoteRun(id, "try a\nsmaller rate"))
        assert desk.page.last(RunList).runs[0].notes == "try a\nsmaller rate"
        await desk.send(NoteRun(id, "x" * 20_000))
        assert len(desk.page.last(RunList).runs[0].notes) == 10_000
        assert (await desk.stores.shelf.files(id)).keys() == {"a", RUN_FILE}
        await desk.send(NoteRun("gone", "x"))
        assert "not in the browser's storage" in desk.failed()

    at(work)


def test_a_record_that_is_spoiled_on_the_shelf_hides_no_run() -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record())
        await (await desk.stores.shelf.folder.folder(id)).write(RUN_FILE, b'{"form": 1, "na')
        await desk.send(ListRuns())
        (row,) = desk.page.last(RunList).runs
        assert row.name == "Brindle, 60 steps" and not row.has_record and row.steps == 40

    at(work)


def test_two_runs_beside_each_other_with_what_differs() -> None:
    async def work(desk: Desk) -> None:
        first = await desk.keep(record())
        settings = {**record().settings, "learning_rate": 1e-4, "rank": 8, "shuffle": False, "seed": 3}
        other = DataFacts("lighthouse.jsonl", (DataFile("lighthouse.jsonl", 1, "ef" * 32),), 10, 0, 0, 1, 1)
        second = await desk.keep(record(name="Second", settings=settings, data=other))
        third = await desk.keep_old()
        await desk.send(CompareRuns((first, second, first)))
        compared = desk.page.last(RunsCompared)
        assert [run.name for run in compared.runs] == ["Brindle, 60 steps", "Second"]
        assert compared.runs[0].headline.startswith("Validation loss 2.91 → 0.48")
        assert len(compared.runs[0].loss_curve) == 60 and compared.runs[0].validation_curve[-1] == (60, 0.6)
        assert {one.name: one.values for one in compared.differences} == {
            "data_sha256": ("cdcdcdcdcdcd", "efefefefefef"), "rank": ("16", "8"), "learning_rate": ("2e-3", "1e-4"),
            "shuffle": ("on", "off"), "seed": ("not known", "3"),
        }  # fmt: skip
        await desk.send(CompareRuns((first, third)))
        found = {one.name: one.values for one in desk.page.last(RunsCompared).differences}
        assert found["data"] == ("lighthouse.jsonl", "old.jsonl") and found["batch"] == ("8", "not known")
        for ids in ((first,), (first, first), tuple(map(str, range(21)))):
            await desk.send(CompareRuns(ids))
            assert "can stand beside each other" in desk.failed()

    at(work)


def test_a_report_has_the_adapters_name_and_the_answers_that_the_page_kept() -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record(name=""))
        await desk.stores.shelf.rename(id, "My keeper")
        await desk.stores.shelf.keep_answers(id, (SampleAnswer("Who?", "I.", "Brindle.", "Brindle"),))
        await desk.send(MakeReport(id))
        made = desk.page.last(ReportMade)
        assert made.file_name == "my-keeper-report" and made.headline.endswith("1 of 1 answer matches the data.")
        assert b"<h1>My keeper</h1>" in made.html and json.loads(made.json)["headline"] == made.headline
        old = await desk.keep_old()
        await desk.send(MakeReport(old))
        assert "Validation loss 1.75 at step 2 of 2." in desk.page.last(ReportMade).html.decode()
        assert report_html(record()) != made.html

    at(work)


# --- settings ---


def test_a_runs_settings_are_used_again(opened: OpenedModel) -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record())
        current = replace(SETTINGS, seed=9, masking="all")
        await desk.send(TakeSettings(id=id, current=current))
        taken = desk.page.last(SettingsTaken)
        assert taken.settings == replace(
            current, rank=16, alpha=32.0, targets=("q_proj", "v_proj"), steps=60, learning_rate=2e-3, batch=8,
            rows_at_once=4, warmup_steps=None, shuffle=True,
        )  # fmt: skip
        assert taken.problems == () and taken.remarks == ()
        await desk.send(TakeSettings(id=await desk.keep_old()))
        assert desk.page.last(SettingsTaken).settings.rank == 8
        assert desk.page.last(SettingsTaken).settings.steps == 60  # the form's own, where nothing else is known

    at(work, opened)


def test_settings_of_a_file_and_a_link_are_checked(opened: OpenedModel) -> None:
    async def work(desk: Desk) -> None:
        text = settings_file({"rank": 4, "targets": ("w1", "q_proj"), "epochs": 2.0, "max_length": 8192}).decode()
        await desk.send(TakeSettings(text=text.replace('"rank"', '"dropout": 0.1, "rank"'), name="my.json"))
        taken = desk.page.last(SettingsTaken)
        assert (taken.settings.rank, taken.settings.targets) == (4, ("q_proj",))
        assert len(taken.remarks) == 3 and "'dropout'" in taken.remarks[0] and "no layers w1" in taken.remarks[2]
        assert [problem.field for problem in taken.problems] == ["max_length"]  # the tiny model takes 2,048
        await desk.send(TakeSettings(link=f"https://example.org/#{settings_fragment({'rank': 32})}", current=SETTINGS))
        assert desk.page.last(SettingsTaken).settings == replace(SETTINGS, rank=32)
        for command, said in (
            (TakeSettings(text='{"lora_lab_settings": 1, "settings": {"rank": 0}}', name="my.json"), "my.json: rank"),
            (TakeSettings(link="#settings=1&r=4&c=00000000"), "cut off or changed"),
            (TakeSettings(), "0 places"),
            (TakeSettings(id="x", link="y"), "2 places"),
            (TakeSettings(id="gone"), "not in the browser's storage"),
        ):
            await desk.send(command)
            assert said in desk.failed()

    at(work, opened)


def test_the_forms_settings_go_out_as_file_link_and_command() -> None:
    async def work(desk: Desk) -> None:
        await desk.send(ShareSettings(SETTINGS))
        shared = desk.page.last(SettingsShared)
        for found in (read_settings_file(shared.file, "f"), read_fragment(shared.fragment)):
            assert found.values == {**vars(SETTINGS), "alpha": 32.0} and not found.remarks
        options = cli.parse(shlex.split(shared.command)[1:])
        assert (options.steps, options.batch, options.accumulate, options.rank) == (10, 1, 8, 16)
        assert [str(one) for one in options.data] == ["ROWS.jsonl"]
        id = await desk.keep(record())
        await desk.send(ShareSettings(id=id))
        assert "--data lighthouse.jsonl --out brindle-60-steps" in desk.page.last(SettingsShared).command
        await desk.send(ShareSettings())
        assert "wanted one" in desk.failed()

    at(work)


def test_a_run_is_summed_up_for_the_card_after_it() -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record(outcome=replace(record().outcome, verdict=VERDICT)))
        await desk.send(SumUpRun(id))
        told = desk.page.last(RunSummedUp)
        assert told.headline == "Validation loss 2.91 → 0.48 at step 40 of 60; 2 of 3 answers match the data."
        assert told.verdict == VERDICT.words and told.id == id
        before, after = told.before, told.after
        assert before is not None and after is not None
        assert (before.step, before.loss, before.accuracy) == (0, 2.91, 0.0)
        assert (after.step, after.loss, after.accuracy) == (40, 0.48, 0.4)
        assert before.perplexity == pytest.approx(math.exp(2.91)) and after.perplexity == pytest.approx(math.exp(0.48))
        changed = told.else_changed
        assert changed is not None and changed.rose == pytest.approx(0.3) and changed.words == "something was unlearned"
        assert len(changed.advice) == 2
        assert [(one.prompt, one.base, one.tuned) for one in changed.answers] == [
            ("What is the capital of France?", "Paris.", "Tern Point.")
        ]
        old = await desk.keep_old()
        await desk.send(SumUpRun(old))
        told = desk.page.last(RunSummedUp)
        assert (told.before, told.else_changed, told.verdict) == (None, None, "")
        assert told.after is not None and told.after.loss == 1.75 and told.after.accuracy is None
        await desk.send(SumUpRun("gone"))
        assert desk.page.last(Failed).where == "runs" and "not in the browser's storage" in desk.failed()

    at(work)


def test_an_answer_bears_the_number_of_its_question() -> None:
    async def work(desk: Desk) -> None:
        id = await desk.keep(record())
        await desk.send(ShareSettings(id=id, request=7))
        await desk.send(TakeSettings(id=id, request=8))
        assert (desk.page.last(SettingsShared).request, desk.page.last(SettingsTaken).request) == (7, 8)
        await desk.send(TakeSettings(link="#settings=1&c=0", request=9))
        assert desk.page.last(Failed).where == "sharing"

    at(work)
