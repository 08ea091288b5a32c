"""Rows that can be read in several ways: the page shows each with its first row, and remembers what was chosen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.datasets import expect_rows, lines
from tests.browser.lab import START_MS, Lab

OpenLab = Callable[..., Lab]
TEXTS = [{"id": i, "text": f"The harbour report number {i} says a lot.", "summary": f"Report {i}."} for i in range(20)]
PAIRS = [{"prompt": f"What is ship {i}?", "completion": f"Ship {i} is old."} for i in range(20)]


def raw(rows: list[dict]) -> bytes:
    return "\n".join(lines(rows)).encode()


def test_of_two_readings_one_is_chosen_and_remembered(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.give("reports.jsonl", raw(TEXTS))
    readings = lab.part("readings")
    ways = readings.locator(".reading-way")
    expect(ways).to_have_count(2)
    expect(ways.nth(0).locator(".turn.user")).to_contain_text("The harbour report number 0 says a lot.")
    expect(ways.nth(0).locator(".turn.assistant")).to_contain_text("Report 0.")
    expect(ways.nth(1).locator(".turn.text")).to_contain_text("The harbour report number 0 says a lot.")
    expect(ways.nth(1)).to_contain_text("Leaves out id, summary.")
    expect(readings).to_contain_text('"summary" may be the reply')
    expect(lab.part("unused")).to_contain_text("summary")
    expect(lab.part("unused")).to_contain_text("numbers or repeats: id")
    assert lab.part("train-start").is_disabled()
    expect(lab.page.locator("body")).to_contain_text("Say first how the rows are to be read.", timeout=START_MS)
    ways.nth(0).get_by_role("button").click()
    mapped = lab.page.locator("#mapped")
    expect(mapped).to_contain_text("Read as prompt = text, reply = summary.", timeout=START_MS)
    expect(readings).to_be_hidden()
    expect(lab.part("unused")).not_to_contain_text("summary")
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)

    lab.page.reload()
    lab.give("other.jsonl", raw(TEXTS))
    expect(mapped).to_contain_text("reply = summary, as last time.", timeout=START_MS)
    mapped.get_by_role("button", name="Change").click()
    expect(ways).to_have_count(2)
    ways.nth(1).get_by_role("button").click()
    expect(mapped).to_contain_text("Read as it stands.", timeout=START_MS)
    expect(lab.part("unused")).to_contain_text("summary")
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    # A control: rows with one reading ask nothing and name nothing.
    lab.replace_data()
    lab.give("pairs.jsonl", raw(PAIRS))
    expect(readings).to_be_hidden()
    expect(lab.part("unused")).to_be_hidden()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


def test_bad_answers_are_set_aside_and_ratings_asked_about(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.give("kto.jsonl", raw([{**pair, "label": i % 2 == 0} for i, pair in enumerate(PAIRS)]))
    expect_rows(lab, "10 of 20")
    expect(lab.part("dataset-errors")).to_contain_text("marked as a bad one")
    assert lab.part("train-start").is_disabled()
    lab.part("dataset-consent").check()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.replace_data()
    lab.give("rated.jsonl", raw([{**pair, "rating": 1 + i % 5} for i, pair in enumerate(PAIRS)]))
    ways = lab.part("readings").locator(".reading-way")
    expect(ways.nth(0)).to_contain_text("rated 3 or better")
    assert lab.part("train-start").is_disabled() and lab.part("dataset-consent").is_hidden()
    ways.nth(0).get_by_role("button").click()
    expect(lab.page.locator("#mapped")).to_contain_text("label = rating, 3 or better", timeout=START_MS)
    expect_rows(lab, "12 of 20")
    lab.page.locator("#mapped").get_by_role("button", name="Change").click()
    expect(lab.part("map-at_least")).to_have_value("3")
    lab.part("map-at_least").fill("5")
    lab.part("mapping-use").click()
    expect(lab.page.locator("#mapped")).to_contain_text("5 or better", timeout=START_MS)
    expect_rows(lab, "4 of 20")


def test_a_context_is_offered_by_hand_too(open_lab: OpenLab) -> None:
    lab = open_lab()
    rows = [{"instruction": f"Way {i}?", "context": f"Board {i}.", "response": f"North {i}."} for i in range(20)]
    lab.give("context.jsonl", raw(rows))
    expect(lab.part("mapping")).to_be_visible()
    expect(lab.part("map-context").locator("option:checked")).to_have_text("context")
    said = lab.part("mapping-preview").locator(".turn.user p").first
    expect(said).to_have_text("Way 0?\n\nBoard 0.")
    lab.part("map-context").select_option(label="none")
    expect(said).to_have_text("Way 0?")
    lab.part("map-context").select_option(label="context")
    lab.part("mapping-use").click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    expect(lab.part("unused")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_readings_fit_on_any_screen(open_lab: OpenLab, scheme: str, width: int, tmp_path: Path) -> None:
    lab = open_lab()
    lab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    lab.page.set_viewport_size({"width": width, "height": 900})
    long_names = {"a_column_with_" + "x" * 60: "word " * 40, "lang": "en", "uuid": "a-b-c"}
    lab.give("reports.jsonl", raw([{**row, **long_names} for row in TEXTS]))
    expect(lab.part("readings").locator(".reading-way")).to_have_count(2)
    over = lab.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert over <= 0
    folder = Path(os.environ.get("LORA_LAB_PICTURES", tmp_path))
    lab.page.locator("#data-body").screenshot(path=folder / f"readings-{width}-{scheme}.png")
    lab.page.locator("#readings-other").click()
    expect(lab.part("mapping")).to_be_visible()
    lab.page.locator("#data-body").screenshot(path=folder / f"readings-{width}-{scheme}-hand.png")
    assert lab.page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
