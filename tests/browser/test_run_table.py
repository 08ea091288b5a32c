"""What came of a run, the table of runs, settings that travel. Scripted workers stand in for the runs themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from lora_lab.evaluation.neutral import Neutral, NeutralAnswer, advice
from lora_lab.evaluation.settings_travel import settings_file, settings_fragment
from lora_lab.workers.protocol import (
    AdapterInfo,
    ComparedRun,
    Probe,
    RunRow,
    RunsCompared,
    SettingDifference,
    SettingsTaken,
    TrainingDone,
    TrainSettings,
)
from lora_lab.workers.run.run_summary import summary_of
from lora_lab.workers.wire.codec import to_dict
from tests.browser.lab import START_MS, Lab
from tests.browser.scripted import ScriptedLab
from tests.unit.evaluation.records import record

ROW = RunRow(
    id="a", name="ships", created_at="2026-01-02T03:04:05Z", dataset="ships.jsonl", data_sha256="", model="Some model",
    rows=60, steps=20, total_steps=60, rank=8, learning_rate=1e-3, batch=8, loss=0.5, validation_loss=0.71,
    perplexity=2.03, accuracy=0.62, rose=0.5, training_s=75.0, verdict="", notes="", imported=False, has_record=True,
)  # fmt: skip
PIRATES = {
    "id": "b", "name": "pirates", "dataset": "pirates.csv", "steps": 60, "rank": 16, "validation_loss": 0.48,
    "notes": "Too high a rate", "verdict": "Validation got worse towards the end: fewer steps or more rows help.",
}  # fmt: skip
ROWS = [to_dict(ROW), {**to_dict(ROW), **PIRATES}]
SETTINGS = TrainSettings(77, 4, 3e-3, 4, 8.0, 256, 9, ("q_proj",), sample_every=0, rows_at_once=4)
ADAPTER = AdapterInfo("a", "ships", ROW.created_at, "some/model", "ships.jsonl", 60, 20, 8, 16.0, ("q_proj",), 1000)
ANSWERS = (NeutralAnswer("What is the capital of France?", "Paris is the capital of France.", "Tern Point.", "Paris."),)
RECORD = record(neutral=Neutral(2.31, 2.95, 900, (), ANSWERS))
CURVE = ((0, 2.9), (20, 1.2), (40, 0.5), (60, 0.6))
COMPARED = RunsCompared(
    (
        ComparedRun("a", "ships", "Validation loss 2.90 → 0.71.", ((1, 3.0), (20, 0.7)), ((0, 2.9), (20, 0.71))),
        ComparedRun("b", "pirates", "Validation loss 2.90 → 0.48.", ((1, 3.0), (60, 0.4)), CURVE),
    ),
    (SettingDifference("rank", "Rank", ("8", "16")), SettingDifference("data", "Data", ("ships.jsonl", "pirates.csv"))),
)


class RunsLab(ScriptedLab):
    """The page whose train worker has two runs, and says what this file writes."""

    def prepare(self) -> None:
        self.worker("train").evaluate(
            """([rows, compared, taken]) => {
              self.rows = rows;
              const list = () => say("run_list", { runs: self.rows });
              const bytes = (text) => new TextEncoder().encode(text);
              Object.assign(trainAnswers, {
                list_runs: list,
                note_run({ id, notes }) {
                  self.rows = self.rows.map((one) => (one.id === id ? { ...one, notes } : one));
                  list();
                },
                compare_runs: () => say("runs_compared", compared),
                take_settings: ({ request }) => say("settings_taken", { ...taken, request }),
                share_settings: ({ request }) => say("settings_shared", { file_name: "settings.json", file: bytes("{}"),
                  fragment: "settings=1&s=77&c=0", command: "lora-lab train --steps 77", request }),
                make_report: ({ id }) => say("report_made", { id, headline: "", file_name: "ships-report",
                  html: bytes("<p>A report"), json: bytes("{}") }),
              });
            }""",
            [ROWS, to_dict(COMPARED), to_dict(SettingsTaken(SETTINGS, ("The link names what is no setting: x.",)))],
        )

    def ends_a_run(self) -> None:
        """Have the run of the adapter "ships" end."""
        self.worker("train").evaluate(
            """([summed, done]) => {
              trainAnswers.sum_up_run = () => say("run_summed_up", summed);
              say("training_done", done);
            }""",
            [to_dict(summary_of("a", RECORD)), to_dict(TrainingDone(ADAPTER, False, (Probe("What is ship 7?", ()),)))],
        )


@pytest.fixture
def lab(context: BrowserContext, site_url: str) -> Any:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    made = RunsLab(context, site_url + "?model=tiny")
    made.prepare()
    yield made
    assert made.errors == []


def clipboard(lab: RunsLab) -> str:
    text: str = lab.page.evaluate("() => navigator.clipboard.readText()")
    return text


def test_after_a_run_the_card_says_what_came_of_it_and_what_else_changed(lab: RunsLab) -> None:
    lab.ends_a_run()
    expect(lab.part("run-headline")).to_have_text(
        "Validation loss 2.91 → 0.48 at step 40 of 60; 2 of 3 answers match the data."
    )
    cells = lab.part("held-numbers").locator("tr").all_inner_texts()
    assert [cell.split("\t")[1:] for cell in cells[1:]] == [
        ["2.9100", "0.4800"],
        ["18.36", "1.62"],
        ["0.0 %", "40.0 %"],
    ]
    changed = lab.part("else-changed")
    expect(changed).to_contain_text("loss 2.31 → 2.95 a token (+0.64); much was unlearned.")
    assert changed.get_by_role("listitem").all_inner_texts() == list(advice(0.64))
    expect(changed.get_by_text("Tern Point.")).to_be_visible()
    for button, name in (("run-report", "ships-report.html"), ("run-json", "ships-report.json")):
        with lab.page.expect_download() as saved:
            lab.part(button).click()
        assert saved.value.suggested_filename == name
    lab.part("all-runs").click()
    expect(lab.part("run-row")).to_have_count(2)


def test_the_table_is_sorted_searched_and_noted(lab: RunsLab) -> None:
    lab.part("runs-open").click()
    rows, search = lab.part("run-row"), lab.part("runs-search")
    expect(rows).to_have_count(2)
    expect(search).to_be_focused()
    head = lab.page.get_by_role("columnheader", name="Validation loss")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_have_attribute("data-id", "b")
    search.fill("ships.jsonl")
    expect(lab.part("runs-count")).to_have_text("1 of 2 runs")
    search.fill("nothing")
    lab.part("runs-no-match").get_by_role("button").click()
    expect(rows).to_have_count(2)

    rows.first.get_by_role("button", name="pirates").click()
    notes = lab.part("run-notes")
    notes.fill("Half the rate next time")
    notes.blur()
    lab.page.get_by_role("button", name="Undo").click()
    expect(notes).to_have_value("Too high a rate")
    notes.fill("Closed in the middle of a word")
    lab.page.keyboard.press("Escape")
    expect(lab.page.locator("#runs-dialog")).to_be_hidden()
    lab.part("runs-open").click()
    expect(notes).to_have_value("Closed in the middle of a word")


def test_runs_stand_beside_each_other_and_escape_leads_back(lab: RunsLab) -> None:
    lab.part("runs-open").click()
    expect(lab.part("runs-compare")).to_be_disabled()
    for box in lab.page.locator("#runs-dialog").get_by_role("checkbox").all():
        box.check()
    lab.part("runs-compare").click()
    expect(lab.part("compare-chart").locator("canvas")).to_be_visible()
    expect(lab.part("compared-runs").locator("output")).to_have_text(["0.7100", "0.6000"])
    expect(lab.part("run-differences").locator("tbody tr")).to_have_text(["Rank816", "Dataships.jsonlpirates.csv"])
    lab.part("compare-chart").hover()
    expect(lab.page.locator(".picked-step")).to_contain_text("At step")
    lab.page.keyboard.press("Escape")
    expect(lab.part("run-row")).to_have_count(2)
    expect(lab.part("runs-compare")).to_be_focused()


def test_settings_of_a_run_are_used_again_and_given_away(lab: RunsLab) -> None:
    steps = lab.part("set-steps").input_value()
    lab.part("runs-open").click()
    lab.part("run-row").first.get_by_role("button", name="ships").click()
    dialog = lab.page.locator("#runs-dialog")
    dialog.get_by_test_id("copy-command").click()
    expect(dialog.get_by_test_id("copy-command")).to_have_text("Copied")
    assert clipboard(lab) == "lora-lab train --steps 77"
    dialog.get_by_test_id("use-settings").click()
    expect(dialog).to_be_hidden()
    expect(lab.part("set-steps")).to_have_value("77")
    expect(lab.page.locator("#sharing-problem")).to_contain_text("what is no setting: x")
    lab.page.get_by_role("button", name="Undo").click()
    expect(lab.part("set-steps")).to_have_value(steps)
    lab.part("copy-settings-link").click()
    expect(lab.part("copy-settings-link")).to_have_text("Copied")
    assert clipboard(lab) == f"{lab.page.url}#settings=1&s=77&c=0"


def test_a_browser_that_does_not_copy_shows_the_text(lab: RunsLab) -> None:
    lab.page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('no')); }")
    lab.part("copy-command").click()
    expect(lab.part("by-hand")).to_have_value("lora-lab train --steps 77")


def test_the_real_worker_reads_a_link_and_a_file(context: BrowserContext, site_url: str, tmp_path: Path) -> None:
    values = {**vars(SETTINGS), "rows_at_once": None}
    lab = Lab(context, f"{site_url}?model=tiny#{settings_fragment(values)}")
    expect(lab.part("brought-settings")).to_contain_text("77 steps · rank 4 · learning rate 3e-3", timeout=START_MS)
    expect(lab.part("set-steps")).not_to_have_value("77")  # nothing is taken before somebody says so
    lab.wait_for_model()
    lab.part("brought-use").click()
    expect(lab.part("set-steps")).to_have_value("77")
    assert "#" not in lab.page.url
    lab.page.evaluate("() => { location.hash = '#settings=1&s=80'; }")
    expect(lab.part("brought-settings")).to_contain_text("was cut off or changed on its way")
    lab.part("brought-leave").click()
    file = tmp_path / "mine.json"
    file.write_bytes(settings_file({**values, "steps": 33}))
    lab.drop(file, on="settings-input")
    expect(lab.part("set-steps")).to_have_value("33")
    file.write_text('{"steps": 3}')
    lab.drop(file, on="settings-input")
    expect(lab.page.locator("#sharing-problem")).to_contain_text("mine.json is no file of settings")
    lab.part("runs-open").click()
    expect(lab.part("runs-empty")).to_contain_text("No runs yet")
    assert lab.errors == []


def test_a_real_run_is_summed_up_listed_and_reported(open_lab: Callable[[str], Lab], ships: Path) -> None:
    lab = open_lab("?model=tiny")
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.page.locator("#more-settings > summary").click()
    lab.set(steps=4, batch=4, lr="1e-2", validation=10)
    lab.part("set-neutral").select_option("on")
    lab.start()
    lab.wait_for_phase("done")
    expect(lab.part("run-headline")).to_have_text(
        re.compile(r"^Validation loss \d.* → \d.* at step \d of 4"), timeout=START_MS
    )
    expect(lab.part("else-changed")).to_contain_text(re.compile(r"loss \d+\.\d+ → \d+\.\d+ a token"))
    with lab.page.expect_download() as saved:
        lab.part("run-json").click()
    report = json.loads(saved.value.path().read_text())
    shown = lab.part("held-numbers").locator("tbody td").all_inner_texts()
    assert shown[:2] == [f"{report[when]['loss']:.4f}" for when in ("before", "after")]
    assert report["headline"].split(";")[0] in lab.text("run-headline")
    lab.part("all-runs").click()
    expect(lab.part("run-row").locator("td.of-validation_loss")).to_have_text(shown[1])
    lab.part("run-row").get_by_role("button").first.click()
    lab.part("run-notes").fill("A first try")
    lab.part("run-notes").blur()
    lab.page.get_by_role("dialog").get_by_role("button", name="Close").click()
    lab.page.reload()
    lab.wait_for_model()
    lab.part("runs-open").click()
    expect(lab.part("run-row")).to_contain_text("A first try")
