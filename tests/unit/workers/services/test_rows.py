"""Looking at rows: what a search that is overtaken says, what is saved, and what cannot be shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lora_lab.data import DataSource, read_table
from lora_lab.errors import DatasetError
from lora_lab.workers.dataset.opened import OpenDataset
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    CleanedDone,
    CleanedPiece,
    Command,
    Failed,
    MappingPreviewed,
    PreviewMapping,
    RowShown,
    SaveCleaned,
    ShowRow,
)
from lora_lab.workers.services import rows as row_service
from lora_lab.workers.services.rows import Rows
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page, pairs
from tests.unit.workers.services.helpers import FakeModels


class OneDataset:
    """Datasets with this one open."""

    def __init__(self, data: list[dict[str, Any]] | None) -> None:
        self.dataset: OpenDataset | None = None
        if data is not None:
            source = DataSource.from_bytes("\n".join(map(json.dumps, data)).encode())
            self.dataset = OpenDataset.of("cats.csv.gz and 2 more", "cats", asyncio.run(read_table([source])), {})

    def need_dataset(self) -> OpenDataset:
        if self.dataset is None:
            raise DatasetError("No dataset is open.")
        return self.dataset


def answer(page: Page, rows: Rows, *commands: Command) -> None:
    """Have commands answered that come one right after the other."""

    async def main() -> None:
        dispatcher = Dispatcher(page, [rows])
        await asyncio.gather(*(dispatcher.answer(command) for command in commands))

    asyncio.run(main())


def test_without_a_dataset_nothing_can_be_looked_at() -> None:
    page = Page()
    answer(page, Rows(page, FakeModels(), OneDataset(None)), PreviewMapping({}), ShowRow(), SaveCleaned())
    assert page.events == [Failed("dataset", "No dataset is open.")] * 3


def test_a_search_that_is_overtaken_is_given_up(monkeypatch: pytest.MonkeyPatch, opened: OpenedModel) -> None:
    begun = []

    async def show_row(dataset: OpenDataset, tokenizer: Any, command: ShowRow) -> RowShown:
        assert tokenizer is opened.tokenizer
        begun.append(command.request)
        await asyncio.sleep(0.001)
        return RowShown(command.request, 0, 1)

    monkeypatch.setattr(row_service, "show_row", show_row)
    page, datasets = Page(), OneDataset(pairs(3))
    rows = Rows(page, FakeModels(opened), datasets)
    answer(page, rows, ShowRow(request=1), ShowRow(request=2))
    assert [event.request for event in page.events] == [2] and 2 in begun  # type: ignore[attr-defined]
    # What was found in a dataset that is open no longer is not shown.
    show = row_service.show_row

    async def replaced(*found: Any) -> RowShown:
        datasets.dataset = None
        return await show(*found)

    monkeypatch.setattr(row_service, "show_row", replaced)
    answer(page, rows, ShowRow(request=3))
    assert begun[-1] == 3 and len(page.events) == 1


def test_without_a_model_there_is_a_reason() -> None:
    page = Page()
    answer(page, Rows(page, FakeModels(), OneDataset(pairs(3))), ShowRow(request=4))
    (shown,) = page.all(RowShown)
    assert shown.request == 4 and "when a model is open" in shown.why


def test_good_rows_are_sent_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_service, "PIECE_BYTES", 100)
    page, data = Page(), pairs(400)
    answer(page, Rows(page, FakeModels(), OneDataset(data)), SaveCleaned())
    assert page.events[-1] == CleanedDone("cats-cleaned.jsonl", 400)
    pieces = page.all(CleanedPiece)
    assert [json.loads(line) for line in b"".join(piece.data for piece in pieces).splitlines()] == data
    assert len(pieces) > 1 and {piece.total_rows for piece in pieces} == {400} and pieces[-1].done_rows == 400


def test_another_file_ends_the_one_that_is_written() -> None:
    page, data = Page(), pairs(400)
    answer(page, Rows(page, FakeModels(), OneDataset(data)), SaveCleaned(), SaveCleaned())
    piece, done = page.events
    assert isinstance(piece, CleanedPiece) and isinstance(done, CleanedDone)
    assert (piece.done_rows, done.rows) == (400, 400)


def test_a_preview_is_cut_and_a_half_mapping_refused() -> None:
    page = Page()
    rows = Rows(page, FakeModels(), OneDataset([{"ask": "x" * 5000, "say": "y"}]))
    answer(page, rows, PreviewMapping({"prompt": "ask", "reply": "say"}, 1), PreviewMapping({"prompt": "ask"}, 2))
    good, half = page.all(MappingPreviewed)
    assert len(good.rows[0]["messages"][0]["content"]) == 2000 and not good.problem
    assert half.request == 2 and "wanted are prompt and reply" in half.problem and half.rows == ()
