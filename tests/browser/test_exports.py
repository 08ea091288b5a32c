"""An adapter is taken along on the page: what arrives is what the engine writes, and what is stopped is gone."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import write_adapter
from lora_lab.model.adapter_files import open_adapter
from lora_lab.model.files import open_model
from tests.browser.lab import START_MS, Lab
from tests.export_cases import adapter_for
from tests.tiny_model import write_tiny_model

pytestmark = pytest.mark.browser
T = TypeVar("T")
Tensors = dict[str, np.ndarray]
# A real folder of the site's own storage in place of the window that asks for one, which no script can answer.
PICKER = """
window.showDirectoryPicker = async () =>
  (await navigator.storage.getDirectory()).getDirectoryHandle("picked", { create: true });
"""
THERE = """async () => {
  const names = [];
  const look = async (folder, path) => {
    for await (const [name, handle] of folder.entries()) {
      names.push(path + name);
      if (handle.kind === "directory") await look(handle, `${path}${name}/`);
    }
  };
  await look(await (await navigator.storage.getDirectory()).getDirectoryHandle("picked"), "");
  return names;
}"""


def apart(work: Coroutine[object, object, T]) -> T:
    """Run this beside Playwright, to whom this thread's event loop belongs."""
    with ThreadPoolExecutor() as other:
        return other.submit(asyncio.run, work).result()


async def config_of(folder: Path) -> ModelConfig:
    return (await open_model(sources_from_path(folder))).config


def bring_adapter(lab: Lab, folder: Path, config: ModelConfig) -> tuple[LoraConfig, Tensors]:
    """Put an adapter of the open model onto the shelf, and open its dialog."""
    lora, tensors = adapter_for(config)
    folder.mkdir()
    for name, content in write_adapter(tensors, lora, config, "o/tiny").items():
        (folder / name).write_bytes(content)
    lab.drop(*folder.iterdir(), on="adapter-input")
    expect(lab.part("adapter-item")).to_have_count(1, timeout=START_MS)
    lab.part("adapter-item").locator("[data-action=take]").click()
    return lora, tensors


def downloaded(lab: Lab, to: Path) -> Path:
    expect(lab.part("take-download")).to_be_enabled(timeout=START_MS)
    with lab.page.expect_download(timeout=START_MS) as download:
        lab.part("take-download").click()
    download.value.save_as(to / download.value.suggested_filename)
    return to / download.value.suggested_filename


def test_what_is_downloaded_is_the_adapter_and_the_merged_model(
    open_lab: Callable[..., Lab], tmp_path: Path, tiny_model_folder: Path
) -> None:
    config = apart(config_of(tiny_model_folder))
    lab = open_lab()
    lab.wait_for_model()
    lora, tensors = bring_adapter(lab, tmp_path / "ships", config)

    lab.part("take-gguf-adapter").click()
    gguf = downloaded(lab, tmp_path)
    assert gguf.name == "added-adapter-gguf-adapter.gguf"
    back = apart(open_adapter({gguf.name: gguf.read_bytes()}, config))
    assert all(np.array_equal(back.tensors[key], values) for key, values in tensors.items())
    size = f"{gguf.stat().st_size / 1000:.0f} kB"
    expect(lab.part("take-size")).to_have_text(f"{size} in 1 file")
    expect(lab.part("take-done")).to_contain_text(f"--lora {gguf.name}")

    lab.part("take-merged").click()
    lab.part("take-form-f32").click()
    archive = downloaded(lab, tmp_path)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    expect(lab.part("take-done")).to_contain_text(f"tar -xf {archive.name}")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / archive.stem, dtype=torch.float32).state_dict()
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).state_dict()
    for key in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        a, b = (tensors[f"base_model.model.{key}.lora_{half}.weight"].astype(np.float64) for half in "AB")
        weight = base[f"{key}.weight"].numpy().astype(np.float64)
        wanted, found = weight + lora.scale * (b @ a), merged[f"{key}.weight"].numpy()
        assert np.abs(found - wanted).max() < 1e-6 < np.abs(found - weight).max()

    lab.part("take-drop").click()
    expect(lab.part("take-drop")).to_have_count(0)
    assert json.loads((tmp_path / archive.stem / "config.json").read_text())["model_type"] == "llama"


def test_what_is_stopped_leaves_nothing_and_what_is_not_lies_in_the_folder(
    open_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "wide", hidden=1024, intermediate=4096, layers=8, dtype="f16")
    lab = open_lab()
    lab.page.evaluate(PICKER)
    lab.wait_for_model()
    lab.choose_model(*model.iterdir())
    expect(lab.part("candidate-open")).to_be_hidden(timeout=START_MS)
    bring_adapter(lab, tmp_path / "ships", apart(config_of(model)))

    lab.part("take-merged").click()
    lab.part("take-form-f32").click()
    expect(lab.part("take-folder")).to_be_enabled(timeout=START_MS)
    lab.part("take-folder").click()
    expect(lab.part("take-progress")).to_contain_text(" of ", timeout=START_MS)  # some of it is written
    assert "added-adapter-merged" in lab.page.evaluate(THERE)  # the control: there is something to be left
    lab.part("take-stop").click()
    expect(lab.part("take-progress")).to_have_count(0, timeout=START_MS)
    lab.page.wait_for_function(f"async () => !(await ({THERE})()).length")
    expect(lab.part("take-done")).to_have_count(0)
    expect(lab.page.locator("#take-dialog :focus")).to_have_count(1)  # the keyboard was on Stop

    lab.part("take-gguf-adapter").click()
    expect(lab.part("take-folder")).to_be_enabled(timeout=START_MS)
    lab.part("take-folder").click()
    expect(lab.part("take-done")).to_contain_text("picked/added-adapter-gguf-adapter", timeout=START_MS)
    assert lab.page.evaluate(THERE) == ["added-adapter-gguf-adapter", "added-adapter-gguf-adapter/model.gguf"]
