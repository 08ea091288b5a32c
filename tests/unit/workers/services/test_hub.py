"""Models of the hub: what is told of a repository and of a model in it, and what is fetched, kept and removed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import HubError, ModelError
from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.hub import HubName, HubRepository, read_repository
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    CheckHubModel,
    Failed,
    FetchEnded,
    FetchHubModel,
    FetchProgress,
    HubChecked,
    HubListed,
    KeptModels,
    LookAtRepository,
    RemoveKeptModel,
    StopFetching,
)
from lora_lab.workers.services import hub as hub_service
from lora_lab.workers.services.hub import Hub
from lora_lab.workers.storage.downloads import WantedFile
from lora_lab.workers.storage.folders import MemoryFolder, StorageError
from lora_lab.workers.storage.hub_shelf import HubShelf
from lora_lab.workers.storage.progress import Fetched
from lora_lab.workers.storage.site_models import SiteIndex
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.hub_server import Repository
from tests.unit.workers.helpers import SETTINGS, FakeBlob, Page
from tests.unit.workers.services.helpers import FakeDatasets, FakeGpu, FakeModels, FakeStores, run_alone

NAME = "tests/tiny"
HUB = "https://hub.example"


class FakeCache:
    """Files that are here whole, by key, and how much there is of others. `fails` is raised by the next fetching."""

    def __init__(self) -> None:
        self.whole: dict[str, FakeBlob] = {}
        self.part: dict[str, int] = {}
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.stalls = False

    async def find(self, file: WantedFile) -> FakeBlob | None:
        return self.whole.get(file.key)

    async def done_bytes(self, file: WantedFile) -> int:
        return file.size_bytes if file.key in self.whole else self.part.get(file.key, 0)

    async def obtain(self, files: list[WantedFile], tell: Any, answer: Any) -> list[FakeBlob]:
        self.asked += [file.url for file in files]
        tell(Fetched(1, 10, None, None, files[0].path))
        if self.fails is not None:
            raise self.fails
        if self.stalls:
            self.part[files[0].key] = 1
            await asyncio.sleep(60)
        self.whole |= {file.key: FakeBlob(file.path.encode()) for file in files}
        return list(self.whole.values())

    async def discard(self, keys: set[str]) -> None:
        for key in keys:
            self.whole.pop(key, None)
            self.part.pop(key, None)


class Bench:
    """The service with fakes of its neighbours; the hub holds the tiny model's folder and what cannot be used."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, model: OpenedModel | None = None) -> None:
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        self.repository = Repository(NAME, {**files, "old.bin": b"pickled"}, gated=False)
        self.page, self.cache = Page(), FakeCache()
        self.stores, self.models = FakeStores(self.page), FakeModels(model)
        self.stores.cache = self.cache  # type: ignore[attr-defined]
        self.shelf = self.stores.hub_shelf = HubShelf(MemoryFolder(), self.cache)  # type: ignore
        self.runs, self.gpu, self.datasets = SimpleNamespace(training=False), FakeGpu(None), FakeDatasets()
        self.asked: list[str] = []
        self.read: list[str] = []
        self.address: str | None = HUB
        self.service = Hub(self.page, self.gpu, self.stores, self.models, self.datasets, self.runs)  # type: ignore
        monkeypatch.setattr(hub_service, "read_site_index", self._read_site_index)
        monkeypatch.setattr(hub_service, "ask_repository", self._ask)
        monkeypatch.setattr(hub_service, "HubSource", self._source)

    async def _read_site_index(self) -> SiteIndex:
        return SiteIndex({}, None, self.address)

    async def _ask(self, hub: str, name: HubName) -> HubRepository:
        self.asked.append(f"{hub}/{name.repository}")
        if name.repository == "tests/nothing":
            raise HubError("tests/nothing is not on the hub", "missing")
        return read_repository(self.repository.answer())

    def _source(self, hub: str, repository: HubRepository, file: Any) -> BytesSource:
        self.read.append(file.path)
        content = self.repository.files[file.path]
        assert isinstance(content, bytes)
        return BytesSource(content, f"tiny/{file.path}")

    def send(self, *commands: Any) -> None:
        run_alone(self.page, self.service, *commands)

    @property
    def usable(self) -> str:
        """The id of the one model that can be used."""
        return next(one.id for one in self.page.last(HubListed).models if not one.refused)

    @property
    def failures(self) -> list[str]:
        return [event.message for event in self.page.all(Failed)]


@pytest.fixture
def bench(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tiny_model_folder, monkeypatch)


def test_a_repository_is_listed_with_what_cannot_be_used(bench: Bench) -> None:
    assert bench.asked == []
    bench.repository.gated = "auto"
    bench.send(LookAtRepository("hf:tests/before"))
    listed = bench.page.last(HubListed)
    assert bench.asked == [f"{HUB}/tests/before"] and (listed.repository, listed.licence) == (NAME, "apache-2.0")
    assert "tests/before has been renamed: it is tests/tiny now." in listed.note and "It is gated" in listed.note
    assert [(one.kind, bool(one.refused), one.kept) for one in listed.models] == [
        ("safetensors", False, False), ("other", True, False),
    ]  # fmt: skip
    assert listed.chosen == bench.usable and "runs code" in listed.models[1].refused


def test_what_the_hub_refuses_is_said_at_the_field(bench: Bench) -> None:
    bench.send(LookAtRepository("tests/nothing"), LookAtRepository("nothing"))
    assert [event.where for event in bench.page.all(Failed)] == ["hub", "hub"]
    assert bench.failures[0] == "tests/nothing is not on the hub" and "is no OWNER/NAME" in bench.failures[1]
    bench.address = None
    bench.send(LookAtRepository(NAME))
    assert "built without the Hugging Face hub" in bench.failures[-1] and len(bench.asked) == 1


def test_a_model_s_header_says_what_it_is_before_anything_is_fetched(bench: Bench) -> None:
    bench.send(LookAtRepository(NAME), CheckHubModel(f"hf:{NAME}"))
    assert "is not listed any more" in bench.failures[-1]
    bench.send(CheckHubModel(bench.usable, SETTINGS), CheckHubModel(bench.usable))
    with_settings, without = bench.page.all(HubChecked)
    assert with_settings.verdict == without.verdict == "unknown"
    assert "2 layers" in with_settings.about and "no GPU here" in with_settings.words
    assert "once the settings can be used" in without.words
    assert bench.read.count("model.safetensors") == 1  # other settings are no reason to ask again
    bench.send(LookAtRepository(NAME))
    bench.repository.files["config.json"] = b'{"model_type": "mamba"}'
    bench.send(CheckHubModel(bench.usable, SETTINGS))
    assert bench.page.last(HubChecked).verdict == "refused" and "mamba" in bench.page.last(HubChecked).words
    assert bench.cache.asked == []


def test_a_model_is_fetched_by_its_commit_and_kept_under_its_name(bench: Bench) -> None:
    bench.send(LookAtRepository(NAME), FetchHubModel("".join([f"hf:{NAME}", "@", bench.repository.sha])))
    assert bench.failures == [] and bench.page.last(FetchEnded).whole
    assert bench.page.all(FetchProgress)[0].title == "tiny"
    assert all(url.startswith(f"{HUB}/{NAME}/resolve/{bench.repository.sha}/") for url in bench.cache.asked)
    (kept,) = bench.page.last(KeptModels).models
    assert (kept.whole, kept.title, kept.repository, kept.coming) == (True, "tiny", NAME, False)
    assert any(one.coming for event in bench.page.all(KeptModels) for one in event.models)
    record, files = asyncio.run(bench.shelf.open(kept.id))
    assert record.base_model == NAME and {file.name for file in files} >= {"tiny/config.json", "tiny/model.safetensors"}
    bench.send(LookAtRepository(NAME))
    assert [one.kept for one in bench.page.last(HubListed).models] == [True, False]

    bench.send(RemoveKeptModel(kept.id))
    assert bench.page.last(KeptModels).models == () and bench.cache.whole == {}
    with pytest.raises(ModelError, match="is not kept in this browser any more"):
        asyncio.run(bench.shelf.open(kept.id))


def test_the_model_in_use_is_not_removed(bench: Bench, opened: OpenedModel) -> None:
    bench.send(LookAtRepository(NAME), FetchHubModel(f"hf:{NAME}@{bench.repository.sha}"))
    (kept,) = bench.page.last(KeptModels).models
    bench.models.model = OpenedModel(opened.files, opened.tokenizer, opened.template, NAME, "Tiny", kept.id)
    bench.send(RemoveKeptModel(kept.id))
    assert "is in use" in bench.failures[-1]
    (still,) = bench.page.last(KeptModels).models if bench.page.last(KeptModels).models else (None,)
    assert still is not None and len(bench.cache.whole) == len(bench.cache.asked)


def test_what_fails_with_nothing_fetched_leaves_nothing_behind(bench: Bench) -> None:
    bench.cache.fails = HubError("tests/tiny is gated", "gated")
    model_id = f"hf:{NAME}@{bench.repository.sha}"
    bench.send(LookAtRepository(NAME), FetchHubModel(model_id), FetchHubModel(f"{model_id}:old.bin"))
    first, second = bench.page.all(Failed)
    assert (first.where, first.subject, first.message) == ("hub", model_id, "tests/tiny is gated")
    assert "runs code" in second.message and bench.page.last(KeptModels).models == ()
    bench.cache.fails, bench.cache.part = StorageError("full"), {}
    wanted = bench.service._listed[model_id][1].files[0]
    bench.cache.part[wanted.sha256 or ""] = 7  # the control: something of it is here
    bench.send(FetchHubModel(model_id))
    assert [one.done_bytes for one in bench.page.last(KeptModels).models] == [7]


def test_a_stop_leaves_what_has_come_and_another_has_to_wait(bench: Bench) -> None:
    bench.cache.stalls = True
    model_id = f"hf:{NAME}@{bench.repository.sha}"

    async def main() -> None:
        dispatcher = Dispatcher(bench.page, [bench.service])
        await dispatcher.answer(LookAtRepository(NAME))
        fetching = asyncio.ensure_future(dispatcher.answer(FetchHubModel(model_id)))
        while not bench.page.all(FetchProgress):
            await asyncio.sleep(0)
        await dispatcher.answer(FetchHubModel(model_id))
        assert bench.failures == ["A model is being fetched already. This one can follow when that is here."]
        await dispatcher.answer(StopFetching())
        await fetching

    asyncio.run(main())
    assert bench.page.last(FetchEnded) == FetchEnded(model_id, "tiny", whole=False)
    (kept,) = bench.page.last(KeptModels).models
    assert (kept.whole, kept.done_bytes, kept.coming) == (False, 1, False)
    with pytest.raises(ModelError, match="is not all here"):
        asyncio.run(bench.shelf.open(model_id))
    bench.cache.stalls = False
    bench.send(FetchHubModel(model_id))
    assert bench.page.last(FetchEnded).whole
