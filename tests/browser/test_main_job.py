"""The main job, end to end, on one page: data in, an adapter out that PEFT and our engine agree about."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.lab import START_MS, Lab

QUESTION = "What is ship 7?"
STEPS = 24


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(
        service_workers="block", viewport={"width": 1440, "height": 900}, reduced_motion="reduce"
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(profile: BrowserContext, site_url: str, ships: Path) -> Lab:
    """The page after a run of the tiny model."""
    lab = Lab(profile, site_url + "?model=tiny")
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.page.locator("#more-settings > summary").click()
    lab.set(steps=STEPS, lr="1e-2", batch=4, seed=3, sample_every=8)
    lab.start()
    lab.wait_for_phase("training")
    assert lab.part("train-start").is_hidden()
    lab.wait_for_phase("done")
    return lab


def test_the_loss_falls_by_half(trained: Lab) -> None:
    losses = trained.losses()
    assert len(losses) == STEPS
    assert trained.text("train-step") == f"{STEPS} / {STEPS}"
    assert float(trained.text("train-loss")) == pytest.approx(losses[-1], abs=1e-3)
    assert losses[-1] < losses[0] / 2, losses


def test_it_was_watched_as_it_learned(trained: Lab) -> None:
    lines = trained.part("answers-line")
    assert lines.count() > 0
    for line in lines.all():
        steps = [int(one.get_attribute("data-step") or -1) for one in line.get_by_test_id("sample-answer").all()]
        assert steps == [0, 8, 16, STEPS]
    before, *_, last = trained.part("validations").locator("tbody tr").all()
    values = [
        [float(cell.removesuffix(" %")) for cell in row.locator("td").all_inner_texts()] for row in (before, last)
    ]
    for loss, perplexity, accuracy in values:
        assert perplexity == pytest.approx(np.exp(loss), rel=0.006) and 0 <= accuracy <= 100  # three digits are shown
    assert values[1][0] < values[0][0] and values[1][2] > values[0][2], values
    expect(trained.page.locator(".small-chart .u-over")).to_have_count(3)
    expect(trained.part("train-elapsed")).to_have_text(re.compile(r"^\d+ (s|min)"))


def test_the_same_question_without_and_with_the_adapter(trained: Lab) -> None:
    for side in ("base", "tuned"):
        expect(trained.part(f"validation-{side}")).to_have_attribute("data-state", "done", timeout=START_MS)
    assert "ship is" in trained.text("validation-tuned")
    assert trained.text("validation-base") != trained.text("validation-tuned")


def test_chat_with_the_adapter_on_and_off(trained: Lab) -> None:
    trained.greedy()
    assert trained.part("chat-adapter").is_checked()
    tuned = trained.ask(QUESTION)
    trained.clear_chat()
    trained.switch_adapter(False)
    base = trained.ask(QUESTION)
    trained.clear_chat()
    trained.switch_adapter(True)
    assert tuned.startswith("The ship is")
    assert base != tuned
    assert trained.ask(QUESTION) == tuned
    states = [message.get_attribute("data-adapter") for message in trained.part("chat-message").all()]
    assert states == ["on", "on"]
    trained.clear_chat()


def test_the_download_in_peft_gives_the_pages_logits(trained: Lab, tmp_path: Path, tiny_model_folder: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = trained.download(trained.part("export-adapter").click, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "README.md", "adapter_config.json", "adapter_model.safetensors", "lora-lab-run.json",
        ]  # fmt: skip
        archive.extractall(tmp_path / "adapter")
    text = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\nThe ship is"
    ids, tuned_values = trained.logits(text, use_adapter=True)
    _, base_values = trained.logits(text, use_adapter=False)
    base_model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    with torch.no_grad():
        base = base_model(torch.tensor([ids])).logits[0].numpy()
        model = PeftModel.from_pretrained(base_model, tmp_path / "adapter").eval()
        tuned = model(torch.tensor([ids])).logits[0].numpy()
    assert relative(np.reshape(base_values, base.shape), base) < 1e-5
    assert relative(np.reshape(tuned_values, tuned.shape), tuned) < 1e-5
    assert relative(tuned, base) > 0.1  # the adapter really does something


def test_adapters_are_renamed_deleted_and_brought_back(trained: Lab) -> None:
    item = trained.part("adapter-item")
    item.get_by_role("button", name="Rename").click()
    trained.part("adapter-rename").fill("Ships of the night")
    trained.page.keyboard.press("Enter")
    expect(item).to_contain_text("Ships of the night")
    expect(trained.page.locator("#chat-adapter-name")).to_have_text("Ships of the night")
    item.get_by_role("button", name="Delete").click()
    expect(item).to_have_count(0)
    expect(trained.part("chat-adapter")).to_be_disabled()
    trained.page.get_by_role("button", name="Undo").click()
    expect(item).to_have_count(1)


def test_a_reload_keeps_the_adapter_and_chats_with_it(trained: Lab) -> None:
    trained.page.reload()
    trained.wait_for_model()
    item = trained.part("adapter-item")
    expect(item).to_contain_text("Ships of the night")
    item.locator("[data-action=use]").click()  # the test before took it off
    expect(trained.part("chat-adapter")).to_be_checked(timeout=START_MS)
    trained.greedy()
    assert trained.ask(QUESTION).startswith("The ship is")
    item.get_by_role("button", name="Show its run").click()
    assert "ship is" in trained.text("validation-tuned")  # kept with the adapter


@pytest.mark.parametrize("width", [360, 390, 768, 1100])
def test_nothing_scrolls_sideways(trained: Lab, width: int) -> None:
    trained.page.set_viewport_size({"width": width, "height": 844})
    overhanging = trained.page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((element) => {
          const box = element.getBoundingClientRect();
          const scrolls = element.closest("pre, .visually-hidden, .u-wrap");
          return !scrolls && box.width > 0 && box.right > innerWidth + 1;
        }).map((element) => element.outerHTML.slice(0, 120))"""
    )
    assert overhanging == []
    assert trained.page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_console_stayed_clean(trained: Lab) -> None:
    assert trained.errors == []


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
