"""One service under CPython: commands brought to it alone, and fakes of its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lora_lab.config import LoraConfig
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.tokens.examples import Examples
from lora_lab.errors import DeviceError, ModelError
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.workers.dataset.opened import Choices, Split
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import Command, NamedBlob, Storage, TrainSettings
from lora_lab.workers.storage.adapter_shelf import AdapterStore
from lora_lab.workers.storage.folders import MemoryFolder
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page, named


def run_alone(page: Page, service: object, *commands: Command) -> None:
    """Have one service answer commands, one after the other."""

    async def main() -> None:
        dispatcher = Dispatcher(page, [service])
        for command in commands:
            await dispatcher.answer(command)

    asyncio.run(main())


def files_in(folder: Path) -> tuple[NamedBlob, ...]:
    """Return a folder's files as the page sends them."""
    return tuple(named(f"tiny/{path.name}", path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file())


def adapter_files(opened: OpenedModel, rank: int = 2) -> dict[str, bytes]:
    """Return the files of an adapter that fits this model; all of it is zero."""
    lora = LoraConfig(rank=rank, alpha=4, targets=("q_proj",))
    model = opened.files.config
    zeros = {key: np.zeros(shape, np.float32) for key, shape in expected_shapes(lora, model).items()}
    return write_adapter(zeros, lora, model, "tests/tiny")


def split_of(trained: int, held: int = 0, *, needs_held: bool = False) -> Split:
    """Return a split of rows that are all alike."""

    def examples(rows: int) -> Examples:
        tokens, mask = np.array([1, 2, 3], np.int32), np.array([False, True, True])
        return Examples([(tokens, mask)], *(np.full(rows, value) for value in (0, 0, 3)))

    return Split(examples(trained), examples(held), (), (), needs_held)


class FakeModels:
    """Models with this one open."""

    def __init__(self, model: OpenedModel | None = None) -> None:
        self.model = model

    def need_model(self, why: str) -> OpenedModel:
        if self.model is None:
            raise ModelError(f"{why}, and none is open.")
        return self.model


def fake_device(**more: Any) -> Any:
    """Return a device that says what it is, a software one, and what it holds."""
    info = SimpleNamespace(name="Fake", backend="Vulkan", is_software=True)
    return SimpleNamespace(info=info, **{"memory_in_use_bytes": 5, "peak_memory_bytes": 7, **more})


class FakeGpu:
    """A GPU that is `found`, or none. What it gives out is a name: whoever gets it has a fake of its own to use it."""

    def __init__(self, found: object | None = "device") -> None:
        self.found, self.losses = found, 0

    async def device(self) -> object:
        if self.found is None:
            raise DeviceError("There is no GPU.")
        return self.found

    async def has_gpu(self) -> bool:
        return self.found is not None

    async def is_lost(self, device: object) -> bool:
        return device is not self.found


class FakeStores:
    """A storage in memory, open from the beginning."""

    def __init__(self, page: Page) -> None:
        self.page, self.shelf = page, AdapterStore(MemoryFolder())
        self.exported = MemoryFolder()

    async def exports(self) -> MemoryFolder:
        return self.exported

    async def opened(self) -> None: ...

    async def tell_storage(self) -> None:
        self.page.post(Storage(True))


class FakeCheckpoints:
    """A browser that keeps no checkpoints: another tab's run has the place."""

    changed = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        yield False


@dataclass
class FakeDataset:
    """A dataset whose tokens are counted for one masking; any split of it is the same."""

    parts: Split
    masking: str = "assistant"
    bad_rows: int = 0
    asks: tuple[str, ...] = ()
    name: str = "ships.jsonl"
    title: str = "ships.jsonl"
    table: RowTable = field(default_factory=RowTable)
    validation: None = None

    def is_encoded(self, masking: str, chat_format: str) -> bool:
        return masking == self.masking and chat_format == "auto"

    def cut(self, _: Choices) -> FakeDataset:
        return self

    def split(self, _: TrainSettings) -> Split:
        return self.parts

    def choose_probes(self, _: Split) -> tuple:
        return ()


class FakeDatasets:
    """Datasets with this one open; it says what it was asked for."""

    def __init__(self, dataset: FakeDataset | None = None) -> None:
        self.dataset = dataset
        self.is_reading_validation = False
        self.can_count = True
        self.asked: list[str] = []
        self.waiting: Callable[[], Awaitable[None]] | None = None

    async def count_for(self, choices: Choices) -> bool:
        self.asked.append(f"count for {choices.masking}")
        if self.dataset is not None and self.can_count:
            self.dataset.masking = choices.masking
        return self.can_count

    def show_choices(self, choices: Choices) -> None:
        self.asked.append(f"show {choices.masking}")

    def when_counted(self, choices: Choices, then: Callable[[], Awaitable[None]]) -> None:
        self.asked.append(f"when counted for {choices.masking}")
        self.waiting = then

    async def stop_counting(self) -> None:
        self.asked.append("stop counting")
