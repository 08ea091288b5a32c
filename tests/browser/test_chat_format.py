"""A base model on the page: its chat format is chosen, learned, kept with the adapter and chatted with."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lora_lab.data.tokens.chat_formats import CHATML
from tests.browser.lab import Lab

pytestmark = pytest.mark.browser
QUESTION = "What is ship 7?"


def test_a_base_model_learns_and_chats_in_the_format_that_is_chosen(
    open_lab: Callable[..., Lab], ships: Path, tmp_path: Path
) -> None:
    lab = open_lab("?model=base")
    lab.wait_for_model()
    chosen = lab.part("set-chat-format")
    assert chosen.input_value() == "family", "the end of its family's turns is a token"
    lines = lab.part("chat-format-lines").locator("li")
    expect(lines).to_have_count(3)
    expect(lines.nth(1)).to_contain_text("<|im_end|> ends an answer, and is a token of this model.")
    chosen.select_option("chatml")
    expect(lines.nth(1)).to_have_class("chosen")
    lab.drop_data(ships)
    lab.set(steps=24, lr="1e-2", batch=4, seed=3)
    lab.start()
    lab.wait_for_phase("done")
    lab.page.locator("#settings-toggle").click()
    lab.greedy(40)
    tuned = lab.ask(QUESTION)
    # It ends where the format says, not at the longest reply.
    assert tuned.startswith("The ship is") and tuned.count("name of it") == 1, tuned
    assert tuned.endswith((".", "Ada", "Wren", "Pear")), tuned
    # The adapter brings the format: another choice on the page changes nothing for it.
    lab.clear_chat()
    chosen.select_option("plain")
    assert lab.ask(QUESTION) == tuned
    # The control: without the adapter the choice holds, and plain text is another prompt than ChatML.
    replies = []
    lab.switch_adapter(False)
    for value in ("plain", "chatml"):
        lab.clear_chat()
        chosen.select_option(value)
        replies.append(lab.ask(QUESTION))
    assert replies[0] != replies[1] and tuned not in replies
    packed = lab.download(lab.part("export-adapter").click, tmp_path)
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("chat_template.jinja").decode() == CHATML.source
    expect(lab.part("adapter-item")).to_contain_text("chat format: ChatML")


def test_a_model_with_a_template_offers_no_format(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.wait_for_model()
    assert lab.part("set-chat-format").is_hidden() and lab.part("chat-format-lines").is_hidden()
