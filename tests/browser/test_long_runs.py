"""Long runs and long conversations: every heap and the GPU's buffers stay as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.heaps import Targets
from tests.browser.lab import START_MS, TRAIN_MS, Lab

MOST = 0.02  # of growth
OpenLab = Callable[..., Lab]


def assert_held(what: str, before: dict[str, int], measure: Callable[[], dict[str, int]]) -> None:
    """Wait until nothing is more than it was: what a browser keeps for a while goes, what is lost never does."""
    deadline = time.monotonic() + START_MS / 1e3
    while True:
        after = measure()
        grown = {name: after[name] / before[name] - 1 for name in before}
        print(f"{what}: " + ", ".join(f"{name} {before[name]:,} to {after[name]:,}" for name in before))
        if max(grown.values()) <= MOST or time.monotonic() > deadline:
            break
    assert max(grown.values()) <= MOST, grown


@pytest.mark.parametrize(
    ("first", "last"), [(150, 300), pytest.param(2000, 10_000, marks=pytest.mark.long)], ids=["short", "10,000 steps"]
)
def test_a_long_run_takes_no_more_memory_than_its_beginning(
    open_lab: OpenLab, ships: Path, first: int, last: int
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.page.locator("#more-settings > summary").click()
    lab.set(steps=100_000, batch=1, rank=2, lr="1e-5", checkpoint=50, validation=0)  # a first validation brings a plan
    lab.start()
    targets = Targets(lab)
    wait_until_step(lab, first)
    before = targets.measure("page", "train")
    wait_until_step(lab, last)
    assert_held(f"steps {first} and {last}", before, lambda: targets.measure("page", "train"))
    lab.wait_for_phase("training")
    lab.part("train-stop").click()


@pytest.mark.parametrize(
    ("turns", "words"), [(14, 150), pytest.param(500, 12, marks=pytest.mark.long)], ids=["short", "500 turns"]
)
def test_a_long_conversation_drops_its_oldest_turns_and_takes_no_more_memory(
    open_lab: OpenLab, turns: int, words: int
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.greedy(8)
    targets = Targets(lab)
    cut = lab.part("chat-cut")

    def talk(count: int) -> None:
        lab.talk([f"{turn}: " + " ".join(f"word{turn % 7}" for _ in range(words)) for turn in range(count)])

    talk(turns // 2)  # all that is ever made is made by then
    lab.clear_chat()
    expect(cut).to_have_count(0)
    before, before_page = targets.measure("chat"), targets.measure("page")
    talk(turns)
    expect(cut).to_have_count(1)
    expect(lab.part("chat-message")).to_have_count(2 * turns)  # nothing that was said is gone from the page
    before_cut = "() => document.querySelector('#chat-cut').previousElementSibling.dataset.role"
    assert lab.page.evaluate(before_cut) == "assistant"
    assert_held(f"{turns} turns, chat", before, lambda: targets.measure("chat"))
    lab.clear_chat()  # which the page shows: its own heap is measured without it
    assert_held(f"{turns} turns, page", before_page, lambda: targets.measure("page"))


def wait_until_step(lab: Lab, step: int) -> None:
    """Wait until a run has got so far, for as long as it gets on."""
    read = "() => parseInt(document.querySelector('[data-testid=train-step]').textContent)"
    reached = 0
    while reached < step:
        lab.page.wait_for_function(f"(reached) => ({read})() > reached", arg=reached, timeout=TRAIN_MS)
        reached = lab.page.evaluate(read)
