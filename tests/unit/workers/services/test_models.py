"""The model that is open: who is told when it leaves and when the next has come, and what is fetched without a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import ModelError
from lora_lab.formats.byte_source import FileSource
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    BaseModelNamed,
    Failed,
    ModelOpened,
    ModelProgress,
    NameBaseModel,
    NamedBlob,
    OpenModel,
)
from lora_lab.workers.services import models as model_service
from lora_lab.workers.services.models import Models
from lora_lab.workers.storage.downloads import WantedFile
from lora_lab.workers.storage.hub_shelf import KeptRecord
from lora_lab.workers.storage.progress import Fetched
from lora_lab.workers.storage.site_models import SiteIndex, SiteModel
from tests.unit.workers.helpers import Page, named
from tests.unit.workers.services.helpers import FakeGpu, FakeStores, files_in, run_alone


class Told:
    """Hears of the model that is open, once as a plain function and once as a coroutine."""

    def __init__(self, page: Page, models: Models) -> None:
        self.page, self.models = page, models
        self.heard: list[tuple[str, bool, int]] = []
        models.when_it_leaves(lambda: self.hear("leaves"), self.hear_slowly)
        models.when_it_came(lambda: self.hear("came"))

    def hear(self, what: str) -> None:
        self.heard.append((what, self.models.model is not None, len(self.page.all(ModelOpened))))

    async def hear_slowly(self) -> None:
        self.hear("leaves, slowly")


def test_who_has_to_do_with_it_is_told_in_order(tiny_model_folder: Path) -> None:
    page = Page()
    models = Models(page, FakeGpu(None), FakeStores(page))
    told = Told(page, models)
    files = files_in(tiny_model_folder)
    run_alone(page, models, OpenModel(files=files, title="Mine"), OpenModel(files=files))
    leaves = ("leaves", False), ("leaves, slowly", False)
    assert told.heard == [
        *((*one, 0) for one in leaves), ("came", True, 1), *((*one, 1) for one in leaves), ("came", True, 2),
    ]  # fmt: skip
    first, second = page.all(ModelOpened)
    assert (first.title, first.built_in, first.files) == ("Mine", False, files)
    assert second.title == second.name
    assert page.events[0] == ModelProgress("read", 0, 0) and page.all(Failed) == []


def test_formats_are_offered_only_where_there_is_no_template(tiny_model_folder: Path, base_model_folder: Path) -> None:
    page = Page()
    models = Models(page, FakeGpu(None), FakeStores(page))
    run_alone(page, models, *(OpenModel(files=files_in(folder)) for folder in (tiny_model_folder, base_model_folder)))
    own, base = page.all(ModelOpened)
    assert own.has_template and (own.chat_formats, own.chat_format) == ((), "auto")
    assert not base.has_template and base.chat_format == "family"
    assert [(one.value, one.title) for one in base.chat_formats] == [
        ("plain", "Plain text"), ("chatml", "ChatML"), ("family", "The family's own: ChatML"),
    ]  # fmt: skip
    assert all(one.help for one in base.chat_formats)
    said = "<|im_end|> ends an answer, and is a token of this model"
    assert [one.note for one in base.chat_formats] == ["", said, said]


def test_files_that_are_none_leave_the_model_that_is_open(opened: OpenedModel) -> None:
    page = Page()
    models = Models(page, FakeGpu(), FakeStores(page))
    told = Told(page, models)
    models.model = opened
    run_alone(page, models, OpenModel(files=(named("config.json", "{}"),)))
    (failed,) = page.all(Failed)
    assert failed.where == "model" and "config.json" in failed.message
    assert models.model is opened and told.heard == []
    models.model = None
    with pytest.raises(ModelError, match="Training needs a model, and none is open"):
        models.need_model("Training needs a model")


@pytest.mark.parametrize("gpu", [True, False])
def test_weights_of_the_site_are_fetched_only_for_a_gpu(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    files = [path for path in sorted(tiny_model_folder.iterdir()) if path.is_file()]
    wanted = tuple(WantedFile(f"tiny/{path.name}", "", path.stat().st_size, path.name) for path in files)
    site_model = SiteModel("tiny", "Tiny of the site", wanted, "hub/tiny")
    fetched: list[Any] = []

    async def read_site_index() -> SiteIndex:
        return SiteIndex({"tiny": site_model}, "tiny", None)

    async def open_on_site(model: Any) -> list[FileSource]:
        assert model is site_model
        return [FileSource(path) for path in files]

    class Cache:
        async def obtain(self, files: Any, tell: Any, answer: Any) -> list[Any]:
            fetched.append(files)
            tell(Fetched(1, 2, None, None, "tiny"))
            return [file.blob for file in files_in(tiny_model_folder)]

        async def keep_only(self, keys: set[str]) -> None:
            fetched.append(keys)

    monkeypatch.setattr(model_service, "read_site_index", read_site_index)
    monkeypatch.setattr(model_service, "open_on_site", open_on_site)
    page = Page()
    stores = FakeStores(page)
    stores.cache = Cache()  # type: ignore[attr-defined]
    stores.hub_shelf = SimpleNamespace(keys=keys_of_the_hub)  # type: ignore[attr-defined]
    models = Models(page, FakeGpu("device" if gpu else None), stores)
    run_alone(page, models, OpenModel(model_id="tiny"))
    assert fetched == ([wanted, {*(path.name for path in files), "of the hub"}] if gpu else [])
    (told,) = page.all(ModelOpened)
    assert (told.title, told.built_in, bool(told.files)) == ("Tiny of the site", True, gpu)
    assert models.model is not None and models.model.base_model == "hub/tiny"


def test_a_model_is_called_on_the_hub_as_a_person_says(tiny_model_folder: Path) -> None:
    page = Page()
    models = Models(page, FakeGpu(), FakeStores(page))
    run_alone(page, models, OpenModel(files=files_in(tiny_model_folder)), NameBaseModel(" me/tiny "))
    assert page.last(ModelOpened).base_model == ""
    assert page.last(BaseModelNamed) == BaseModelNamed("me/tiny")
    assert models.model is not None and models.model.hub_id == models.model.base_model == "me/tiny"
    run_alone(page, models, NameBaseModel("./models/tiny.gguf"))
    named_so = page.last(BaseModelNamed)
    assert named_so.base_model == "me/tiny" and "Wanted is OWNER/NAME" in named_so.problem
    run_alone(page, models, NameBaseModel(""))
    assert page.last(BaseModelNamed) == BaseModelNamed("") and models.model.hub_id is None
    assert models.model.base_model == models.model.files.name


async def keys_of_the_hub() -> set[str]:
    return {"of the hub"}


def test_a_kept_model_of_the_hub_is_opened_with_the_name_that_adapters_are_to_carry(tiny_model_folder: Path) -> None:
    page = Page()
    stores = FakeStores(page)
    record = KeptRecord("hf:tests/tiny-GGUF@1:t.gguf", "Tiny", "tests/tiny-GGUF", "1", "tests/tiny", "F16", "mit", ())

    async def open_kept(model_id: str) -> tuple[KeptRecord, tuple[NamedBlob, ...]]:
        assert model_id == record.id
        return record, files_in(tiny_model_folder)

    stores.hub_shelf = SimpleNamespace(open=open_kept)  # type: ignore[attr-defined]
    models = Models(page, FakeGpu(), stores)
    run_alone(page, models, OpenModel(kept=record.id))
    (told,) = page.all(ModelOpened)
    assert (told.title, told.built_in, len(told.files)) == ("Tiny", False, len(files_in(tiny_model_folder)))
    assert models.model is not None
    assert (models.model.base_model, models.model.kept) == ("tests/tiny", record.id)
