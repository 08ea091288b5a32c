"""Looking at the dataset that is open: what a mapping makes of it, its rows in tokens, the cleaned file."""

from __future__ import annotations

import asyncio
from typing import Any

from lora_lab.errors import DatasetError
from lora_lab.workers.dataset.inputs import mapping_of
from lora_lab.workers.dataset.shown_row import show_row
from lora_lab.workers.protocol import (
    CleanedDone,
    CleanedPiece,
    MappingPreviewed,
    PreviewMapping,
    RowShown,
    SaveCleaned,
    ShowRow,
)
from lora_lab.workers.services.datasets import Datasets, row_by_row
from lora_lab.workers.services.models import Models
from lora_lab.workers.wire.dispatch import Host, handles

PIECE_BYTES = 1 << 20
_PREVIEW_CHARACTERS = 2000


class Rows:
    """Answers the page's questions about the dataset that is open; none of them changes it."""

    def __init__(self, host: Host, models: Models, datasets: Datasets) -> None:
        self._host, self._models, self._datasets = host, models, datasets
        self._row_job: asyncio.Task[RowShown] | None = None
        self._saving: SaveCleaned | None = None  # the file that is being written

    @handles(PreviewMapping, "dataset")
    async def preview_mapping(self, command: PreviewMapping) -> None:
        """Say what a mapping makes of the first rows."""
        dataset = self._datasets.need_dataset()
        try:
            mapping = mapping_of(command.mapping)
            if mapping is None:
                raise DatasetError("Choose the columns of the prompt and the reply, or that of the text.")
            with row_by_row(self._host, dataset.table, "reading the first rows"):
                rows = tuple(_shortened(row) for row in dataset.table.mapping_preview(mapping))
        except DatasetError as error:
            self._host.post(MappingPreviewed(command.request, problem=str(error)))
            return
        self._host.post(MappingPreviewed(command.request, rows))

    @handles(ShowRow, "dataset")
    async def show_row(self, command: ShowRow) -> None:
        """Show a row's tokens. A search that another ShowRow overtakes is given up."""
        dataset = self._datasets.need_dataset()
        if self._row_job is not None:
            self._row_job.cancel()
        model = self._models.model
        if model is None:
            self._host.post(RowShown(command.request, 0, 0, why="The rows can be shown when a model is open."))
            return
        job = self._row_job = asyncio.ensure_future(show_row(dataset, model.tokenizer, command))
        try:
            with row_by_row(self._host, dataset.table, "showing a row"):
                shown = await job
        except asyncio.CancelledError:
            if not job.cancelled():
                raise
            return
        if self._datasets.dataset is dataset:
            self._host.post(shown)

    @handles(SaveCleaned, "dataset")
    async def save_cleaned(self, command: SaveCleaned) -> None:
        """Send the good rows as JSON Lines, piece by piece. Another file, or another dataset, ends this one."""
        dataset = self._datasets.need_dataset()
        self._saving = command
        table = dataset.table
        total = len(table) - (0 if command.mended else table.mendable)
        waiting: list[bytes] = []
        size = done = 0
        with row_by_row(self._host, table, "writing the cleaned file"):
            async for piece in table.cleaned(command.mended, command.as_conversations):
                if self._saving is not command or self._datasets.dataset is not dataset:
                    return
                waiting.append(piece)
                size += len(piece)
                done += piece.count(b"\n")
                if size >= PIECE_BYTES:
                    self._host.post(CleanedPiece(b"".join(waiting), done, total))
                    waiting, size = [], 0
        if size:
            self._host.post(CleanedPiece(b"".join(waiting), done, total))
        self._host.post(CleanedDone(_cleaned_name(dataset.name), done))


def _cleaned_name(name: str) -> str:
    """Return `cats-cleaned.jsonl` for `cats.csv.gz`."""
    base = name.split(" and ")[0].removesuffix(".gz")
    stem = base.rpartition(".")[0] or base
    return f"{stem.replace(' ', '-')}-cleaned.jsonl"


def _shortened(value: Any) -> Any:
    """Return a row with its long texts cut: it is for looking at."""
    if isinstance(value, str):
        return value if len(value) <= _PREVIEW_CHARACTERS else value[: _PREVIEW_CHARACTERS - 1] + "…"
    if isinstance(value, list):
        return [_shortened(item) for item in value[:50]]
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return value
