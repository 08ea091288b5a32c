"""Replies side by side, what an adapter changed, several adapters, kept conversations, as a person uses them.

A scripted worker stands in for the model, except in the last test. What the worker
answers is tested in tests/unit/workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, expect

from tests.browser.lab import REPLY_MS, START_MS, Lab
from tests.browser.scripted import WORKER, ScriptedLab
from tests.tiny_model import write_peft_adapter


def commands(chat: ScriptedLab, kind: str) -> list[dict[str, Any]]:
    """What the chat worker was asked of this kind; of an adapter's files only whether they came."""
    script = (
        """(kind) => self.asked.filter(({ type }) => type === kind).map((one) => JSON.parse(JSON.stringify(one)))"""
    )
    found: list[dict[str, Any]] = chat.worker("chat").evaluate(script, kind)
    return found


def send(chat: ScriptedLab, text: str) -> None:
    chat.part("chat-input").fill(text)
    chat.part("chat-input").press("Enter")


def test_two_replies_side_by_side(chat: ScriptedLab) -> None:
    chat.use("a")
    chat.part("chat-compare").click()
    chat.part("compare-strength-right").fill("0.5")
    chat.halt()
    chat.says("Plainly an answer of some length", "Ahoy, an answer of some length")
    send(chat, "Who are you?")
    left, right = chat.part("compared-left"), chat.part("compared-right")
    for side, words in ((left, "Plain"), (right, "Ahoy")):
        expect(side.locator(".message-text")).to_contain_text(words)  # both are written at once
    expect(chat.part("chat-stop")).to_be_visible()
    chat.part("chat-stop").click()
    expect(chat.part("comparison")).to_have_attribute("data-state", "done")
    for side in (left, right):
        expect(side).to_contain_text("stopped")  # one stop ends both
        expect(side).not_to_contain_text("of some length")

    chat.halt(False)
    chat.says("A **plain** answer", "Ahoy")
    send(chat, "Who are you?")
    expect(left.last.locator("strong")).to_have_text("plain")
    expect(left.last.locator(".who")).to_have_text("Base model")
    expect(right.last.locator(".who")).to_have_text("ships · strength 0.50")
    asked = commands(chat, "compare_replies")[-1]
    assert asked["left"] == [] and [(one["id"], one["strength"]) for one in asked["right"]] == [("a", 0.5)]
    boxes = left.last.bounding_box(), right.last.bounding_box()
    assert boxes[0] and boxes[1] and boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]

    chat.page.set_viewport_size({"width": 390, "height": 844})
    chat.page.get_by_role("link", name="Chat").click()
    boxes = left.last.bounding_box(), right.last.bounding_box()
    assert boxes[0] and boxes[1] and boxes[0]["x"] == boxes[1]["x"] and boxes[0]["y"] < boxes[1]["y"]
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 390

    chat.part("chat-compare").click()
    assert chat.messages() == []  # the conversation is another matter


def test_what_the_adapter_changed(chat: ScriptedLab) -> None:
    chat.use("a")
    chat.ask("Who?")
    tokens = [["Tern", 0.01, 0.9], [" Point", 0.5, 0.5], [" is", 0.8, 0.1], ["\n", 0.3, 0.65]]
    chat.worker("chat").evaluate("(tokens) => { self.changed = tokens; }", tokens)
    chat.part("chat-changes").click()
    expect(chat.part("changes")).to_have_attribute("data-state", "whole")
    shown = chat.part("changed-token")
    degrees = [shown.nth(place).get_attribute("data-degree") for place in range(4)]
    assert degrees == ["3", "0", "-2", "2"]  # 90 times likelier, the same, 8 times less likely, 2.2 times likelier
    lines = [shown.nth(place).evaluate("(one) => getComputedStyle(one).textDecorationStyle") for place in (0, 2, 3)]
    assert lines == ["double", "dotted", "solid"]  # told without colours
    expect(chat.part("changes-summary")).to_contain_text(
        "2 of 4 tokens at least twice as likely with the adapter, 1 at most"
    )

    shown.nth(0).focus()
    expect(chat.part("changes-about")).to_contain_text(
        "1.0 % by the base model, 90.0 % with the adapter: 90 times likelier"
    )
    chat.page.keyboard.press("End")
    expect(shown.nth(3)).to_be_focused()
    expect(shown.nth(3)).to_have_accessible_name("↵, 30.0 % to 65.0 %, 2.17 times likelier")
    shown.nth(2).hover()
    expect(chat.part("changes-about")).to_contain_text(
        "80.0 % by the base model, 10.0 % with the adapter: 8.00 times less likely"
    )
    expect(chat.part("changes-about").locator("table").first).to_contain_text("other60.0 %")

    asked = commands(chat, "show_changes")[-1]
    assert [one["content"] for one in asked["messages"]] == ["Who?"] and asked["text"] == "You said: Who?"
    assert [(one["id"], one["strength"]) for one in asked["adapters"]] == [("a", 1)]
    chat.part("chat-changes").click()
    expect(chat.part("changes")).to_have_count(0)


def test_several_adapters_each_at_a_strength(chat: ScriptedLab) -> None:
    chat.use("a")
    chat.part("mix-add").select_option("b")
    expect(chat.part("mix").locator("[data-id=b]")).to_have_attribute("data-state", "here")
    chat.part("mix-strength-b").fill("0.25")
    chat.part("chat-strength").fill("0.75")
    chat.ask("Both?")
    expect(chat.last.locator(".who")).to_have_text("ships · strength 0.75 + pirates · strength 0.25")
    told = commands(chat, "apply_adapters")[-1]["adapters"]
    assert [(one["id"], one["strength"]) for one in told] == [("a", 0.75), ("b", 0.25)]
    assert chat.asked()["strength"] == 1  # each one's was told with them
    chat.part("mix").get_by_role("button", name="Without pirates").click()
    chat.ask("Alone?")
    expect(chat.last.locator(".who")).to_have_text("ships · strength 0.75")
    assert [one["id"] for one in commands(chat, "apply_adapters")[-1]["adapters"]] == ["a"]
    assert chat.asked()["strength"] == 0.75


def test_conversations_are_kept_and_come_back(chat: ScriptedLab, context: BrowserContext) -> None:
    chat.use("a")
    chat.page.locator("#reply-settings summary").click()
    chat.part("chat-system").fill("Talk like a pirate.")
    chat.ask("First question")
    summary = chat.page.locator("#conversations summary")
    expect(summary).to_contain_text("First question")
    summary.click()
    chat.part("conversation-new").click()
    assert chat.messages() == []
    chat.ask("Second question")
    expect(summary).to_contain_text("Second question")

    summary.click()
    entries = chat.part("conversation")
    entries.nth(1).get_by_role("button", name="Rename").click()
    chat.part("conversation-title").fill("My pirates")
    chat.part("conversation-title").press("Enter")
    expect(entries.nth(1)).to_contain_text("My pirates")
    entries.nth(1).locator(".kept-open").click()
    expect(chat.part("chat-message").first).to_have_text("First question")
    expect(summary).to_contain_text("My pirates")

    summary.click()
    entries.filter(has_text="My pirates").get_by_role("button", name="Delete").click()
    expect(chat.part("chat-message")).to_have_count(0)  # it was open
    expect(entries).to_have_count(1)
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.part("chat-message").first).to_have_text("First question")
    expect(entries).to_have_count(2)

    kept = chat.worker("chat").evaluate("() => self.kept")
    body = f"self.kept = {json.dumps(kept)};\n{WORKER.read_text()}"
    context.unroute("**/worker/worker.js*")
    context.route("**/worker/worker.js*", lambda route: route.fulfill(body=body, content_type="text/javascript"))
    chat.page.reload()
    expect(chat.part("chat-message").first).to_have_text("First question")
    expect(chat.part("chat-system")).to_have_value("Talk like a pirate.")
    expect(chat.part("chat-adapter")).to_be_checked()
    expect(chat.page.locator("#chat-adapter-name")).to_have_text("ships")
    chat.page.get_by_role("button", name="Start fresh").click()
    expect(chat.part("chat-message")).to_have_count(0)
    chat.ask("Third question")
    expect(summary).to_contain_text("Third question")
    assert len(chat.worker("chat").evaluate("() => Object.keys(self.kept)")) == 3


def test_the_real_worker_compares_what_it_says_in_the_chat(
    open_lab: Callable[..., Lab], tmp_path: Path, tiny_model_folder: Path
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(12)
    base = lab.ask("Hello")
    lab.clear_chat()
    first, second = (write_peft_adapter(tiny_model_folder, tmp_path / f"{rank}", rank=rank) for rank in (4, 2))
    for place, peft in enumerate((first, second), 1):
        lab.drop(peft / "adapter_config.json", peft / "adapter_model.safetensors", on="adapter-input")
        expect(lab.part("adapter-item")).to_have_count(place, timeout=START_MS)
        expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    tuned = lab.ask("Hello")
    assert tuned != base

    lab.part("chat-changes").click()
    expect(lab.part("changes")).to_have_attribute("data-state", "whole", timeout=REPLY_MS)
    said = lab.part("changed-token").all_inner_texts()
    text = "".join(said).replace("↵", "").replace("·", "")  # the latter stands for half a character
    assert "".join(text.split()) == "".join(tuned.split()) and len(said) == 12
    assert set(lab.part("changed-token").evaluate_all("(all) => all.map((one) => one.dataset.degree)")) != {"0"}

    # Two at once answer otherwise than one; at no strength the other one says nothing.
    lab.part("mix-add").select_option(index=1)
    expect(lab.part("mix").locator("li")).to_have_attribute("data-state", "here", timeout=START_MS)
    lab.clear_chat()
    assert lab.ask("Hello") != tuned
    strength = lab.part("mix").locator("input")
    strength.fill("0")
    lab.clear_chat()
    assert lab.ask("Hello") == tuned

    used = lab.page.locator("[data-testid=adapter-item][data-used=true]").get_attribute("data-id")
    lab.part("chat-compare").click()
    lab.part("compare-right").select_option(used)
    lab.part("chat-input").fill("Hello")
    lab.part("chat-input").press("Enter")
    expect(lab.part("comparison")).to_have_attribute("data-state", "done", timeout=REPLY_MS)
    texts = [lab.part(f"compared-{side}").locator(".message-text").inner_text().strip() for side in ("left", "right")]
    assert texts == [base, tuned]
