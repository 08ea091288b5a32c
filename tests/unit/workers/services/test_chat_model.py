"""The chat's model: brought to the GPU and given back, and the adapter that is on it or will be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.data.tokens.chat_formats import CHATML, PLAIN
from lora_lab.errors import LoraLabError
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import (
    AdapterApplied,
    AdapterPart,
    AdaptersApplied,
    ApplyAdapter,
    ApplyAdapters,
    Failed,
    ModelProgress,
    ModelReady,
    ModelReleased,
    OpenModel,
    ReleaseModel,
    RemoveAdapter,
    WakeModel,
)
from lora_lab.workers.services import chat_model as chat_service
from lora_lab.workers.services.chat_model import ChatModel
from tests.unit.workers.helpers import Page
from tests.unit.workers.services.helpers import FakeGpu, adapter_files, files_in, run_alone


class FakeEngine:
    """A GPU's model and the engine over it; `did` is what was done with them, in all of them together."""

    did: list[str]
    error: Exception | None
    weights_bytes = 7

    async def load_model(self, device: Any, files: Any, on_progress: Any) -> FakeEngine:
        self.did.append("load")
        on_progress(7, 7)
        return self

    def __call__(self, model: Any, tokenizer: Any, template: Any, *, context_length: int) -> FakeEngine:
        assert model is self and context_length == 2048
        return self

    async def prepare(self, on_progress: Any) -> None:
        if self.error:
            raise self.error
        on_progress(1, 1)

    async def set_adapter(self, lora: Any, tensors: Any = None) -> None:
        self.did.append(f"adapter of rank {lora.rank}" if lora else "no adapter")

    def close(self) -> None:
        self.did.append("close")

    def release(self) -> None:
        self.did.append("release")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    fake.did, fake.error = [], None
    monkeypatch.setattr(chat_service, "load_model", fake.load_model)
    monkeypatch.setattr(chat_service, "ChatEngine", fake)
    return fake


def service(gpu: bool = True) -> tuple[Page, ChatModel]:
    page = Page()
    return page, ChatModel(page, FakeGpu(SimpleNamespace(memory_in_use_bytes=9) if gpu else None))


def test_the_weights_come_go_and_come_back_with_the_adapter(
    engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel
) -> None:
    page, model = service()
    adapter = ApplyAdapter("1", "Ships", adapter_files(opened))
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)), WakeModel(), adapter)
    assert engine.did == ["load", "adapter of rank 2"] and model.chat is engine
    assert page.events == [
        ModelProgress("read", 0, 0), ModelProgress("gpu", 7, 7), ModelProgress("kernels", 1, 1), ModelReady(7, 9),
        AdapterApplied("1", "Ships"),
    ]  # fmt: skip
    engine.did.clear()
    run_alone(page, model, ReleaseModel(), ReleaseModel())
    assert engine.did == ["close", "release"] and model.chat is None
    assert page.events[-2:] == [ModelReleased(), ModelReleased()]
    engine.did.clear()
    run_alone(page, model, WakeModel(), RemoveAdapter(), ReleaseModel(), WakeModel())
    assert engine.did == ["load", "adapter of rank 2", "no adapter", "close", "release", "load"]
    assert page.all(Failed) == []


def test_an_adapter_is_checked_also_while_the_weights_are_away(
    engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel
) -> None:
    page, model = service()
    bad = ApplyAdapter("2", "Bad", {**adapter_files(opened), "adapter_model.safetensors": b"none"})
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)), ReleaseModel())
    for woken in (False, True):
        if woken:
            run_alone(page, model, WakeModel())
        run_alone(page, model, bad)
        assert (page.last(Failed).where, page.last(Failed).subject) == ("adapter", "2")
    assert len(page.all(Failed)) == 2 and model.adapter is None and page.all(AdapterApplied) == []
    # Before there is any model nothing is known that it could be held against.
    page, model = service()
    run_alone(page, model, bad)
    assert page.events == [AdapterApplied("2", "Bad")]


def test_several_adapters_come_back_with_the_weights(
    engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel
) -> None:
    page, model = service()
    ships = AdapterPart("1", "Ships", 0.5, adapter_files(opened))
    stars = AdapterPart("2", "Stars", 1.5, adapter_files(opened, rank=3))
    bad = replace(ships, id="3", name="Bad", files={**adapter_files(opened), "adapter_model.safetensors": b"none"})
    opens = OpenModel(files=files_in(tiny_model_folder))
    run_alone(page, model, opens, ApplyAdapters((ships, stars)), ReleaseModel(), ApplyAdapters((ships, bad)))
    assert engine.did == ["load", "adapter of rank 5", "close", "release"]
    failed = page.last(Failed)
    assert failed.where == "adapter" and failed.message.startswith("Bad: ")
    run_alone(page, model, WakeModel())
    assert engine.did[4:] == ["load", "adapter of rank 5"] and model.strength == 1.0
    # One alone is itself: its strength is the engine's, and a change of it brings nothing to the GPU.
    for strength in (0.5, 2.0):
        run_alone(page, model, ApplyAdapters((replace(ships, files=None, strength=strength),)))
        assert model.strength == strength
    assert engine.did[6:] == ["adapter of rank 2"]
    run_alone(page, model, ApplyAdapters(()))
    assert engine.did[7:] == ["no adapter"] and page.last(AdaptersApplied) == AdaptersApplied(())
    # They were for that model.
    run_alone(page, model, opens, ApplyAdapters((replace(ships, files=None),)))
    assert "its files are not here" in page.last(Failed).message


def test_another_model_drops_the_adapter(engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel) -> None:
    page, model = service()
    opens = OpenModel(files=files_in(tiny_model_folder))
    run_alone(page, model, opens, ApplyAdapter("1", "Ships", adapter_files(opened)), opens)
    assert model.adapter is None and page.all(AdapterApplied)[-1] == AdapterApplied(None)
    assert engine.did == ["load", "adapter of rank 2", "close", "release", "load"]


@pytest.mark.parametrize("why", ["gpu", "kernels"])
def test_a_model_that_does_not_load_leaves_nothing_behind(
    engine: FakeEngine, tiny_model_folder: Path, why: str
) -> None:
    page, model = service(gpu=why != "gpu")
    engine.error = LoraLabError("There is no memory.")
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)))
    said = "There is no GPU." if why == "gpu" else "There is no memory."
    assert page.all(Failed) == [Failed("model", said)] and page.all(ModelReady) == []
    assert model.chat is None and engine.did == ([] if why == "gpu" else ["load", "close", "release"])
    engine.error = None
    if why == "kernels":
        run_alone(page, model, WakeModel())
        assert page.events[-1] == ModelReady(7, 9)


SHOUT = "{% for message in messages %}{{ message.content }}!END!{% endfor %}"


def template_of(model: ChatModel, chat_format: str = "auto", *, with_adapter: bool = True) -> Any:
    model.use_template(chat_format, with_adapter=with_adapter)
    return model.chat.template  # type: ignore[union-attr]


def test_the_template_is_the_adapters_else_the_models_own_else_the_chosen_one(
    engine: FakeEngine, tiny_model_folder: Path, base_model_folder: Path, opened: OpenedModel
) -> None:
    page, model = service()
    model.use_template("plain", with_adapter=True)  # before there is a model it is nothing
    bringing = ApplyAdapter("1", "Ships", {**adapter_files(opened), "chat_template.jinja": SHOUT.encode()})
    for folder, own in ((tiny_model_folder, opened.files.tokenizer.chat_template), (base_model_folder, None)):
        run_alone(page, model, OpenModel(files=files_in(folder)))
        for value, source in (("auto", CHATML), ("chatml", CHATML), ("family", CHATML), ("plain", PLAIN)):
            assert template_of(model, value).source == (own or source.source)
        run_alone(page, model, bringing)
        assert template_of(model, "plain").source == SHOUT and template_of(model).end_of_turn == "!END!"
        assert template_of(model, "plain", with_adapter=False).source == (own or PLAIN.source)
        run_alone(page, model, ReleaseModel(), WakeModel())
        assert template_of(model).source == SHOUT, "it stays while the weights are away"
        run_alone(page, model, ApplyAdapter("2", "Plain", adapter_files(opened)))
        assert template_of(model).source == (own or CHATML.source)
        run_alone(page, model, bringing, RemoveAdapter())
        assert template_of(model).source == (own or CHATML.source)
    assert page.all(Failed) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{% if %}", "line 1"),
        (b"\xff", "not UTF-8"),
        (b"{{ ''.__class__.__mro__ }}", "unsafe"),
        (b"hello", "does not"),
    ],
)
def test_a_broken_template_of_an_adapter_is_told_and_the_models_own_is_used(
    engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel, data: bytes, said: str
) -> None:
    page, model = service()
    broken = ApplyAdapter("1", "Ships", {**adapter_files(opened), "chat_template.jinja": data})
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)), broken)
    (failed,) = page.all(Failed)
    # Without a subject: the page takes an adapter off that is named here, and this one is in use.
    assert (failed.where, failed.subject, failed.details) == ("adapter", None, None)
    assert failed.message.startswith("Ships: chat_template.jinja: ") and said in failed.message
    assert failed.message.endswith("The model's own chat format is used in its place.")
    assert page.events[-1] == AdapterApplied("1", "Ships")
    assert template_of(model).source == opened.files.tokenizer.chat_template


def test_without_files_there_is_nothing_to_wake(engine: FakeEngine) -> None:
    page, model = service()
    run_alone(page, model, WakeModel())
    assert page.events == [Failed("model", "The chat has no model yet.")]
    with pytest.raises(LoraLabError):
        asyncio.run(model.engine())


def test_a_lost_gpu_leaves_the_model_to_be_brought_to_the_next(
    engine: FakeEngine, tiny_model_folder: Path, opened: OpenedModel
) -> None:
    page, model = service()
    adapter = ApplyAdapter("1", "Ships", adapter_files(opened))
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)), adapter)
    engine.did.clear()
    model.gpu_lost()
    assert page.events[-1] == ModelReleased() and model.chat is None
    run_alone(page, model, WakeModel())
    assert engine.did == ["close", "release", "load", "adapter of rank 2"] and page.all(Failed) == []


@pytest.mark.parametrize("losses", [1, 9])
def test_a_gpu_that_is_lost_while_the_model_goes_to_it(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Path, losses: int
) -> None:
    page, model = service()
    gpu, lost = model._gpu, []
    load = engine.load_model

    async def losing(device: Any, files: Any, on_progress: Any) -> FakeEngine:
        if len(lost) < losses:
            lost.append(device)
            gpu.found = SimpleNamespace(memory_in_use_bytes=9)
            raise LoraLabError("mapping failed")
        return await load(device, files, on_progress)

    monkeypatch.setattr(chat_service, "load_model", losing)
    run_alone(page, model, OpenModel(files=files_in(tiny_model_folder)))
    if losses == 1:
        assert page.all(ModelReady) and page.all(Failed) == []
    else:
        assert len(lost) == chat_service.MOST_LOSSES + 1 and "mapping failed" in page.last(Failed).message
