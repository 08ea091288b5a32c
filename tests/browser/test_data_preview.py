"""Understanding the data before training: the report, rows as the model's tokens, what is learned of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from lora_lab.data.row_view import find_row
from tests.browser.boxes import HOSTILE, LENGTH, Oracle, rows, turns
from tests.browser.lab import START_MS, Lab


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preview") / "boxes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def oracle(boxes: Path, tiny_model_folder: Path) -> Oracle:
    return Oracle(boxes, tiny_model_folder)


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shown(profile: BrowserContext, site_url: str, boxes: Path) -> Lab:
    """The page with the rows open, cut to LENGTH."""
    lab = Lab(profile, site_url + "?model=tiny")
    lab.wait_for_model()
    lab.drop_data(boxes)
    lab.set(max_length=LENGTH)
    expect(lab.part("dataset-summary")).to_contain_text(f"at {LENGTH}", timeout=START_MS)
    return lab


def chips(lab: Lab) -> list[dict[str, Any]]:
    """The row's tokens as they stand in the page."""
    return lab.part("preview-chips").evaluate(
        """(box) => [...box.querySelectorAll(".chip")].map((chip) => ({ text: chip.textContent,
          trained: chip.matches(".trained"), special: chip.matches(".special"), beyond: chip.matches(".beyond") }))"""
    )


def go_to(lab: Lab, number: int) -> None:
    lab.part("preview-number").fill(str(number))
    lab.part("preview-number").press("Enter")
    expect(lab.part("preview-said")).to_have_text(re.compile(f"^Row {number} of"), timeout=START_MS)


def row_number(lab: Lab) -> int:
    match = re.match(r"Row (\d+) of", lab.part("preview-said").text_content() or "")
    assert match
    return int(match[1])


def press(lab: Lab, key: str, number: int) -> None:
    """Press a key and wait for the row that it leads to."""
    lab.page.keyboard.press(key)
    expect(lab.part("preview-said")).to_have_text(re.compile(f"^Row {number} of"), timeout=START_MS)


@pytest.mark.parametrize("number", [1, 25, 26, 28])
def test_the_chips_are_the_tokens_of_the_rendered_row(shown: Lab, oracle: Oracle, number: int) -> None:
    go_to(shown, number)
    view, found = oracle.view(number - 1), chips(shown)
    assert [chip["text"] for chip in found] == list(view.texts)
    assert "".join(chip["text"] for chip in found) == "".join(view.texts)
    assert [chip["trained"] for chip in found] == list(view.trained)
    assert [chip["special"] for chip in found] == list(view.special)
    assert [chip["beyond"] for chip in found] == [index >= view.kept for index in range(len(found))]
    # The control: another row's tokens are others.
    assert [chip["text"] for chip in found] != list(oracle.view(number).texts)


def test_hostile_text_is_text(shown: Lab) -> None:
    go_to(shown, 25)
    box = shown.part("preview-chips")
    assert HOSTILE in "".join(chip["text"] for chip in chips(shown))
    assert box.locator("img").count() == 0
    signs = box.evaluate("(box) => [...box.querySelectorAll('[data-sign]')].map((sign) => sign.dataset.sign)")
    assert {"·", "¶", "→", "CR", "NUL", "nbsp", "U+202E"} <= set(signs)
    shown.part("preview-text").click()
    assert HOSTILE in (shown.part("preview-chips").text_content() or "")
    assert box.locator("img").count() == 0
    shown.part("preview-tokens").click()


def test_a_token_tells_its_number(shown: Lab, oracle: Oracle) -> None:
    go_to(shown, 1)
    view = oracle.view(0)
    last = max(index for index, trained in enumerate(view.trained) if trained)
    shown.part("preview-chips").locator(".chip").nth(last).hover()
    expect(shown.part("preview-token")).to_contain_text(
        f"id {view.token_ids[last]} · token {last + 1} of {len(view.texts)}"
    )
    expect(shown.part("preview-token")).to_contain_text("special · trained")
    shown.part("preview-chips").focus()
    shown.page.mouse.move(0, 0)
    for _ in range(3):
        shown.page.keyboard.press("Shift+ArrowRight")
    expect(shown.part("preview-token")).to_contain_text(f"id {view.token_ids[2]} · token 3 of")


def test_keys_walk_the_rows_and_the_focus_stays(shown: Lab) -> None:
    go_to(shown, 1)
    shown.part("preview-chips").focus()
    for key, number in [
        ("ArrowRight", 2),
        ("j", 3),
        ("ArrowLeft", 2),
        ("k", 1),
        ("ArrowLeft", 30),
        ("Home", 1),
        ("End", 30),
    ]:
        press(shown, key, number)
        assert shown.page.evaluate("() => document.activeElement.id") == "preview-chips"
    assert shown.part("preview-number").input_value() == "30"
    assert shown.part("preview-place").inner_text() == "line 30 of boxes.jsonl"
    shown.page.keyboard.press("g")
    shown.page.keyboard.type("12")
    press(shown, "Enter", 12)
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-chips"
    shown.page.keyboard.press("g")
    shown.page.keyboard.type("31")
    shown.page.keyboard.press("Enter")
    expect(shown.part("preview-message")).to_have_text("There are rows 1 to 30.")
    shown.page.keyboard.press("r")
    expect(shown.part("preview-said")).not_to_have_text(re.compile("^Row 12 of"), timeout=START_MS)


def test_a_held_key_ends_where_it_was_let_go(shown: Lab) -> None:
    go_to(shown, 1)
    shown.part("preview-chips").focus()
    for _ in range(17):
        shown.page.keyboard.press("ArrowRight")
    expect(shown.part("preview-said")).to_have_text(re.compile("^Row 18 of"), timeout=START_MS)
    shown.page.wait_for_timeout(500)
    assert row_number(shown) == 18


@pytest.fixture
def held_rows(shown: Lab) -> Iterator[Callable[[], None]]:
    """Rows that the worker answers with come when this is called, not before."""
    let_go = shown.hold("row_shown")
    yield let_go
    let_go()


def test_a_late_row_leaves_the_number_that_is_being_typed(shown: Lab, held_rows: Callable[[], None]) -> None:
    expect(shown.part("preview-said")).not_to_have_text("")
    shown.part("preview-chips").focus()
    shown.page.keyboard.press("Home")
    shown.page.keyboard.press("g")
    shown.page.keyboard.type("26")
    held_rows()
    expect(shown.part("preview-said")).to_have_text(re.compile("^Row 1 of"), timeout=START_MS)
    assert shown.part("preview-number").input_value() == "26"
    press(shown, "Enter", 26)
    shown.page.keyboard.press("g")
    shown.page.keyboard.type("3")
    shown.page.keyboard.press("Escape")
    assert shown.part("preview-number").input_value() == "26"  # left alone, the field says where one is


def test_a_row_that_was_asked_for_is_shown_though_tokens_are_counted_anew(
    shown: Lab, oracle: Oracle, held_rows: Callable[[], None]
) -> None:
    shown.part("preview-number").fill("12")
    shown.part("preview-number").press("Enter")
    share = f"{round(100 * oracle.dataset('all').tokens.trained_share)} %"
    shown.part("set-masking").select_option("all")
    expect(shown.part("dataset-summary").locator("dd").nth(2)).to_have_text(share, timeout=START_MS)
    held_rows()
    expect(shown.part("preview-said")).to_have_text(re.compile("^Row 12 of"), timeout=START_MS)
    assert [chip["trained"] for chip in chips(shown)] == list(oracle.view(11, "all").trained)
    shown.part("set-masking").select_option("assistant")
    expect(shown.part("dataset-summary").locator("dd").nth(2)).not_to_have_text(share, timeout=START_MS)


@pytest.mark.parametrize("jump", ["longest", "shortest", "most-trained", "least-trained"])
def test_jumps_lead_where_python_leads(shown: Lab, oracle: Oracle, jump: Any) -> None:
    go_to(shown, 5)
    shown.part(f"jump-{jump}").click()
    wanted = find_row(oracle.dataset(), jump, LENGTH)
    assert wanted is not None and wanted != 4
    expect(shown.part("preview-said")).to_have_text(re.compile(f"^Row {wanted + 1} of"), timeout=START_MS)


def test_the_cut_is_shown_and_moves_with_the_length(shown: Lab, oracle: Oracle) -> None:
    go_to(shown, 1)
    assert shown.part("preview-cut").count() == 0
    shown.part("jump-truncated").click()
    expect(shown.part("preview-cut")).to_have_text(f"cut here, at {LENGTH} tokens", timeout=START_MS)
    assert row_number(shown) == 26  # not 25: what is hostile in it is short enough
    assert sum(not chip["beyond"] for chip in chips(shown)) == LENGTH
    shown.set(max_length=150)
    expect(shown.part("preview-cut")).to_have_text("cut here, at 150 tokens", timeout=START_MS)
    assert [chip["trained"] for chip in chips(shown)] == list(oracle.view(25, length=150).trained)
    assert sum(not chip["beyond"] for chip in chips(shown)) == 150
    before = shown.part("preview-cut").evaluate("(line) => line.previousElementSibling.textContent")
    assert before and not before.startswith("\n")
    shown.set(max_length=LENGTH)
    expect(shown.part("preview-cut")).to_have_text(f"cut here, at {LENGTH} tokens", timeout=START_MS)


def test_search_finds_rows_and_says_when_there_is_none(shown: Lab) -> None:
    go_to(shown, 1)
    shown.part("preview-chips").focus()
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("ZEBRA")
    press(shown, "Enter", 28)
    assert shown.page.evaluate("() => CSS.highlights.get('found')?.size") == 1
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-search"
    shown.part("preview-search").fill("rope 1")
    for key, number in [("Enter", 2), ("Enter", 11), ("Shift+Enter", 2)]:
        press(shown, key, number)
    shown.part("preview-search").fill("crocodile")
    shown.page.keyboard.press("Enter")
    expect(shown.part("preview-message")).to_contain_text("No row holds these words", timeout=START_MS)
    assert row_number(shown) == 2
    shown.page.keyboard.press("Escape")
    assert shown.part("preview-search").input_value() == ""
    shown.page.keyboard.press("Escape")
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-chips"


def test_the_report_tells_what_is_in_the_data(shown: Lab, oracle: Oracle) -> None:
    tokens = oracle.dataset().tokens
    table = shown.part("histogram").locator("tbody tr")
    bars = [bar for bar in tokens.histogram if bar[2]]
    assert table.count() == len(bars)
    assert sum(int(row.locator("td").inner_text()) for row in table.all()) == 30
    key = shown.page.locator("#histogram-key dd").all_inner_texts()
    assert key == [str(tokens.p50), str(tokens.p95), str(tokens.max), str(LENGTH)]
    shown.page.locator("#data-more > summary").click()
    more = shown.part("data-more")
    expect(more).to_contain_text("1 row is an exact copy of an earlier one")
    expect(more).to_contain_text("You are a keeper.")
    expect(more).to_contain_text("Hebrew")
    more.get_by_role("button", name="Show the row of line 29").click()
    expect(shown.part("preview-said")).to_have_text(re.compile("^Row 29 of"), timeout=START_MS)
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-chips"
    shown.page.locator("#data-more > summary").click()


def test_the_large_view_and_back(shown: Lab) -> None:
    go_to(shown, 3)
    shown.part("preview-enlarge").click()
    dialog = shown.page.locator("#preview-dialog")
    expect(dialog).to_be_visible()
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-chips"
    press(shown, "ArrowRight", 4)
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("words")
    shown.page.keyboard.press("Escape")  # empties the search
    shown.page.keyboard.press("Escape")  # goes back to the row
    expect(dialog).to_be_visible()
    shown.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(shown.part("preview")).to_be_visible()
    assert shown.page.evaluate("() => document.activeElement.id") == "preview-enlarge"
    assert row_number(shown) == 4


def test_what_is_learned_follows_the_choice(shown: Lab, oracle: Oracle) -> None:
    go_to(shown, 1)
    masks = []
    for masking in ("last", "all", "assistant"):
        shown.part("set-masking").select_option(masking)
        view, data = oracle.view(0, masking), oracle.dataset(masking)
        trained = sum(view.trained)
        expect(shown.part("preview-notes")).to_contain_text(
            f"{trained} of {view.kept} tokens are trained", timeout=START_MS
        )
        masks.append([chip["trained"] for chip in chips(shown)])
        assert masks[-1] == list(view.trained)
        share = f"{round(100 * data.tokens.trained_share)} %"
        expect(shown.part("dataset-summary").locator("dd").nth(2)).to_have_text(share)
        assert row_number(shown) == 1
    assert len({tuple(mask) for mask in masks}) == 3  # each choice trains other tokens


def test_long_rows_are_left_out_on_request(shown: Lab) -> None:
    summary = shown.part("dataset-summary")
    expect(summary).to_contain_text("Rows cut")
    shown.part("set-on-long").select_option("drop")
    expect(summary).to_contain_text("Rows left out", timeout=START_MS)
    expect(summary).to_contain_text(f"2 above {LENGTH}")
    go_to(shown, 26)
    expect(shown.part("preview-notes")).to_contain_text("This row is not trained on")
    shown.part("set-on-long").select_option("truncate")
    expect(summary).to_contain_text("Rows cut", timeout=START_MS)
    expect(shown.part("preview-notes")).not_to_contain_text("not trained on", timeout=START_MS)


def test_a_validation_files_rows_are_left_out_of_training(shown: Lab, tmp_path: Path) -> None:
    made = rows()
    path = tmp_path / "check.jsonl"
    others = [turns(("user", "New?"), ("assistant", f"Quite new, {n}.")) for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [made[7], *others, made[3]]) + '{"prompt": "cut')
    shown.page.locator("#more-settings > summary").click()
    summary = shown.page.locator("#plan-summary")
    expect(summary).not_to_contain_text("27 rows")
    shown.drop(path, on="validation-input")
    text = shown.part("validation-text")
    expect(text).to_contain_text("5 of 6 rows to check on; the other cannot be used.", timeout=START_MS)
    problems = shown.part("validation-kinds").locator(".kind")
    expect(problems).to_have_count(1)
    problems.locator("summary").click()
    expect(problems).to_contain_text("Line 6, column")
    expect(text).to_contain_text("3 training rows")  # lines 4, 8 and 29: the last is a copy of the first
    expect(text).to_contain_text("line 8 (there line 1)")
    expect(summary).to_contain_text("27 rows", timeout=START_MS)
    assert shown.part("set-validation").evaluate("(field) => field.readOnly")
    go_to(shown, 8)
    expect(shown.part("preview-notes")).to_contain_text("it stands in the validation file too")
    shown.part("validation-remove").click()
    expect(text).to_contain_text("Rows of your own", timeout=START_MS)
    expect(problems).to_have_count(0)
    expect(summary).not_to_contain_text("27 rows", timeout=START_MS)
    expect(shown.part("preview-notes")).not_to_contain_text("validation file", timeout=START_MS)


def test_a_run_trains_what_was_chosen(shown: Lab, oracle: Oracle) -> None:
    """The trained tokens of a step are those of the masking, and differ between two of them."""
    counts = {}
    worker = next(worker for worker in shown.page.workers if "kind=train" in worker.url)
    worker.evaluate(
        """() => { const post = self.postMessage; self.stepTokens = [];
          self.postMessage = (message, moved) => {
            if (message.type === "training_step") self.stepTokens.push(message.trained_tokens);
            return post.call(self, message, moved); }; }"""
    )
    for masking in ("all", "last"):
        if shown.part("set-masking").is_hidden():  # a run folds the settings up
            shown.page.get_by_role("button", name="All settings").click()
        shown.part("set-masking").select_option(masking)
        shown.set(steps=1, batch=30, validation=0)
        shown.start()
        shown.wait_for_phase("training")
        shown.wait_for_phase("done")
        counts[masking] = worker.evaluate("() => self.stepTokens.pop()")
        assert counts[masking] == oracle.dataset(masking).tokens.trained
    assert counts["all"] != counts["last"]


def test_the_console_stayed_clean(shown: Lab) -> None:
    assert shown.errors == []
