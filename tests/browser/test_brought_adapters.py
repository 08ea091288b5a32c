"""Adapters of other makes on the page: kept and used with a remark, refused in one sentence; and the base's name."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.model.files import open_model
from tests.adapter_makes import as_gguf, as_mlx
from tests.browser.lab import START_MS, Lab
from tests.tiny_families import tiny_config

pytestmark = pytest.mark.browser
LORA = LoraConfig(rank=4, alpha=32)


def config_of(folder: Path) -> ModelConfig:
    async def opened() -> ModelConfig:
        return (await open_model(sources_from_path(folder))).config

    with ThreadPoolExecutor() as other:  # this thread's event loop is Playwright's
        return other.submit(lambda: asyncio.run(opened())).result()


def random_tensors(model: ModelConfig) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {key: generator.normal(scale=0.3, size=shape).astype(np.float32)
            for key, shape in expected_shapes(LORA, model).items()}  # fmt: skip


def written(folder: Path, files: dict[str, bytes]) -> list[Path]:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def test_other_makes_are_used_with_a_remark_and_another_model_s_is_refused_in_one_sentence(
    open_lab: Callable[..., Lab], tmp_path: Path, tiny_model_folder: Path
) -> None:
    model = config_of(tiny_model_folder)
    tensors = random_tensors(model)
    as_gguf(tmp_path / "ships.gguf", tensors, LORA, model, "llama", permuted=True)
    makes = {
        "mlx-lm": written(tmp_path / "mlx", as_mlx(tensors, LORA)),
        "llama.cpp": [tmp_path / "ships.gguf"],
        "peft": written(tmp_path / "peft", write_adapter(tensors, LORA, model, None)),
    }
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(12)
    base, replies = lab.ask("Hello"), {}
    slot = lab.page.locator("#adapter-problem")
    for number, (make, paths) in enumerate(makes.items(), 1):
        lab.clear_chat()
        lab.drop(*paths, on="adapter-input")
        expect(lab.part("adapter-item")).to_have_count(number, timeout=START_MS)
        expect(lab.part("adapter-item").first).to_contain_text("in use", timeout=START_MS)
        if make == "peft":
            expect(slot).to_be_hidden()  # the control: nothing to say
        else:
            expect(slot.get_by_role("status")).to_contain_text(make)
        replies[make] = lab.ask("Hello")
    assert replies["mlx-lm"] == replies["llama.cpp"] == replies["peft"] != base

    other = tiny_config("qwen3", num_hidden_layers=6)
    lab.drop(*written(tmp_path / "other", write_adapter(random_tensors(other), LORA, other, None)), on="adapter-input")
    alert = slot.get_by_role("alert")
    expect(alert.locator("p")).to_have_text(
        "the adapter was made for a model of 6 layers and width 64; this one has 2 and 64"
    )
    expect(alert.locator("li")).to_have_count(0)
    expect(lab.part("adapter-item")).to_have_count(3)


def test_the_base_is_asked_for_once_and_stands_in_what_is_downloaded(
    open_lab: Callable[..., Lab], tmp_path: Path, tiny_model_folder: Path
) -> None:
    model = config_of(tiny_model_folder)
    paths = written(tmp_path / "peft", write_adapter(random_tensors(model), LORA, model, None))
    lab = open_lab()
    lab.wait_for_model()
    field, error = lab.part("base-model"), lab.page.locator("#base-model-error")
    expect(field).to_be_visible()
    lab.drop(*paths, on="adapter-input")
    expect(lab.part("adapter-item")).to_have_count(1, timeout=START_MS)

    def base_of_download() -> str | None:
        with lab.page.expect_download() as download:
            lab.part("adapter-item").get_by_role("button", name="Download").click()
        with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
            return json.loads(archive.read("adapter_config.json"))["base_model_name_or_path"]

    assert base_of_download() is None
    field.fill("model.gguf")
    field.press("Enter")
    expect(error).to_contain_text("Wanted is OWNER/NAME")
    assert base_of_download() is None
    field.fill("https://huggingface.co/me/tiny")
    field.press("Enter")
    expect(field).to_have_value("me/tiny")
    expect(error).to_be_empty()
    assert base_of_download() == "me/tiny"
    lab.page.reload()
    lab.wait_for_model()
    expect(field).to_have_value("me/tiny")
