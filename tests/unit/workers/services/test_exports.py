"""Exports in a worker: what is written, told, kept and given up; what a picked folder and a full storage do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.errors import LoraLabError
from lora_lab.evaluation.record import record_bytes
from lora_lab.export import sink
from lora_lab.formats.peft import CARD_FILE, read_adapter, write_adapter
from lora_lab.formats.run_facts import RUN_FILE
from lora_lab.model.adapter_files import open_adapter
from lora_lab.workers.model.opened import OpenedModel, model_shape
from lora_lab.workers.protocol import (
    AdapterInfo,
    DropExport,
    ExportEnded,
    ExportKind,
    ExportPlanned,
    ExportProgress,
    ExportTo,
    ExportWritten,
    Failed,
    PlanExport,
    StopExport,
)
from lora_lab.workers.services.exports import Exports
from lora_lab.workers.storage import export_sink
from lora_lab.workers.storage.folders import FullError, MemoryFolder
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.export_cases import adapter_for
from tests.unit.evaluation.records import record
from tests.unit.workers.helpers import FakeBlob, Page
from tests.unit.workers.services.helpers import FakeModels, FakeStores


@pytest.fixture(autouse=True)
def blobs_without_pyodide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_sink, "_blob", FakeBlob)


class Shelf:
    """The service with its neighbours, and one adapter that is kept."""

    def __init__(self, opened: OpenedModel, more: Mapping[str, bytes] | None = None) -> None:
        self.more = more or {}
        self.page = Page()
        self.stores = FakeStores(self.page)
        self.service = Exports(self.page, self.stores, FakeModels(opened))
        self.dispatcher = Dispatcher(self.page, [self.service])
        self.lora, self.tensors = adapter_for(opened.files.config)
        self.opened = opened

    async def keep(self) -> str:
        config = self.opened.files.config
        info = AdapterInfo(
            id="", name="Ships", created_at="", base_model="owner/name", dataset="ships.jsonl", rows=20, steps=7,
            rank=5, alpha=10, targets=self.lora.targets, size_bytes=0, model_shape=model_shape(config),
            learning_rate=1e-3,
            final_loss=1.5, loss_curve=((1, 3.0), (7, 1.5)),
        )  # fmt: skip
        files = write_adapter(self.tensors, self.lora, config, None)
        kept = await self.stores.shelf.add(info, {**files, **self.more})
        return kept.id

    def run(self, *commands: PlanExport | ExportTo | StopExport | DropExport) -> list:
        """Have commands answered one after the other; each ExportTo gets the adapter's id."""

        async def main() -> None:
            kept = await self.keep()
            for command in commands:
                known = replace(command, id=kept) if isinstance(command, ExportTo | PlanExport) else command
                await self.dispatcher.answer(known)

        asyncio.run(main())
        return self.page.events


@pytest.mark.parametrize("kind", ["peft", "gguf-adapter", "mlx"])
def test_an_adapter_alone_is_written_and_comes_back(opened: OpenedModel, kind: str) -> None:
    shelf = Shelf(opened)
    written = shelf.run(ExportTo("", kind))[-1]
    assert isinstance(written, ExportWritten), written
    files = {file.name: file.blob.data for file in written.files}
    assert sum(map(len, files.values())) == written.size_bytes
    back = asyncio.run(open_adapter(files, opened.files.config))
    assert all(np.array_equal(back.tensors[key], values) for key, values in shelf.tensors.items())


def test_peft_brings_its_record(opened: OpenedModel) -> None:
    kept = record()
    written = Shelf(opened, {RUN_FILE: record_bytes(kept)}).run(ExportTo("", "peft"))[-1]
    files = {file.name: file.blob.data for file in written.files}
    assert files[RUN_FILE] == record_bytes(kept)
    card = files[CARD_FILE].decode()
    assert "`lighthouse.jsonl` (sha256 `cdcd" in card and "first step 3.0000" in card
    read_adapter(files, opened.files.config)


def test_without_a_record_the_card_says_what_the_shelf_knows(opened: OpenedModel) -> None:
    written = Shelf(opened).run(ExportTo("", "peft"))[-1]
    files = {file.name: file.blob.data for file in written.files}
    card = files[CARD_FILE].decode()
    assert RUN_FILE not in files
    for said in (
        "`ships.jsonl`; 20 rows",
        "| steps | 7 |",
        "first step 3.0000, last step 1.5000",
        "learning_rate 0.001",
    ):
        assert said in card, said


@pytest.mark.parametrize("kind, form", [("peft", ""), ("merged", "f32"), ("gguf", "q8_0"), ("ollama", "")])
def test_what_was_planned_is_what_is_written(opened: OpenedModel, kind: ExportKind, form: str) -> None:
    planned, *_, written = Shelf(opened).run(PlanExport("", kind, form), ExportTo("", kind, form))
    assert isinstance(planned, ExportPlanned) and isinstance(written, ExportWritten)
    assert (planned.size_bytes, planned.files) == (written.size_bytes, len(written.files))
    assert (planned.form, planned.requantised) == (written.form, written.requantised)
    assert planned.size_bytes == sum(len(file.blob.data) for file in written.files)
    assert planned.remarks == written.remarks


def test_a_plan_says_what_a_shell_calls_the_model(opened: OpenedModel) -> None:
    for source, said in (("", ""), ("hf:o/n@main:a.gguf", "hf:o/n@main:a.gguf"), ("my model.gguf", "'my model.gguf'")):
        assert Shelf(replace(opened, source=source)).run(PlanExport("", "peft"))[-1].model == said


def test_a_plan_writes_nothing(opened: OpenedModel) -> None:
    shelf = Shelf(opened)
    assert [type(event) for event in shelf.run(PlanExport("", "gguf"))] == [ExportPlanned]
    assert shelf.stores.exported.files == {}
    failed = Shelf(opened).run(PlanExport("", "mlx", "f16"))[-1]
    assert isinstance(failed, Failed) and failed.where == "export" and failed.subject


def test_a_merged_model_is_told_on_its_way(opened: OpenedModel) -> None:
    events = Shelf(opened).run(ExportTo("", "merged", "f32"))
    progress = [event for event in events if isinstance(event, ExportProgress)]
    written = events[-1]
    assert (progress[-1].done_bytes, progress[-1].total_bytes) == (written.size_bytes, written.size_bytes)
    assert "model.safetensors" in {file.name for file in written.files}
    assert not written.requantised


def test_the_next_export_takes_the_last_ones_place(opened: OpenedModel) -> None:
    shelf = Shelf(opened)
    shelf.run(ExportTo("", "mlx"), ExportTo("", "gguf-adapter"))
    assert list(shelf.stores.exported.files) == ["model.gguf"]
    asyncio.run(shelf.dispatcher.answer(DropExport()))
    assert shelf.stores.exported.files == {}


def test_a_stopped_one_leaves_nothing(opened: OpenedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(opened)
    begun = asyncio.Event()

    class Slow(export_sink.FolderSink):
        async def write(self, piece: bytes) -> None:
            await super().write(piece)
            begun.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("lora_lab.workers.services.exports.FolderSink", Slow)

    async def main() -> None:
        kept = await shelf.keep()
        task = asyncio.ensure_future(shelf.dispatcher.answer(ExportTo(kept, "merged")))
        await begun.wait()
        await shelf.dispatcher.answer(StopExport())
        await task

    asyncio.run(main())
    assert isinstance(shelf.page.events[-1], ExportEnded)
    assert shelf.stores.exported.files == {}


def test_a_full_storage_is_told_and_nothing_half_stays(opened: OpenedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(opened)
    write = MemoryFolder.write

    async def full(self: MemoryFolder, name: str, data: bytes) -> None:
        if name.endswith(".safetensors") and self is shelf.stores.exported:
            raise FullError(f"{name} could not be written: the browser's storage for this site is full")
        await write(self, name, data)

    monkeypatch.setattr(MemoryFolder, "write", full)
    failed = shelf.run(ExportTo("", "merged"))[-1]
    assert isinstance(failed, Failed) and failed.where == "export"
    assert "model.safetensors could not be written" in failed.message
    assert shelf.stores.exported.files == {}


def test_what_memory_cannot_hold_is_refused(opened: OpenedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_sink, "MOST_IN_MEMORY_BYTES", 10_000)
    shelf = Shelf(opened)
    failed = shelf.run(ExportTo("", "gguf"))[-1]
    assert isinstance(failed, Failed)
    assert "model.gguf will have" in failed.message and "lora-lab export" in failed.message
    assert shelf.stores.exported.files == {}


def test_a_form_that_is_none_is_told(opened: OpenedModel) -> None:
    failed = Shelf(opened).run(ExportTo("", "mlx", "q8_0"))[-1]
    assert isinstance(failed, Failed) and failed.message == "mlx cannot be q8_0; wanted f32"


def test_a_file_of_another_length_than_was_said_is_no_file() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    folder = MemoryFolder()
    wrong = sink.NewFile("x", 4, pieces)
    with pytest.raises(LoraLabError, match="x has 3 bytes; wanted 4"):
        asyncio.run(sink.write_files([wrong], export_sink.FolderSink(folder)))
    assert folder.files == {}
