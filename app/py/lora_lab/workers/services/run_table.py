"""The runs that are kept: as a table, beside each other, as a report; and their settings, used again or given away."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lora_lab.errors import LoraLabError
from lora_lab.evaluation.record import RunRecord, take_record
from lora_lab.evaluation.report import folder_name, headline, report_html, report_json_bytes
from lora_lab.evaluation.settings_travel import (
    read_fragment,
    read_settings_file,
    run_command,
    settings_file,
    settings_fragment,
    train_command,
)
from lora_lab.evaluation.settings_values import BY_NAME, Settings, checked, for_page, said
from lora_lab.settings import TARGETS, TRAINING
from lora_lab.workers.protocol import (
    AdapterInfo,
    ComparedRun,
    CompareRuns,
    ListRuns,
    MakeReport,
    NoteRun,
    ReportMade,
    RunList,
    RunRow,
    RunsCompared,
    SettingDifference,
    SettingsShared,
    SettingsTaken,
    ShareSettings,
    SumUpRun,
    TakeSettings,
    TrainSettings,
)
from lora_lab.workers.run.planner import check_settings
from lora_lab.workers.run.run_record import known_of, record_for, settings_for_page
from lora_lab.workers.run.run_summary import summary_of
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.wire.dispatch import Host, handles

FEWEST, MOST = 2, 20  # runs beside each other
FILE_NAME = "lora-lab-settings.json"
NOT_KNOWN = "not known"


class RunTable:
    """Answers ListRuns, NoteRun, CompareRuns, MakeReport, SumUpRun, TakeSettings, ShareSettings."""

    def __init__(self, host: Host, stores: Stores, models: Models, datasets: Datasets) -> None:
        self._host, self._stores, self._models, self._datasets = host, stores, models, datasets
        self._records: dict[str, RunRecord | None] = {}  # by adapter: a record never changes

    @handles(ListRuns, "runs")
    async def list_runs(self, _: ListRuns) -> None:
        """Send the table."""
        await self._tell()

    async def _tell(self) -> None:
        infos = await self._stores.shelf.all()
        rows = [_row(info, await self._record(info)) for info in infos]
        self._records = {info.id: self._records[info.id] for info in infos}
        self._host.post(RunList(tuple(rows)))

    async def _record(self, info: AdapterInfo) -> RunRecord | None:
        if info.id not in self._records:
            self._records[info.id] = take_record(await self._stores.shelf.record_file(info.id))[0]
        return self._records[info.id]

    async def _run(self, id: str) -> RunRecord:
        """Return what is known of an adapter's run. AdapterError if the adapter is not there."""
        info = await self._stores.shelf.info(id)
        return record_for(info, await self._record(info))

    @handles(NoteRun, "runs")
    async def note_run(self, command: NoteRun) -> None:
        """Keep a person's notes."""
        await self._stores.shelf.keep_notes(command.id, command.notes)
        await self._tell()

    @handles(CompareRuns, "runs")
    async def compare_runs(self, command: CompareRuns) -> None:
        """Lay runs beside each other."""
        ids = tuple(dict.fromkeys(command.ids))
        if not FEWEST <= len(ids) <= MOST:
            raise LoraLabError(f"{len(ids)} runs were chosen; {FEWEST} to {MOST} can stand beside each other.")
        records = [await self._run(id) for id in ids]
        runs = []
        for id, record in zip(ids, records, strict=True):
            curves = known_of(record)
            loss, validation = curves["loss_curve"], curves["validation_curve"]
            runs.append(ComparedRun(id, record.name, headline(record), loss, validation))
        self._host.post(RunsCompared(tuple(runs), tuple(_differences(records))))

    @handles(MakeReport, "runs")
    async def make_report(self, command: MakeReport) -> None:
        """Send a run's report."""
        record = await self._run(command.id)
        html, data = report_html(record), report_json_bytes(record)
        self._host.post(ReportMade(command.id, headline(record), f"{folder_name(record)}-report", html, data))

    @handles(SumUpRun, "runs")
    async def sum_up_run(self, command: SumUpRun) -> None:
        """Send what came of a run."""
        self._host.post(summary_of(command.id, await self._run(command.id)))

    # --- settings ---

    @handles(TakeSettings, "sharing")
    async def take_settings(self, command: TakeSettings) -> None:
        """Send settings for the form. LoraLabError where they are none, or a value is out of its bounds."""
        found = for_page(await self._found(command))
        values, remarks = dict(found.values), list(found.remarks)
        model = self._models.model
        if model is not None and TARGETS.name in values:
            fitting = model.files.config.chosen_linears(values[TARGETS.name])
            if set(fitting) != set(values[TARGETS.name]):
                other = sorted(set(values[TARGETS.name]) - set(fitting))
                remarks.append(f"This model has no layers {', '.join(other)}.")
            values[TARGETS.name] = fitting or model.files.config.linear_names
        settings = settings_for_page(values, command.current or _first())
        problems = check_settings(settings, model.files.config) if model is not None else []
        self._host.post(SettingsTaken(settings, tuple(remarks), tuple(problems), command.request))

    async def _found(self, command: TakeSettings) -> Settings:
        given = [one for one in (command.id, command.text, command.link) if one is not None]
        if len(given) != 1:
            raise LoraLabError(f"Settings were asked for from {len(given)} places; wanted one.")
        if command.id is not None:
            record = await self._run(command.id)
            if not record.settings:
                raise LoraLabError("Nothing is known of this run's settings.")
            return checked(record.settings, "the run")
        if command.text is not None:
            return read_settings_file(command.text.encode("utf-8", "replace"), command.name)
        return read_fragment(str(command.link))

    @handles(ShareSettings, "sharing")
    async def share_settings(self, command: ShareSettings) -> None:
        """Send settings as a file, a link's end and a command."""
        if (command.id is None) == (command.settings is None):
            raise LoraLabError("Settings are shared of a run or of the form; wanted one of them.")
        if command.id is not None:
            record = await self._run(command.id)
            values, line = record.settings, run_command(record, folder_name(record))
        else:
            values = vars(command.settings)
            line = self._command(values)
        self._host.post(
            SettingsShared(FILE_NAME, settings_file(values), settings_fragment(values), line, command.request)
        )

    def _command(self, values: dict[str, Any]) -> str:
        """Return the run that would begin now as a command, with placeholders for what is not open."""
        model, dataset = self._models.model, self._datasets.dataset
        source = None if model is None else model.source or None
        if dataset is None:
            return train_command(values, ["ROWS.jsonl"], "adapter", model=source)
        table, held = dataset.table, dataset.validation
        return train_command(
            values, [name.rpartition("/")[2] for name in table.sources] or [dataset.name], "adapter", model=source,
            validation=[name.rpartition("/")[2] for name in held.rows.table.sources] if held else (),
            mapping=table.mapping.describe() if table.mapping else None, encoding=table.encoding,
            repair=table.uses_mended, skip_bad_rows=table.bad > 0,
        )  # fmt: skip


def _row(info: AdapterInfo, record: RunRecord | None) -> RunRow:
    known = record_for(info, record)
    after, batch = known.validation_kept, known.settings.get("batch")
    perplexity = after.perplexity if after is not None and math.isfinite(after.perplexity) else None
    return RunRow(
        id=info.id,
        name=info.name,
        created_at=info.created_at,
        dataset=known.data.name,
        data_sha256=known.data.sha256,
        model=known.model.title,
        rows=info.rows,
        steps=info.steps,
        total_steps=known.outcome.total_steps,
        rank=info.rank,
        learning_rate=info.learning_rate,
        batch=batch,
        loss=info.final_loss,
        validation_loss=after.loss if after is not None else None,
        perplexity=perplexity,
        accuracy=after.accuracy if after is not None else None,
        rose=known.neutral.rose if known.neutral is not None else None,
        training_s=known.time.training_s if record is not None else None,
        verdict=known.outcome.verdict.words if known.outcome.verdict is not None else "",
        notes=info.notes,
        imported=info.imported,
        has_record=record is not None,
    )


def _differences(records: list[RunRecord]) -> list[SettingDifference]:
    """Return what the runs differ in: model, data, then settings in the table's order."""
    rows = [
        ("model", "Model", [record.model.title for record in records]),
        ("data", "Data", [record.data.name for record in records]),
    ]
    hashes = [record.data.sha256 for record in records]
    if len({record.data.name for record in records}) == 1 and len(set(hashes)) > 1:
        rows.append(("data_sha256", "Data, sha256", [one[:12] or NOT_KNOWN for one in hashes]))
    for setting in TRAINING:
        values = [
            said(setting, record.settings[setting.name]) if setting.name in record.settings else NOT_KNOWN
            for record in records
        ]
        rows.append((setting.name, setting.label, values))
    return [SettingDifference(name, label, tuple(values)) for name, label, values in rows if len(set(values)) > 1]


def _first() -> TrainSettings:
    """Return what the form begins with."""
    names = {name: setting.first for name, setting in BY_NAME.items() if setting.on_page}
    return replace(TrainSettings(1, 1, 1.0, 1, 1.0, 2, 0, TARGETS.default), **names)
