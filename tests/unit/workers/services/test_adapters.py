"""The adapters that are kept: listed with what fits, taken in when every name and shape is right, given out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.formats.peft import read_adapter
from lora_lab.formats.zipping import pack_adapter, unpack_adapter
from lora_lab.workers.model.opened import OpenedModel, model_shape
from lora_lab.workers.protocol import (
    AdapterDeleted,
    AdapterExported,
    AdapterFiles,
    AdapterImported,
    AdapterList,
    Command,
    DeleteAdapter,
    ExportAdapter,
    Failed,
    GetAdapter,
    ImportAdapter,
    NamedBlob,
    RenameAdapter,
    RestoreAdapter,
    SampleAnswer,
    SaveSampleAnswers,
)
from lora_lab.workers.services import adapters as adapter_service
from lora_lab.workers.services.adapters import MAX_ADAPTER_BYTES, Adapters
from tests.adapter_makes import as_gguf, as_mlx
from tests.unit.workers.helpers import FakeBlob, Page, named
from tests.unit.workers.services.helpers import FakeModels, FakeStores, adapter_files, run_alone


@pytest.fixture(autouse=True)
def read_without_pyodide(monkeypatch: pytest.MonkeyPatch) -> None:
    async def blob_bytes(file: NamedBlob) -> bytes:
        return file.blob.data

    monkeypatch.setattr(adapter_service, "blob_bytes", blob_bytes)


class Shelf:
    """The service with its two neighbours."""

    def __init__(self, model: OpenedModel | None) -> None:
        self.page, self.models = Page(), FakeModels(model)
        self.adapters = Adapters(self.page, FakeStores(self.page), self.models)

    def send(self, *commands: Command) -> None:
        run_alone(self.page, self.adapters, *commands)


def as_files(files: dict[str, bytes], folder: str = "ships") -> tuple[NamedBlob, ...]:
    return tuple(named(f"{folder}/{name}", data) for name, data in files.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_an_adapter_that_fits_is_kept_and_given_out_as_it_was(opened: OpenedModel, zipped: bool) -> None:
    shelf, files = Shelf(opened), adapter_files(opened)
    shelf.send(ImportAdapter((named("ships.zip", pack_adapter(files)),) if zipped else as_files(files)))
    kept = shelf.page.last(AdapterImported).adapter
    assert (kept.name, kept.rank, kept.imported, kept.base_model) == ("ships", 2, True, "tests/tiny")
    assert kept.model_shape == model_shape(opened.files.config)
    (listed,) = shelf.page.last(AdapterList).adapters
    assert listed == replace(kept, fits=True)
    shelf.send(GetAdapter(kept.id), ExportAdapter(kept.id))
    assert shelf.page.last(AdapterFiles) == AdapterFiles(kept.id, "ships", files)
    exported = shelf.page.last(AdapterExported)
    assert exported.file_name == "ships-lora.zip" and unpack_adapter(exported.data) == files
    assert shelf.page.all(Failed) == []


@pytest.mark.parametrize("zipped", [True, False])
def test_a_chat_template_is_kept_with_the_adapter(opened: OpenedModel, zipped: bool) -> None:
    shelf, files = Shelf(opened), {**adapter_files(opened), "chat_template.jinja": b"{{ messages }}"}
    shelf.send(ImportAdapter((named("ships.zip", pack_adapter(files)),) if zipped else as_files(files)))
    kept = shelf.page.last(AdapterImported).adapter
    assert kept.chat_format == "its own"
    shelf.send(GetAdapter(kept.id), ExportAdapter(kept.id))
    assert shelf.page.last(AdapterFiles).files == files
    assert unpack_adapter(shelf.page.last(AdapterExported).data) == files
    shelf.send(ImportAdapter(as_files(adapter_files(opened))))
    assert shelf.page.last(AdapterImported).adapter.chat_format == "" and shelf.page.all(Failed) == []


def test_another_make_is_kept_as_peft_s_and_said(opened: OpenedModel, tmp_path: Path) -> None:
    config = opened.files.config
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    ones = {key: np.ones_like(values) for key, values in read_adapter(adapter_files(opened), config)[1].items()}
    gguf = as_gguf(tmp_path / "ships.gguf", ones, lora, config, "llama", permuted=True)["ships.gguf"]
    shelf = Shelf(opened)
    for files, said in ((as_files(as_mlx(ones, lora)), "mlx-lm"), ((named("ships.gguf", gguf),), "llama.cpp")):
        shelf.send(ImportAdapter(files))
        imported = shelf.page.last(AdapterImported)
        assert said in imported.remarks[0] and imported.adapter.name.startswith("ships")
        shelf.send(GetAdapter(imported.adapter.id))
        kept = shelf.page.last(AdapterFiles).files
        assert set(kept) == set(adapter_files(opened))
        assert all((values == 1).all() for values in read_adapter(kept, config)[1].values())
    assert shelf.page.all(Failed) == []


def test_the_outermost_of_dropped_folders_is_taken(opened: OpenedModel) -> None:
    shelf, files = Shelf(opened), adapter_files(opened)
    shelf.send(ImportAdapter((*as_files(files, "ships/checkpoint-5"), *as_files(files))))
    imported = shelf.page.last(AdapterImported)
    assert imported.adapter.name == "ships"
    assert imported.remarks[0] == "the adapter in ships was taken, not those in ships/checkpoint-5"
    assert "every B is zero" in imported.remarks[1]


def test_an_export_names_the_base_that_was_named_since(opened: OpenedModel) -> None:
    shelf, files = Shelf(opened), adapter_files(opened)
    config = files["adapter_config.json"].replace(b'"tests/tiny"', b"null")
    shelf.send(ImportAdapter(as_files({**files, "adapter_config.json": config})))
    kept = shelf.page.last(AdapterImported).adapter

    def exported_base() -> str | None:
        shelf.send(ExportAdapter(kept.id))
        data = unpack_adapter(shelf.page.last(AdapterExported).data)["adapter_config.json"]
        return json.loads(data)["base_model_name_or_path"]

    shelf.models.model = replace(opened, base_model="model.gguf")
    assert exported_base() is None
    shelf.models.model = replace(opened, base_model="me/tiny")
    assert exported_base() == "me/tiny"
    other = replace(opened.files, config=replace(opened.files.config, hidden_size=128))
    shelf.models.model = replace(opened, base_model="me/other", files=other)
    assert exported_base() is None  # the control: an adapter of another model is not its business


def test_what_fits_is_told_by_the_open_model(opened: OpenedModel) -> None:
    shelf = Shelf(opened)
    shelf.send(ImportAdapter(as_files(adapter_files(opened))))
    shape = model_shape(opened.files.config)
    other = replace(opened.files.config, hidden_size=128)
    assert model_shape(other) != shape
    shelf.models.model = replace(opened, files=replace(opened.files, config=other))
    kept = shelf.page.last(AdapterImported).adapter
    shelf.send(RenameAdapter(kept.id, "Boats"))
    (listed,) = shelf.page.last(AdapterList).adapters
    assert (listed.name, listed.fits) == ("Boats", False)
    shelf.models.model = None
    shelf.send(SaveSampleAnswers(kept.id, (SampleAnswer("q", "a", "b"),)))
    (listed,) = shelf.page.last(AdapterList).adapters
    assert listed.fits is None and listed.sample_answers == (SampleAnswer("q", "a", "b"),)


def test_hidden_and_brought_back(opened: OpenedModel) -> None:
    shelf = Shelf(opened)
    shelf.send(ImportAdapter(as_files(adapter_files(opened))))
    kept = shelf.page.last(AdapterImported).adapter
    shelf.send(DeleteAdapter(kept.id))
    assert shelf.page.events[-2:] == [AdapterDeleted(kept.id, "ships"), AdapterList(())]
    shelf.send(GetAdapter(kept.id))
    assert shelf.page.last(Failed).subject == kept.id and shelf.page.last(Failed).where == "adapter"
    shelf.send(RestoreAdapter(kept.id))
    assert [info.id for info in shelf.page.last(AdapterList).adapters] == [kept.id]


def test_what_cannot_be_taken_in_is_said_and_not_kept(opened: OpenedModel) -> None:
    files = adapter_files(opened)
    shelf = Shelf(opened)
    config = files["adapter_config.json"].replace(b'"r": 2', b'"r": 3')
    assert config != files["adapter_config.json"]
    shelf.send(
        ImportAdapter(as_files({**files, "adapter_config.json": config})),
        ImportAdapter((*as_files(files, "a"), *as_files(files, "b"))),
        ImportAdapter((named("notes.txt", "no adapter"),)),
        ImportAdapter((named("ships.zip", b"no zip"),)),
    )
    wrong_rank, folders, none, no_zip = (event.message for event in shelf.page.all(Failed))
    assert "r is 3; the matrices" in wrong_rank and "holds 2 adapters, in a, b; wanted one" in folders
    assert "what was added holds notes.txt; wanted adapter_config.json" in none and "zip" in no_zip
    huge = FakeBlob(b"")
    huge.size = MAX_ADAPTER_BYTES + 1
    shelf.send(ImportAdapter((NamedBlob("huge.zip", huge),)))
    assert "at most" in shelf.page.last(Failed).message
    shelf.models.model = None
    shelf.send(ImportAdapter(as_files(files)))
    assert shelf.page.last(Failed).message == "An adapter is checked against the model, and none is open."
    assert shelf.page.all(AdapterImported) == [] and len(shelf.page.all(Failed)) == 6
