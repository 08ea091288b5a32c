"""The runs that are kept, the card after one, and settings on their way, as the page's store knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lora_lab.workers.protocol import RunRow, TrainSettings
from lora_lab.workers.wire.codec import from_dict, to_dict
from tests.web import MODULES, READY, run_module

MORE = {
    "table": "runs/runs.ts", "order": "runs/order.ts", "chart": "runs/compare_chart.ts",
    "sharing": "train/sharing/sharing.ts", "after": "train/after/summary.ts",
}  # fmt: skip
BEFORE = """
globalThis.saved = [];
globalThis.history = { state: null, replaceState: (state, title, address) => (globalThis.address = address) };
globalThis.addEventListener = (type, hear) => (globalThis.heard = { ...globalThis.heard, [type]: hear });
globalThis.matchMedia = () => ({ matches: true });
globalThis.document = {
  activeElement: null, createElement: () => ({ click() { saved.push(this.download); } }),
  getElementById: (id) => ({
    closest: () => ({ id }), scrollIntoView() {}, focus() {}, checkVisibility: () => true, matches: () => false,
  }),
};
"""
READY_TOO = """
const { table, order, chart, sharing, after } = page;
location = { href: "http://x/lab/?model=tiny", origin: "http://x", pathname: "/lab/", search: "?model=tiny", hash: "" };
bus.join([page.page.pageArea, opening.openingArea, run.trainArea, result.resultArea, after.summaryArea, table.runsArea,
  sharing.sharingArea]);
begin();
const { warmup_steps, rows_at_once, checkpoint_every, sample_every } = settings.fields;
for (const field of [warmup_steps, rows_at_once, checkpoint_every, sample_every]) field.mayBeEmpty = true;
const last = (type) => sent.findLast((command) => command.type === type);
const fails = (where, message, subject = null) => hear("failed", { where, message, subject, details: null, kind: "" });
const taken = (settings, more = {}) => hear("settings_taken",
  { settings, remarks: [], problems: [], request: last("take_settings").request, ...more });
const shared = (more = {}) => hear("settings_shared", { file_name: "s.json", file: new Uint8Array([1]), command: "",
  fragment: "settings=1&c=2", request: last("share_settings").request, ...more });
const form = () => settings.read.value.settings;
const settled = () => new Promise((done) => setTimeout(done));
"""
ROW = RunRow(
    id="a", name="ships", created_at="2026-01-01T00:00:00Z", dataset="ships.jsonl", data_sha256="", model="Tiny",
    rows=60, steps=20, total_steps=20, rank=8, learning_rate=1e-3, batch=8, loss=0.5, validation_loss=0.7,
    perplexity=2.0, accuracy=0.5, rose=0.2, training_s=10.0, verdict="", notes="", imported=False, has_record=True,
)  # fmt: skip
ROWS = (
    ROW,
    replace(ROW, id="b", name="Run 10", learning_rate=None, validation_loss=None, training_s=2.0, notes="Too high"),
    replace(ROW, id="c", name="Run 9", rank=16, validation_loss=0.1, model="Other", steps=5),
)
OTHER = TrainSettings(
    steps=77, batch=4, learning_rate=3e-3, rank=4, alpha=8.0, max_length=256, seed=9, targets=("q_proj",),
    schedule="linear", warmup_steps=None, validation_fraction=0.125, shuffle=True, masking="last", mix_neutral=0.1,
)  # fmt: skip


def run(script: str) -> Any:
    constants = {"ROWS": [to_dict(row) for row in ROWS], "OTHER": to_dict(OTHER)}
    return run_module(MODULES | MORE, READY.read_text() + READY_TOO + script, before=BEFORE, more=constants)


def test_the_table_is_searched_by_every_word() -> None:
    told = run("""
      const ids = (words) => order.found(ROWS, words).map(({ id }) => id).join("");
      answer([ids(""), ids("  "), ids("run"), ids("RUN high"), ids("other"), ids("ships.jsonl"), ids("nothing")]);
    """)
    assert told == ["abc", "abc", "bc", "b", "c", "abc", ""]


def test_the_table_is_sorted_and_what_is_not_known_stands_last_either_way() -> None:
    told = run("""
      const ids = (by, isDown = false) => order.sorted(ROWS, { by, isDown }).map(({ id }) => id).join("");
      answer([ids("validation_loss"), ids("validation_loss", true), ids("name"), ids("rank", true), ids("training_s"),
        ids("learning_rate"), order.sorted(ROWS, null).map(({ id }) => id).join("")]);
    """)
    assert told == ["cab", "acb", "cba", "cab", "bac", "acb", "abc"]


def test_a_column_is_sorted_upwards_then_downwards_then_not_at_all() -> None:
    told = run("""
      const seen = [];
      for (let press = 0; press < 3; press += 1) { table.sortBy("rank"); seen.push(table.sort.value); }
      table.sortBy("rank"); table.sortBy("steps");
      answer([...seen, table.sort.value]);
    """)
    assert told == [{"by": "rank", "isDown": False}, {"by": "rank", "isDown": True}, None,
                    {"by": "steps", "isDown": False}]  # fmt: skip


def test_runs_that_are_gone_are_not_ticked_any_more() -> None:
    told = run("""
      table.openRuns();
      hear("run_list", { runs: ROWS });
      for (const id of ["b", "a", "c"]) table.tick(id);
      table.tick("c");
      table.unfold("b");
      table.compare();
      const asked = last("compare_runs").ids;
      hear("run_list", { runs: ROWS.slice(0, 1) });
      sent.length = 0;
      table.compare();
      answer({ asked, ticked: table.ticked.value, unfolded: table.unfolded.value, sent: names() });
    """)
    assert told == {"asked": ["b", "a"], "ticked": ["a"], "unfolded": None, "sent": []}


def test_notes_that_are_replaced_can_be_had_back() -> None:
    told = run("""
      hear("run_list", { runs: ROWS });
      table.note("a", "first");  // nothing was there before
      const none = table.replaced.value;
      table.note("b", "Too high");  // as it was
      const count = names().filter((one) => one === "note_run").length;
      table.note("b", "Fine");
      const change = last("note_run");
      table.bringNotesBack();
      answer({ none, count, change: change.notes, back: last("note_run").notes, then: table.replaced.value });
    """)
    assert told == {"none": None, "count": 1, "change": "Fine", "back": "Too high", "then": None}


def test_a_report_is_made_once_and_saved_as_what_was_asked_for() -> None:
    told = run("""
      URL.createObjectURL = () => "blob:x";
      const [html, json] = [new Uint8Array(), new Uint8Array()];
      const made = (id) => hear("report_made", { id, headline: "", file_name: id, html, json });
      table.saveReport("a", "html"); table.saveReport("a", "html"); table.saveReport("a", "json");
      table.saveReport("b", "json");
      const count = names().filter((one) => one === "make_report").length;
      made("a"); made("b"); made("a");
      answer({ count, saved });
    """)
    assert told == {"count": 2, "saved": ["a.html", "a.json", "b.json"]}


def test_a_failure_is_shown_where_the_eye_is() -> None:
    told = run("""
      const slots = () => Object.entries(problems.problems.value).map(([slot, { message }]) => [slot, message]);
      fails("runs", "of a card that is closed", "z");
      const none = slots();
      table.openRuns();
      fails("runs", "in the dialog", "a");
      const inside = slots();
      table.openRuns();
      const opened = slots();
      table.closeRuns();
      fails("sharing", "nobody asked");
      const stays = state.plan.value !== null;  // a link that is no good is no fault of the form's
      sharing.useRunSettings({ id: "a", name: "ships" });
      fails("sharing", "nothing is known of it");
      answer({ none, inside, opened, beside: slots(), plan: stays });
    """)
    assert told == {
        "none": [], "inside": [["runs-problem", "in the dialog"]], "opened": [],
        "beside": [["sharing-problem", "nothing is known of it"]], "plan": True,
    }  # fmt: skip


def test_settings_of_a_run_take_the_form_and_can_be_taken_back() -> None:
    told = run("""
      settings.offered.value = ["q_proj", "v_proj"];
      settings.targets.value = new Set(["v_proj"]);
      settings.touch("steps");
      const before = form();
      table.openRuns();
      sharing.useRunSettings({ id: "a", name: "ships" });
      const asked = last("take_settings");
      taken(OTHER);
      const used = form();
      const isOpen = table.isOpen.value;
      settings.suggest({ ...before, steps: 500 });  // data that comes later leaves them alone
      const kept = form().steps;
      const { text, action } = problems.toasts.value.at(-1);
      const planned = last("plan_training").settings.steps;
      action.run();
      answer({ asked, before, used, isOpen, kept, text, planned, back: form(), touched: [...settings.touched.value] });
    """)
    assert from_dict(TrainSettings, told["used"]) == OTHER
    assert told["asked"]["id"] == "a" and told["asked"]["current"] == told["before"]
    assert (told["kept"], told["planned"], told["isOpen"]) == (77, 77, False)
    assert told["text"] == "The settings of ships are in the form."
    assert told["back"] == told["before"] and told["touched"] == ["steps"]


def test_what_was_not_taken_and_what_the_model_cannot_do_is_told() -> None:
    told = run("""
      sharing.useRunSettings({ id: "a", name: "ships" });
      taken(OTHER, { remarks: ["No layer x."], problems: [{ field: "max_length", message: "At most 128." }] });
      answer({ box: problems.problems.value["sharing-problem"], wrong: settings.fieldProblems.value });
    """)
    assert told["box"] == {"message": "The settings of ships are in the form. Good to know:\nNo layer x.",
                           "isRemark": True}  # fmt: skip
    assert told["wrong"] == [{"field": "max_length", "message": "At most 128."}]


def test_nothing_is_put_into_the_form_of_a_run_that_goes_on() -> None:
    told = run("""
      sharing.useRunSettings({ id: "a", name: "ships" });
      const before = form();
      hear("training_state", { state: "training", detail: "", done: 0, total: 0 });
      taken(OTHER);
      sent.length = 0;
      sharing.useRunSettings({ id: "a", name: "ships" });
      answer({ same: JSON.stringify(before) === JSON.stringify(form()), sent: names() });
    """)
    assert told == {"same": True, "sent": []}


def test_a_file_of_settings_is_read_and_one_that_cannot_be_is_named() -> None:
    told = run("""
      const give = (name, text) => sharing.loadSettings([{ name, blob: { text } }]);
      await give("s.json", async () => "{}");
      const asked = last("take_settings");
      taken(OTHER);
      await give("gone.json", async () => { throw new Error("moved"); });
      const box = problems.problems.value["sharing-problem"].message;
      answer({ text: asked.text, name: asked.name, steps: form().steps, box });
    """)
    assert (told["text"], told["name"], told["steps"]) == ("{}", "s.json", 77)
    assert told["box"].startswith("gone.json could not be read")


def test_settings_are_shared_as_a_link_to_this_page() -> None:
    told = run("""
      const first = sharing.share("form", "sharing-problem");
      const asked = last("share_settings");
      const second = sharing.share({ id: "a" }, "runs-problem");
      shared({ fragment: "settings=1&second" });
      shared({ request: asked.request, fragment: "settings=1&first" });
      const links = [await first, await second].map(({ fragment }) => sharing.linkTo(fragment));
      settings.fields.steps.text.value = "many";
      const wrong = await sharing.share("form", "sharing-problem").catch(() => "not asked");
      const third = sharing.share({ id: "a" }, "runs-problem").catch((error) => error.message);
      bus.tell("train_gone", { reading: false });
      answer({ asked: asked.settings.steps, links, wrong, third: await third });
    """)
    assert told == {
        "asked": 5, "wrong": "not asked", "third": "Python was ended before it could answer. Try again.",
        "links": ["http://x/lab/?model=tiny#settings=1&first", "http://x/lab/?model=tiny#settings=1&second"],
    }  # fmt: skip


def test_settings_of_the_address_are_used_when_the_person_says_so() -> None:
    told = run("""
      sharing.setUpSharing();
      const nothing = sharing.brought.value;
      location.hash = "#data";
      heard.hashchange();
      const other = sharing.brought.value;
      location.hash = "#settings=1&s=77&c=0";
      heard.hashchange();
      taken(OTHER);
      const seen = [sharing.brought.value.taken.settings.steps, form().steps];
      sharing.decide(true);
      const asked = last("take_settings").link;
      taken(OTHER);
      answer({ nothing, other, seen, asked, steps: form().steps, left: sharing.brought.value, address });
    """)
    assert told == {
        "nothing": None, "other": None, "seen": [77, 5], "asked": "#settings=1&s=77&c=0", "steps": 77, "left": None,
        "address": "/lab/?model=tiny",
    }  # fmt: skip


def test_settings_of_the_address_are_left_and_bad_ones_say_why() -> None:
    told = run("""
      location.hash = "#settings=1&s=77";
      sharing.setUpSharing();
      fails("sharing", "the link was cut off");
      const { problem, taken: none } = sharing.brought.value;
      const boxes = Object.keys(problems.problems.value);
      sharing.decide(false);
      answer({ problem, none, boxes, steps: form().steps, left: sharing.brought.value, address });
    """)
    assert told == {
        "problem": "the link was cut off", "none": None, "boxes": [], "steps": 5, "left": None,
        "address": "/lab/?model=tiny",
    }  # fmt: skip


def test_the_card_asks_what_came_of_its_run_and_hears_of_no_other() -> None:
    told = run("""
      const adapter = { id: "a", name: "ships", steps: 5 };
      const nothing = { verdict: "", before: null, after: null, else_changed: null };
      const summed = (id, headline) => hear("run_summed_up", { id, headline, ...nothing });
      hear("training_done", { adapter, stopped: false, probes: [] });
      const asked = names().filter((one) => one === "sum_up_run").length;
      summed("b", "another's");
      const other = after.summary.value;
      summed("a", "first");
      hear("adapter_list", { adapters: [adapter] });  // its answers are kept now
      summed("a", "with answers");
      const now = after.summary.value.headline;
      const again = names().filter((one) => one === "sum_up_run").length;
      hear("adapter_deleted", { id: "a", name: "ships" });
      summed("a", "late");
      answer({ asked, other, now, again, gone: after.summary.value });
    """)
    assert told == {"asked": 1, "other": None, "now": "with answers", "again": 2, "gone": None}


def test_curves_of_several_runs_stand_over_the_same_steps() -> None:
    told = run("answer(chart.aligned([[[0, 3], [10, 1]], [], [[5, 2], [10, 4]]]));")
    assert told == [[0, 5, 10], [3, None, 1], [None, None, None], [None, 2, 4]]
