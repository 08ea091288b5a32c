"""Adapters for other programs: written piece by piece into the browser's storage, or into a folder that was picked."""

from __future__ import annotations

import asyncio
import shlex
import time

from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.record import take_record
from lora_lab.export import Export, open_base_of, plan_export, write_files
from lora_lab.export.plan import Going, check_form
from lora_lab.formats.hub_id import hub_id
from lora_lab.formats.peft import read_adapter, read_chat_template
from lora_lab.formats.run_facts import RUN_FILE, RunFacts
from lora_lab.workers.protocol import (
    AdapterInfo,
    DropExport,
    ExportEnded,
    ExportPlanned,
    ExportProgress,
    ExportTo,
    ExportWritten,
    PlanExport,
    StopExport,
)
from lora_lab.workers.run.run_record import record_for
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.export_sink import FolderSink, empty
from lora_lab.workers.storage.folders import OpfsFolder
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.tasks import OneJob

TELL_EVERY_S = 0.2


class Exports:
    """Answers PlanExport, ExportTo, StopExport and DropExport. One export at a time, beside anything else."""

    def __init__(self, host: Host, stores: Stores, models: Models) -> None:
        self._host, self._stores, self._models = host, stores, models
        self._job = OneJob()

    @handles(PlanExport, "export")
    async def plan_export(self, command: PlanExport) -> None:
        """Say what an export would be; nothing is written."""
        form, planned = await self._planned(command)
        source = self._models.need_model("An export is made with the model").source
        self._host.post(
            ExportPlanned(
                command.id, command.kind, form, planned.size_bytes, len(planned.files),
                shlex.quote(source) if source else "", planned.remarks, planned.requantised,
            )
        )  # fmt: skip

    @handles(ExportTo, "export")
    async def export_to(self, command: ExportTo) -> None:
        """Write an adapter for another program; nothing stays of one that is stopped or fails."""
        if not await self._job.do(command.id, self._export(command)):
            self._host.post(ExportEnded(command.id, command.kind))

    @handles(StopExport, "export")
    async def stop_export(self, _: StopExport) -> None:
        """Give up what is being written."""
        await self._job.give_up()

    @handles(DropExport, "export")
    async def drop_export(self, _: DropExport) -> None:
        """Delete what the last export has left, unless the next one is being written."""
        if self._job.doing is None:
            await empty(await self._stores.exports())

    async def _planned(self, command: PlanExport | ExportTo, system: str = "") -> tuple[str, Export]:
        form = check_form(command.kind, command.form or None)
        opened = self._models.need_model("An export is made with the model")
        info = await self._stores.shelf.info(command.id)
        files = await self._stores.shelf.files(info.id)
        lora, tensors = read_adapter(files, opened.files.config)
        base = await open_base_of(opened.files)
        named = hub_id(info.base_model) or opened.hub_id
        going = Going(lora, tensors, named, read_chat_template(files), _run_of(info, files))
        return form, await plan_export(base, going, command.kind, form, system=system or None)

    async def _export(self, command: ExportTo) -> None:
        form, planned = await self._planned(command, command.system)
        if command.folder is None:
            folder = await self._stores.exports()
            await empty(folder)
            sink = FolderSink(folder)
        else:
            sink = FolderSink(OpfsFolder(command.folder), picked=True)
        told = -TELL_EVERY_S

        def tell(done: int, total: int) -> None:
            nonlocal told
            if done == total or time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                self._host.post(ExportProgress(command.id, command.kind, done, total))

        size = await write_files(planned.files, sink, tell)
        kept = await sink.files() if command.folder is None else ()
        self._host.post(ExportWritten(command.id, command.kind, form, size, kept, planned.remarks, planned.requantised))
        await asyncio.sleep(0)


def _run_of(info: AdapterInfo, files: dict[str, bytes]) -> RunFacts | None:
    """Return what is known of the run that made a kept adapter; None of one that was brought along without a record."""
    record, _ = take_record(files)
    if record is None and info.imported:
        return None
    return card_facts(record_for(info, record), files[RUN_FILE] if record is not None else b"")
