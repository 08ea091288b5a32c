"""Two tabs on one store: each shows what the other changes, and knows that the other trains, also when it crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import START_MS, Lab

OpenLab = Callable[..., Lab]


def test_what_one_changes_the_other_shows(open_lab: OpenLab, ships: Path) -> None:
    one, other = open_lab(), open_lab()
    for lab in (one, other):
        lab.wait_for_model()
    expect(other.part("other-tab")).to_be_hidden()
    one.drop_data(ships)
    one.set(steps=12, batch=2)
    one.start()
    said = "A run here would share the GPU with it, and could not be resumed."
    training = f"Another tab is training (ships.jsonl, 12 steps). {said}"
    expect(other.part("other-tab")).to_have_text(training, timeout=START_MS)
    expect(one.part("other-tab")).to_be_hidden()  # one's own is no other
    late = open_lab()
    expect(late.part("other-tab")).to_be_visible()
    one.wait_for_phase("done")
    for lab in (other, late):
        expect(lab.part("other-tab")).to_be_hidden()
        expect(lab.part("adapter-item")).to_have_count(1, timeout=START_MS)
    late.page.close()

    item = other.part("adapter-item")
    item.locator("[data-action=use]").click()
    expect(other.part("chat-adapter")).to_be_checked(timeout=START_MS)
    item.get_by_role("button", name="Rename").click()
    other.part("adapter-rename").fill("Ships of the night")
    other.page.keyboard.press("Enter")
    expect(one.part("adapter-item")).to_contain_text("Ships of the night")
    expect(one.page.locator("#chat-adapter-name")).to_have_text("Ships of the night")

    one.part("adapter-item").get_by_role("button", name="Delete").click()
    expect(item).to_have_count(0)
    expect(other.part("chat-adapter")).to_be_disabled()  # it answers with what is there
    one.page.get_by_role("button", name="Undo").click()
    expect(item).to_have_count(1)


def test_a_tab_that_goes_in_the_middle_of_a_run_is_no_longer_said_to_train(open_lab: OpenLab, ships: Path) -> None:
    one, other = open_lab(), open_lab()
    for lab in (one, other):
        lab.wait_for_model()
    one.drop_data(ships)
    one.start_beside_the_chat()
    expect(other.part("other-tab")).to_be_visible(timeout=START_MS)
    one.page.evaluate("() => { BroadcastChannel.prototype.postMessage = () => {}; }")  # one that crashes says nothing
    one.page.close(run_before_unload=False)
    expect(other.part("other-tab")).to_be_hidden(timeout=START_MS)
