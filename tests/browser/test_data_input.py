"""Data on its way into the page: files, folders, pasted text, and a Stop in the middle."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.datasets import CSV, PAIRS, expect_rows, give_many, lines, rows_of
from tests.browser.lab import START_MS, Lab

OpenLab = Callable[..., Lab]


# ---------------------------------------------------------------------------------------------------------- ways in


def test_several_files_are_one_dataset_and_can_be_added_and_left_out(open_lab: OpenLab) -> None:
    lab = open_lab()
    first, second = "\n".join(lines(PAIRS[:12])).encode(), CSV.replace("frage,antwort", "prompt,completion").encode()
    lab.drag(("ships.jsonl", first), ("towers.csv", second))
    lab.wait_for_data()
    expect_rows(lab, "32")
    files = lab.page.locator("#dataset-files li")
    expect(files).to_have_count(2)
    more = {"name": "more.json", "mimeType": "", "buffer": json.dumps(PAIRS[12:]).encode()}
    lab.part("dataset-add").set_input_files([more])  # type: ignore[list-item]
    expect(files).to_have_count(3)
    expect_rows(lab, "40")
    lab.page.get_by_role("button", name="Leave out towers.csv").click()
    expect(files).to_have_count(2)
    expect_rows(lab, "20")
    # A control, and another way: one file dropped anywhere takes the place of all, unless both are wanted.
    lab.drag(("towers.csv", second), on=".top")
    expect(lab.page.locator("#dataset-title")).to_have_text("towers.csv", timeout=START_MS)
    lab.wait_for_data()
    expect_rows(lab, "20")
    expect(files).to_have_count(0)
    lab.page.get_by_role("button", name="Keep both").click()
    expect(files).to_have_count(3)
    lab.wait_for_data()
    expect_rows(lab, "40")


def test_text_is_pasted_into_the_editor_or_anywhere(open_lab: OpenLab) -> None:
    lab = open_lab()
    keys = lab.page.keyboard
    lab.part("paste-open").click()
    lab.part("paste-text").fill("\n".join(lines(PAIRS)))
    lab.part("paste-read").click()
    lab.wait_for_data()
    expect_rows(lab, "20")
    expect(lab.page.locator("#dataset-title")).to_have_text("Pasted text")
    lab.replace_data()
    # Cut it out of the editor and paste it onto the page itself.
    lab.part("paste-open").click()
    lab.part("paste-text").fill("\n".join(lines(PAIRS[:11])))
    keys.press("Control+a")
    keys.press("Control+x")
    keys.press("Escape")
    lab.page.locator("#data-title").click()
    keys.press("Control+v")
    lab.wait_for_data()
    expect_rows(lab, "11")
    # Where there is a dataset already, pasting asks before it takes its place.
    keys.press("Control+v")
    expect(lab.part("paste-text")).to_be_focused()
    expect_rows(lab, "11")
    lab.page.get_by_role("button", name="Add to the rows").click()
    expect(lab.part("dataset-summary").locator("dd").first).to_have_text("22", timeout=START_MS)
    # In a field of the page it is the field's.
    lab.part("set-lr").click()
    keys.press("Control+v")
    assert lab.part("paste-text").is_hidden()


def test_a_pasted_table_asks_for_its_columns(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.part("paste-open").click()
    lab.part("paste-text").fill(CSV)
    lab.part("paste-read").click()
    expect(lab.part("mapping")).to_be_visible(timeout=START_MS)
    expect(lab.part("train-status")).to_have_text("Say first which column is what.", timeout=START_MS)
    assert lab.part("dataset-errors").is_hidden()  # the editor says it all
    lab.part("map-prompt").select_option(label="frage")
    lab.part("map-reply").select_option(label="antwort")
    lab.part("mapping-use").click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    expect_rows(lab, "20")
    lab.replace_data()
    lab.part("paste-open").click()  # a control: prose with commas is text
    lab.part("paste-text").fill("Dear all, hello\nthis, that and more\n\nYours, A")
    lab.part("paste-read").click()
    lab.wait_for_data()
    assert lab.part("mapping").is_hidden() and rows_of(lab) == "2"


def test_files_come_to_the_sample(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.part("sample-dataset").click()
    lab.wait_for_data()
    of_sample = int(rows_of(lab))
    more = {"name": "ships.jsonl", "mimeType": "", "buffer": "\n".join(lines(PAIRS)).encode()}
    lab.part("dataset-add").set_input_files([more])  # type: ignore[list-item]
    expect(lab.page.locator("#dataset-files li")).to_have_count(2, timeout=START_MS)
    lab.wait_for_data()
    expect_rows(lab, str(of_sample + 20))
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    lab.page.get_by_role("button", name="Leave out ships.jsonl").click()  # a control: the sample alone again
    expect(lab.page.locator("#dataset-files li")).to_have_count(0, timeout=START_MS)
    lab.wait_for_data()
    expect_rows(lab, str(of_sample))


def test_a_stop_of_the_counting_keeps_the_rows_until_they_are_counted(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    give_many(lab, 20_000)
    assert lab.page.locator("#no-tokens").is_hidden()
    lab.part("reading-stop").click()
    expect(lab.part("count-tokens")).to_be_visible(timeout=START_MS)
    expect_rows(lab, "20,000")
    expect(lab.part("train-status")).to_have_text("The tokens are not counted yet.")
    assert lab.part("train-start").is_disabled() and lab.part("preview").is_hidden()
    lab.part("count-tokens").click()
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    assert lab.part("count-tokens").is_hidden() and lab.part("preview").is_visible()
    # Counting for another mask, stopped: what was counted holds, and the form says so.
    trained = lab.part("dataset-summary").locator("dd").nth(2).inner_text()
    lab.part("set-masking").select_option("all")
    expect(lab.part("reading-stop")).to_be_visible(timeout=START_MS)
    lab.part("reading-stop").click()
    expect(lab.part("set-masking")).to_have_value("assistant", timeout=START_MS)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
    assert lab.part("dataset-summary").locator("dd").nth(2).inner_text() == trained != "100 %"


def test_gzip_is_opened_and_a_damaged_one_is_told(open_lab: OpenLab) -> None:
    lab = open_lab()
    packed = gzip.compress("\n".join(lines(PAIRS)).encode())
    lab.give("ships.jsonl.gz", packed)
    expect_rows(lab, "20")
    assert lab.part("dataset-errors").is_hidden()
    lab.replace_data()
    lab.give("ships.jsonl.gz", packed[: len(packed) // 2])
    expect(lab.part("dataset-errors")).to_contain_text("cut off")


def test_a_folder_gives_its_readable_files_and_says_when_there_is_none(open_lab: OpenLab) -> None:
    lab = open_lab()
    rows = "\n".join(lines(PAIRS)).encode()
    lab.drag_folder("photos", ("cat.png", b"\x89PNG"), ("notes.docx", b"PK"))
    problem = lab.page.locator("#dataset-problem")
    expect(problem).to_contain_text("Nothing in this folder can be read as data. It holds cat.png, notes.docx.")
    assert lab.page.locator("#data-body").get_attribute("data-state") == "empty"
    lab.drag_folder("ships", ("cat.png", b"\x89PNG"), ("a.jsonl", rows), ("b.jsonl", rows))
    lab.wait_for_data()
    expect_rows(lab, "40")
    assert problem.is_hidden()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, raw in files.items():
            archive.writestr(name.replace("_", "."), raw)
    return out.getvalue()


def test_a_zip_of_data_is_data_and_no_adapter(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.drag(("ships.zip", zipped(train_jsonl="\n".join(lines(PAIRS)).encode())), on=".top")
    expect(lab.part("dataset-errors")).to_contain_text("a zip archive", timeout=START_MS)
    expect(lab.page.locator("#adapter-problem")).to_be_hidden()
    # A control: a zip of an adapter's files goes there, and is told what is wrong with it.
    lab.wait_for_model()
    lab.drag(("lora.zip", zipped(model_safetensors=b"no such thing", notes_txt=b"mine")), on=".top")
    expect(lab.page.locator("#adapter-problem")).to_be_visible(timeout=START_MS)


def test_data_that_was_closed_or_left_out_comes_back(open_lab: OpenLab) -> None:
    lab = open_lab()
    rows = "\n".join(lines(PAIRS)).encode()
    lab.drag(("a.jsonl", rows), ("b.jsonl", rows[:100]))
    lab.wait_for_data()
    before = rows_of(lab)
    lab.page.get_by_role("button", name="Leave out b.jsonl").click()
    expect_rows(lab, "20")
    lab.page.locator(".toast", has_text="b.jsonl is left out").get_by_role("button", name="Undo").click()
    expect_rows(lab, before)
    lab.wait_for_data()
    lab.replace_data()
    lab.page.locator(".toast", has_text="is closed").get_by_role("button", name="Undo").click()
    lab.wait_for_data()
    expect_rows(lab, before)
    expect(lab.page.locator("#dataset-files li")).to_have_count(2)


def test_a_large_file_can_be_stopped_and_the_page_stays_awake(open_lab: OpenLab, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    row = '{"prompt": "What is ship %d?", "completion": "Ship %d is %s."}\n'
    path.write_text("".join(row % (i, i, "laden with salt, " * 12) for i in range(120_000)))
    assert path.stat().st_size > 30e6
    lab = open_lab()
    lab.wait_for_model()
    # How long the page cannot answer: the longest time between two turns of its event loop.
    lab.page.evaluate(
        """() => {
          self.longest = 0;
          let before = performance.now();
          setInterval(() => {
            const now = performance.now();
            [self.longest, before] = [Math.max(self.longest, now - before), now];
          }, 5);
        }"""
    )
    lab.drop(path)
    left = lab.page.locator("#reading-left")
    expect(left).to_have_text(re.compile(r"\d+(\.\d+)? MB of 3\d MB"), timeout=START_MS)
    expect(left).to_have_text(re.compile("about .* left"), timeout=START_MS)
    assert 0 < lab.page.locator("#reading-progress").evaluate("(bar) => bar.value") < 1
    lab.part("reading-stop").click()
    expect(lab.page.locator("#data-body")).to_have_attribute("data-state", "empty", timeout=5000)
    assert lab.page.evaluate("() => self.longest") < 1000
    assert lab.part("train-start").is_disabled()
    lab.give("ships.jsonl", "\n".join(lines(PAIRS)).encode())  # what was stopped is not in the way
    expect_rows(lab, "20")
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)
