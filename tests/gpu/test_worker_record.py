"""The train worker's runs leave a record: it comes back with the adapter, and its command does the run again."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lora_lab.evaluation.neutral import mixed_count
from lora_lab.evaluation.record import RunRecord, read_record
from lora_lab.evaluation.settings_travel import run_command
from lora_lab.formats.peft import RUN_FILE
from lora_lab.workers.protocol import (
    AdapterExported,
    AdapterFiles,
    AdapterImported,
    ExportAdapter,
    GetAdapter,
    ImportAdapter,
    ListRuns,
    PauseTraining,
    PlanTraining,
    ReadDataset,
    ResumeTraining,
    RunList,
    SettingsTaken,
    StartTraining,
    TakeSettings,
    TrainingDone,
    TrainingPlanned,
    TrainingState,
    TrainingStep,
)
from tests.gpu.test_cli_tiny import environment
from tests.gpu.test_worker_resume import SETTINGS, Visit, until, visit  # noqa: F401 - a fixture
from tests.unit.workers.helpers import Session, named, pairs

WANTED = replace(SETTINGS, steps=8, sample_every=4, mix_neutral=0.25, neutral="on", checkpoint_every=2)
ROWS = pairs(40)


async def read(session: Session) -> None:
    await session.send(ReadDataset((named("ships.jsonl", ROWS),)))


async def record_of(session: Session) -> RunRecord:
    files = await session.worker.stores.shelf.files(session.page.last(TrainingDone).adapter.id)
    return read_record(files[RUN_FILE])


def test_a_run_is_written_down_goes_out_and_comes_back(visit: Visit) -> None:  # noqa: F811
    async def work(session: Session) -> None:
        await read(session)
        await session.send(PlanTraining(WANTED))
        trained = 32
        mixed = mixed_count(trained, 0.25)
        planned = session.page.last(TrainingPlanned)
        assert f"{trained + mixed} rows, {mixed} of them everyday ones that are mixed in" in planned.summary
        await session.send(StartTraining(WANTED))
        done, record = session.page.last(TrainingDone), await record_of(session)
        assert done.adapter.rows == trained
        assert (record.data.rows, record.data.mixed_rows, record.data.held_rows) == (trained + mixed, mixed, 8)
        assert len(record.data.sha256) == 64 and record.data.files[0].name == "ships.jsonl"
        assert record.steps.loss == pytest.approx([event.loss for event in session.page.all(TrainingStep)], rel=1e-6)
        assert record.validations[0].step == 0 and record.validation_kept is not None
        assert record.outcome.kept_step == done.kept_step and record.outcome.kept == done.kept
        assert len(record.samples) == 3 and record.samples[0].answers[0].step == 0
        assert record.neutral is not None and len(record.neutral.rows) == 40 and len(record.neutral.answers) == 3
        assert any(event.detail.startswith("Measuring") for event in session.page.all(TrainingState))
        assert record.settings["rows_at_once"] and record.model.source == "tiny" and record.machine.device
        # Out and back: the same record, and what it says in the list.
        await session.send(ExportAdapter(done.adapter.id))
        packed = session.page.last(AdapterExported).data
        await session.send(ImportAdapter((named("back.zip", packed),)))
        back = session.page.last(AdapterImported)
        assert back.remarks == ()
        assert (back.adapter.steps, back.adapter.dataset) == (done.adapter.steps, "ships.jsonl")
        assert back.adapter.final_loss == pytest.approx(done.adapter.final_loss, rel=1e-7)
        assert [step for step, _ in back.adapter.validation_curve] == [
            step for step, _ in done.adapter.validation_curve
        ]
        await session.send(ListRuns())
        first, second = session.page.last(RunList).runs[:2]
        assert first.imported and first.has_record and second.has_record
        assert first.validation_loss == second.validation_loss and first.rose == record.neutral.rose
        await session.send(TakeSettings(id=back.adapter.id))
        taken = session.page.last(SettingsTaken)
        assert taken.problems == () and taken.settings == replace(WANTED, rows_at_once=record.settings["rows_at_once"])
        await session.send(GetAdapter(done.adapter.id))
        assert RUN_FILE not in session.page.last(AdapterFiles).files

    visit(work)


def test_a_spoiled_record_is_told_of_and_left_out(visit: Visit) -> None:  # noqa: F811
    async def work(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(replace(WANTED, steps=1, warmup_steps=0, neutral="off", sample_every=0)))
        files = await session.worker.stores.shelf.files(session.page.last(TrainingDone).adapter.id)
        about = json.loads(files[RUN_FILE])
        spoiled = {**files, RUN_FILE: json.dumps({**about, "evil": 1}).encode()}
        await session.send(ImportAdapter(tuple(named(f"mine/{name}", data) for name, data in spoiled.items())))
        back = session.page.last(AdapterImported)
        (remark,) = back.remarks
        assert "evil" in remark and "used without it" in remark and back.adapter.steps == 0
        assert RUN_FILE not in await session.worker.stores.shelf.files(back.adapter.id)

    visit(work)


def test_its_command_gives_the_same_losses(visit: Visit, tiny_model_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    found: list[RunRecord] = []

    async def work(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(replace(WANTED, neutral="off", sample_every=0)))
        found.append(await record_of(session))

    visit(work)
    (tmp_path / "ships.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "tiny").symlink_to(tiny_model_folder)
    program = f"{shlex.quote(sys.executable)} -m lora_lab.cli"
    shell = ["bash", "-c", f'lora-lab() {{ {program} "$@"; }}; {run_command(found[0], "again")}']
    done = subprocess.run(shell, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = read_record((tmp_path / "again" / RUN_FILE).read_bytes())
    assert again.steps.loss == found[0].steps.loss and again.steps.grad_norm == found[0].steps.grad_norm
    assert again.validation == found[0].validation
    assert again.data.sha256 == found[0].data.sha256 and again.data.rows == found[0].data.rows
    assert again.model.hash == found[0].model.hash


def test_a_paused_run_with_mixed_rows_ends_with_the_same_losses(visit: Visit) -> None:  # noqa: F811
    settings = replace(WANTED, neutral="off", sample_every=0)
    found: list[RunRecord] = []

    async def whole(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(settings))
        found.append(await record_of(session))

    async def paused(session: Session) -> None:
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(settings)))
        await until(session, 3, PauseTraining())
        await run

    async def gone_on(session: Session) -> None:
        await session.send(ResumeTraining())  # no dataset is open
        found.append(await record_of(session))

    for work in (whole, paused, gone_on):
        visit(work)
    first, second = found
    assert first.steps.loss == second.steps.loss and first.validation == second.validation
    assert first.data == second.data and first.data.mixed_rows > 0
    assert second.time.started_at < second.time.ended_at or second.time.training_s > 0
