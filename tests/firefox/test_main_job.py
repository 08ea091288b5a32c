"""The main job in Firefox: sample, run, chat, reload, a stop, bad files; and that its limits are those that count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.lab import START_MS, Lab

QUESTION = "What is ship 7?"
STEPS = 24
# The files of the adapter of a run of so many steps: [[name, bytes], ...].
KEPT = """async (steps) => {
  const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
  for await (const folder of (await home.getDirectoryHandle("adapters")).values()) {
    const about = JSON.parse(await (await (await folder.getFileHandle("lora-lab.json")).getFile()).text());
    if (about.steps !== steps) continue;
    const files = [];
    for await (const file of folder.values()) {
      files.push([file.name, Array.from(new Uint8Array(await (await file.getFile()).arrayBuffer()))]);
    }
    return files;
  }
}"""


@pytest.fixture(scope="module")
def profile(firefox: Browser) -> Iterator[BrowserContext]:
    made = firefox.new_context(viewport={"width": 1440, "height": 900}, service_workers="block")
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(profile: BrowserContext, site_url: str, ships: Path) -> Lab:
    """The page after a short run on its own sample, and one on a dataset that the tiny model learns in a few steps."""
    lab = Lab(profile, site_url + "?model=tiny")
    lab.wait_for_model()
    lab.page.locator("[data-sample=lighthouse]").click()
    lab.wait_for_data()
    lab.set(steps=4, lr="1e-2", batch=2)
    lab.start()
    lab.wait_for_phase("done")
    lab.replace_data()
    lab.drop_data(ships)
    lab.set(steps=STEPS, lr="1e-2", batch=4, seed=3)
    lab.start()
    lab.wait_for_phase("done")
    return lab


def test_its_gpu_has_the_limits_that_no_other_one_has(trained: Lab) -> None:
    """128 MiB in a binding, 32 KiB of workgroup memory, no names: what the page does here it does within these."""
    found = trained.page.evaluate(
        """async () => {
          const { limits, info } = await navigator.gpu.requestAdapter();
          return [limits.maxStorageBufferBindingSize, limits.maxComputeWorkgroupStorageSize,
            [info.vendor, info.architecture, info.device, info.description].join("")];
        }"""
    )
    assert found == [128 << 20, 32 << 10, ""]
    assert trained.text("gpu-status").startswith("GPU")  # what is said where there is no name


def test_the_loss_falls_by_half(trained: Lab) -> None:
    (curve,) = (one["loss_curve"] for one in trained.stored_adapters() if one["steps"] == STEPS)
    losses = [loss for _, loss in curve]
    assert len(losses) == STEPS
    assert trained.text("train-step") == f"{STEPS} / {STEPS}"
    assert losses[-1] < losses[0] / 2, losses


def test_the_chat_says_what_peft_would_with_the_adapter_that_was_kept(
    trained: Lab, tmp_path: Path, tiny_model_folder: Path
) -> None:
    trained.greedy()
    expect(trained.part("chat-adapter")).to_be_checked(timeout=START_MS)
    tuned = trained.ask(QUESTION)
    trained.clear_chat()
    trained.switch_adapter(False)
    base = trained.ask(QUESTION)
    trained.clear_chat()
    trained.switch_adapter(True)
    (tmp_path / "adapter").mkdir()
    for name, data in trained.page.evaluate(KEPT, STEPS):
        (tmp_path / "adapter" / name).write_bytes(bytes(data))
    assert tuned.startswith("The ship is")
    assert words(tuned) == words(said_by_peft(tiny_model_folder, tmp_path / "adapter"))
    # The controls: without the adapter both say something else.
    assert words(tuned) not in (words(base), words(said_by_peft(tiny_model_folder, None)))


def words(reply: str) -> str:
    """Markdown draws marks as form, and no line twice as empty."""
    return re.sub(r"[\s*_`#>~-]+", " ", reply).strip()


def said_by_peft(model_folder: Path, adapter: Path | None) -> str:
    """Return a greedy reply of 24 tokens at most, by transformers and PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        out = model.eval().generate(**prompt, max_new_tokens=24, do_sample=False)
    said: str = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def test_a_reload_keeps_the_adapter_and_chats_with_it(trained: Lab) -> None:
    trained.greedy()
    trained.clear_chat()
    before = trained.ask(QUESTION)
    trained.page.reload()
    trained.wait_for_model()
    trained.part("adapter-item").first.locator("[data-action=use]").click()  # the newest
    expect(trained.part("chat-adapter")).to_be_checked(timeout=START_MS)
    trained.greedy()
    assert trained.ask(QUESTION) == before


def test_a_bad_file_takes_nothing_away(trained: Lab, tmp_path: Path, ships: Path) -> None:
    broken = tmp_path / "weights.gguf"
    broken.write_bytes(b"GGUF" + bytes(40))
    trained.page.get_by_role("button", name="Use another model").click()
    trained.drop(broken, on="model-input")
    expect(trained.part("candidate-words")).to_contain_text("weights.gguf", timeout=START_MS)
    expect(trained.part("candidate-open")).to_be_hidden()
    trained.page.keyboard.press("Escape")
    trained.wait_for_model()
    picture = tmp_path / "rows.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    trained.drop(picture)
    expect(trained.page.locator("#data")).to_contain_text("This is a picture, not a text file.", timeout=START_MS)
    trained.drop_data(ships)
    trained.wait_for_data()
    trained.ask_anything("Are you still there?")


def test_the_console_stayed_clean(trained: Lab) -> None:
    assert trained.errors == []


def test_a_run_that_is_stopped_keeps_what_it_has_learned(open_lab: Callable[..., Lab], ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.start_beside_the_chat()
    lab.part("train-stop").click()
    lab.wait_for_phase("done")
    steps = len(lab.losses())
    assert 1 <= steps < 400
    expect(lab.part("adapter-item")).to_contain_text(f"{steps} step")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.ask_anything("What is ship 7?")
