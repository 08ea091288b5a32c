"""Who answers in the chat, and the shelf of adapters beside it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.scripted import ScriptedLab


def test_who_says_what_is_written_and_said(chat: ScriptedLab) -> None:
    chat.ask("One")
    chat.use("a")
    chat.part("chat-strength").fill("0.6")
    chat.ask("Two")
    assert chat.asked()["use_adapter"] and chat.asked()["strength"] == 0.6
    chat.switch_adapter(False)
    chat.ask("Three")
    assert not chat.asked()["use_adapter"]
    chat.use("b")  # another one answers, whatever was switched off
    chat.use("a")
    named = ["You", "Base model", "You", "ships · strength 0.60", "You", "Base model"]
    for place, name in enumerate(named):
        expect(chat.page.locator(".chat-turn").nth(place)).to_have_accessible_name(name)
    states = [message.get_attribute("data-adapter") for message in chat.part("chat-message").all()]
    assert states == ["off", "off", "on", "on", "off", "off"]
    chat.page.locator("[data-id=a] [data-action=rename]").click()
    chat.part("adapter-rename").fill("frigates")
    chat.page.keyboard.press("Enter")
    expect(chat.page.locator(".who").nth(3)).to_have_text("frigates · strength 0.60")
    expect(chat.page.locator("[data-id=a] [data-action=rename]")).to_be_focused()
    chat.worker("train").evaluate("() => self.opens('Another model')")
    expect(chat.part("model-status")).to_contain_text("Another model")
    expect(chat.page.locator(".who").nth(1)).to_have_text("Base model · Some model")  # not the one that is open now


def test_suggestions_are_those_of_the_adapter_in_use(chat: ScriptedLab) -> None:
    offered = chat.page.locator(".suggestion")
    expect(offered).to_have_count(0)
    chat.use("a")
    expect(offered).to_have_text(["What is ship 7?"])
    chat.page.locator("[data-id=a] [data-action=use]").click()
    expect(offered).to_have_count(0)
    chat.use("a")
    offered.click()
    expect(chat.part("chat-message").last).to_have_text("You said: What is ship 7?")


def test_an_adapter_is_deleted_and_brought_back(chat: ScriptedLab) -> None:
    items: Callable[[], list[str]] = lambda: chat.page.locator(".adapter-name").all_inner_texts()  # noqa: E731
    chat.use("a")
    expect(chat.page.locator("[data-id=c] [data-action=use]")).to_be_disabled()  # made for another model
    chat.page.locator("[data-id=a] [data-action=delete]").click()
    expect(chat.part("adapter-item")).to_have_count(2)
    expect(chat.part("chat-adapter")).to_be_disabled()
    expect(chat.page.locator("#chat-adapter-name")).to_have_text("No adapter in use")
    chat.page.get_by_role("button", name="Undo").click()
    expect(chat.part("adapter-item")).to_have_count(3)
    assert sorted(items()) == ["elsewhere", "pirates", "ships"]
