"""Datasets that the browser tests give to the page, and what the page tells of them."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from tests.browser.lab import START_MS, Lab

PAIRS = [{"prompt": f"What is ship {i}?", "completion": f"Ship {i} carries {7 * i} barrels."} for i in range(20)]
CSV = "frage,antwort\n" + "".join(f"Wie hoch ist Turm {i}?,{20 + i} Meter\n" for i in range(20))


def lines(rows: list[dict]) -> list[str]:
    return [json.dumps(row) for row in rows]


def give_many(lab: Lab, count: int) -> None:
    """Choose a file of so many rows that their tokens take seconds to count; wait until that goes on."""
    words = "salt and rope, " * 12
    rows = [{"prompt": f"What is ship {i}?", "completion": f"Ship {i}, {words}"} for i in range(count)]
    files = [{"name": "many.jsonl", "mimeType": "", "buffer": "\n".join(lines(rows)).encode()}]
    lab.part("dataset-input").set_input_files(files)  # type: ignore[arg-type]
    expect(lab.page.locator("#reading-text")).to_have_text("Counting the tokens", timeout=START_MS)
    expect(lab.part("dataset-summary")).to_be_visible(timeout=START_MS)


def messy() -> bytes:
    """Twenty rows: three that can be mended, two that cannot."""
    rows = lines(PAIRS)
    rows[3] = rows[3][:-1] + ",}"
    rows[7] = "{'prompt': 'Who?', 'completion': 'Me'}"
    rows[9] = rows[9][:-1] + ",}"
    rows[12] = '{"prompt": "and no completion"}'
    rows[15] = '{"prompt": "cut off", "completion": "in the mid'
    return "\n".join(rows).encode()


def summary(lab: Lab) -> str:
    return lab.text("dataset-summary")


def rows_of(lab: Lab) -> str:
    """The first fact: how many rows there are, or how many of them are good."""
    return lab.part("dataset-summary").locator("dd").first.text_content() or ""


def expect_rows(lab: Lab, rows: str) -> None:
    """Wait until the first fact says so: a list of files is drawn before what they hold is read."""
    expect(lab.part("dataset-summary").locator("dd").first).to_have_text(rows, timeout=START_MS)
