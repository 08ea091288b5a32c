"""A run's record in the whole worker: it comes with an adapter, goes out with it, and one that is none is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.evaluation.record import read_record, record_bytes
from lora_lab.formats.peft import RUN_FILE, expected_shapes, write_adapter
from lora_lab.workers.protocol import (
    AdapterExported,
    AdapterFiles,
    AdapterImported,
    ExportAdapter,
    GetAdapter,
    ImportAdapter,
    ListRuns,
    RunList,
    SettingsTaken,
    TakeSettings,
)
from tests.unit.evaluation.records import record
from tests.unit.workers.helpers import Session, drive, failures, named


def adapter_with(model: ModelConfig, about: bytes) -> dict[str, bytes]:
    """Return an adapter's files with this for a record."""
    lora, rng = LoraConfig(rank=2, alpha=4, targets=("q_proj",)), np.random.default_rng(0)
    shapes = expected_shapes(lora, model)
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    return {**write_adapter(tensors, lora, model, None), RUN_FILE: about}


async def bring(session: Session, about: bytes) -> AdapterImported:
    opened = session.worker.models.model
    assert opened is not None
    files = adapter_with(opened.files.config, about)
    await session.send(ImportAdapter(tuple(named(f"mine/{name}", data) for name, data in files.items())))
    return session.page.last(AdapterImported)


def test_a_record_comes_goes_out_and_comes_back(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = record()

    async def work(session: Session) -> None:
        first = (await bring(session, record_bytes(made))).adapter
        assert (first.steps, first.dataset, first.final_loss) == (40, "lighthouse.jsonl", made.steps.loss[39])
        await session.send(ExportAdapter(first.id))
        packed = session.page.last(AdapterExported).data
        await session.send(ImportAdapter((named("back.zip", packed),)))
        back = session.page.last(AdapterImported)
        assert back.remarks == () and back.adapter.validation_curve == first.validation_curve
        files = await session.worker.stores.shelf.files(back.adapter.id)
        assert read_record(files[RUN_FILE]) == read_record(record_bytes(made))
        await session.send(ListRuns())
        assert [(run.has_record, run.imported) for run in session.page.last(RunList).runs] == [(True, True)] * 2
        await session.send(TakeSettings(id=back.adapter.id))
        taken = session.page.last(SettingsTaken)
        assert taken.problems == () and taken.settings.rank == 16
        await session.send(GetAdapter(back.adapter.id))
        assert RUN_FILE not in session.page.last(AdapterFiles).files

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_one_that_is_none_is_told_of_and_left_out(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        back = await bring(session, json.dumps({**json.loads(record_bytes(record())), "evil": 1}).encode())
        (remark,) = back.remarks
        assert "evil" in remark and "used without it" in remark and back.adapter.steps == 0
        assert RUN_FILE not in await session.worker.stores.shelf.files(back.adapter.id)

    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []
