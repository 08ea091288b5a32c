"""The data panel as the page's store knows it: what is read, shown, chosen and asked for, by what the worker says."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import pytest

from tests.web import run_module

MODULES = {
    "bus": "store/bus.ts", "data": "store/data.ts", "pages": "store/page.ts",
    "settings": "store/settings.ts", "problems": "store/problems.ts", "workers": "link/workers.ts",
    "panel": "data/index.ts", "reading": "data/reading.ts", "mapping": "data/mapping.ts", "preview": "data/preview.ts",
    "files": "shell/files.ts",
}  # fmt: skip
BEFORE = """
Object.defineProperty(globalThis, "navigator", { value: { gpu: {} }, configurable: true });
globalThis.location = { href: "http://x/" };
const stored = new Map();
globalThis.localStorage = {
  getItem: (key) => stored.get(key) ?? null,
  setItem: (key, value) => stored.set(key, value),
};
globalThis.document = { activeElement: null, getElementById: () => null };
"""
READY = """
const { bus, data, pages, settings, problems, workers, panel, reading, mapping, preview, files } = page;
const sent = [];
workers.train.ready = true;
workers.train.worker = { postMessage: (command) => sent.push(command), terminate() {} };
bus.join([pages.pageArea, ...panel.dataAreas]);
const hear = (type, event = {}) => bus.receive({ type, ...event }, "train");
const names = () => sent.map(({ type }) => type);
const last = (type) => sent.findLast((command) => command.type === type);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const file = (name) => ({ name, blob: new Blob(["x"]) });
/** What the worker says of the data that was asked for last. */
function answerData({ report = {}, ...more } = {}) {
  const counts = { good: 3, mendable: 0, improvable: 0, unknown: 0, formats: { text: 3 }, columns: {} };
  const lists = { asks: [], groups: [], problems: [], readings: [], unused: [], encodings: [], files: ["a.jsonl"] };
  hear("dataset_ready", {
    name: "a", title: "a.jsonl", rows: 3, good_rows: 3, problem_count: 0, facts: [], masking: "assistant",
    on_long: "truncate", can_train: true, use_mended: false, chat_format: "auto",
    request: last("read_dataset").request, ...more,
    report: { ...counts, ...lists, tokens: { histogram: [] }, ...report },
  });
}
const answerRow = (index, more = {}) => hear("row_shown", {
  request: last("show_row").request, index, count: 30, line: index + 1, source: "a.jsonl", texts: ["x"], token_ids: [1],
  trained: [true], special: [false], length: 1, kept: 1, notes: [], why: "", ...more,
});
"""


def run(script: str, more: dict[str, Any] | None = None) -> Any:
    """Return what `script` gives to `answer(value)`, on a page without a document whose train worker only listens."""
    return run_module(MODULES, READY + script, before=BEFORE, more=more)


# ----------------------------------------------------------------------------------------------------------- reading


def test_what_an_older_reading_opened_is_not_shown() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      const old = last("read_dataset").request;
      reading.take({ files: [file("b.jsonl")] });
      answerData({ title: "a.jsonl", request: old });
      const late = [data.panelState.value, data.dataset.value];
      answerData({ title: "b.jsonl" });
      answer({ late, now: data.panelState.value, title: data.dataset.value.title });
    """)
    assert told == {"late": ["reading", None], "now": "ready", "title": "b.jsonl"}


def test_a_quick_reading_again_leaves_the_panel_as_it_is() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      data.consent.value = true;
      reading.readAgain({ use_mended: true });
      const quick = [data.panelState.value, data.shownDataset.value.title, data.dataset.value, data.consent.value];
      await wait(400);
      const slow = data.panelState.value;
      answerData({ use_mended: true });
      answer({ quick, slow, then: data.panelState.value, asked: last("read_dataset").use_mended });
    """)
    assert told == {"quick": ["ready", "a.jsonl", None, False], "slow": "reading", "then": "ready", "asked": True}


def test_other_data_does_not_stand_in_the_panel_while_it_is_read() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      reading.take({ files: [file("b.jsonl")] });
      answer([data.panelState.value, data.shownDataset.value, problems.toasts.value.at(-1).action.label]);
    """)
    assert told == ["reading", None, "Keep both"]


def test_a_stop_that_comes_too_late_has_the_data_cleared() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      reading.stopReading();
      answerData();
      const between = data.dataset.value;
      hear("dataset_cleared");
      answer({ between, sent: names(), state: data.panelState.value, asked: data.asked.value });
    """)
    assert told == {
        "between": None,
        "sent": ["read_dataset", "stop_reading", "clear_dataset"],
        "state": "empty",
        "asked": None,
    }


def test_a_fresh_worker_reads_the_data_again_unless_it_died_of_it() -> None:
    told = run("""
      const model = { chat_formats: [], targets: [] };
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      bus.tell("train_gone", { reading: false });
      bus.tell("train_anew", {});
      bus.tell("model_came", { model, first: true });
      const again = names();
      sent.length = 0;
      bus.tell("train_gone", { reading: true });
      bus.tell("train_anew", {});
      bus.tell("model_came", { model, first: true });
      answer({ again, then: names(), state: data.panelState.value });
    """)
    assert told == {"again": ["read_dataset", "show_row", "read_dataset"], "then": [], "state": "empty"}


def test_a_failure_of_the_reading_ends_it_and_is_told_once() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      hear("failed", { where: "dataset", message: "no memory", details: null });
      answer({ state: data.panelState.value, told: Object.keys(problems.problems.value) });
    """)
    assert told == {"state": "empty", "told": ["dataset-problem"]}


def test_a_mask_whose_counting_was_stopped_goes_back() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      settings.setField("masking", "all");
      hear("dataset_progress", { done: 1, total: 9, unit: "rows", name: "a", left_ms: null });
      const counting = data.reading.value.counting;
      reading.stopReading();
      answerData();
      answer({ counting, masking: settings.fields.masking.text.value, reading: data.reading.value });
    """)
    assert told == {"counting": True, "masking": "assistant", "reading": None}


# ----------------------------------------------------------------------------------------------------------- columns

COLUMNS = """
const counted = { frage: 9, antwort: 9, punkte: 9 };
const rated = { columns: counted, good: 0, unknown: 9, rows: 9, formats: {}, tokens: null };
const open = (report = rated) => {
  reading.take({ files: [file("a.csv")] });
  answerData({ report, good_rows: 0, can_train: false });
};
"""


def test_columns_are_chosen_remembered_and_forgotten() -> None:
    told = run(
        COLUMNS
        + """
      open();
      const before = [mapping.isOpen.value, mapping.isComplete.value];
      mapping.change({ columns: { prompt: "frage", reply: "antwort" }, atLeast: "4" }, 0);
      const plain = mapping.chosen.value;
      mapping.change({ columns: { prompt: "frage", reply: "antwort", label: "punkte" } }, 0);
      const rating = mapping.chosen.value;
      mapping.choose(rating);
      answerData({ report: { ...rated, good: 9, unknown: 0, mapping: rating } });
      open();
      const again = [last("read_dataset").mapping, data.isFromMemory.value];
      answerData({ report: { ...rated, good: 9, unknown: 0, mapping: rating } });
      mapping.forget();
      answerData({ report: rated });
      open();
      answer({ before, plain, rating, again, then: last("read_dataset").mapping ?? null });
    """
    )
    rating = {"prompt": "frage", "reply": "antwort", "label": "punkte", "at_least": "4"}
    assert told == {
        "before": [True, False],
        "plain": {"prompt": "frage", "reply": "antwort"},
        "rating": rating,
        "again": [rating, True],
        "then": None,
    }


def test_what_is_being_chosen_stays_while_tokens_are_counted_and_goes_with_the_data() -> None:
    told = run(
        COLUMNS
        + """
      open();
      mapping.change({ columns: { prompt: "frage" } }, 0);
      answerData({ report: rated });
      const then = mapping.draft.value.columns;
      open({ ...rated, columns: { x: 9, y: 9 } });
      answer([then, mapping.draft.value.columns]);
    """
    )
    assert told == [{"prompt": "frage"}, {}]


def test_a_preview_of_an_earlier_choice_is_dropped_and_none_is_asked_of_data_that_is_read_again() -> None:
    told = run(
        COLUMNS
        + """
      open();
      mapping.change({ columns: { prompt: "frage", reply: "frage" } }, 0);
      await wait(20);
      const first = last("preview_mapping").request;
      mapping.change({ columns: { prompt: "frage", reply: "antwort" } }, 0);
      await wait(20);
      hear("mapping_previewed", { request: first, rows: [{ text: "old" }], problem: "" });
      const late = mapping.previewed.value.rows;
      hear("mapping_previewed", { request: first + 1, rows: [{ text: "new" }], problem: "" });
      mapping.change({ columns: { prompt: "antwort", reply: "antwort" } }, 10);
      const asked = names().length;
      reading.readAgain({});
      await wait(40);
      answer([late, mapping.previewed.value.rows, names().slice(asked)]);
    """
    )
    assert told == [[], [{"text": "new"}], ["read_dataset"]]


# ----------------------------------------------------------------------------------------------------------- preview


def test_a_row_that_was_asked_for_is_asked_again_when_tokens_are_counted_anew() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      answerRow(0);
      preview.goTo(11);
      const first = last("show_row").request;
      answerData({ masking: "all" });
      hear("row_shown", { request: first, index: 11, count: 30, line: 12, source: "", texts: [], why: "" });
      const late = preview.row.value.index;
      const asked = last("show_row");
      answerRow(11);
      answer({ late, asked: asked.index, differs: asked.request !== first, row: preview.row.value.index });
    """)
    assert told == {"late": 0, "asked": 11, "differs": True, "row": 11}


def test_a_row_that_is_asked_for_while_the_data_is_read_again_is_asked_of_what_comes() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      answerRow(4);
      reading.readAgain({ use_mended: true });
      sent.length = 0;
      preview.goTo(7);
      const between = names();
      sent.push({ type: "read_dataset", request: 2 });
      answerData({ request: 2 });
      answer({ between, index: last("show_row").index });
    """)
    assert told == {"between": [], "index": 7}


def test_a_held_key_asks_for_where_it_has_come_to() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      answerRow(0);
      sent.length = 0;
      for (let times = 0; times < 5; times += 1) preview.walk(1);
      answerRow(1);
      answerRow(5);
      answer({ asked: sent.map(({ index }) => index), row: preview.row.value.index });
    """)
    assert told == {"asked": [1, 5], "row": 5}


def test_a_row_that_is_left_out_gives_its_place_to_the_next_and_a_wrong_number_is_told() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      answerRow(3);
      answerData({ on_long: "drop" });
      const line = last("show_row");
      answerRow(0, { why: "Line 4 holds no row that can be shown." });
      const instead = last("show_row");
      answerRow(3);
      preview.goToNumber("31");
      const message = preview.message.value;
      answer({ line: [line.line, line.index], instead: [instead.line ?? null, instead.index], message });
    """)
    assert told == {"line": [4, 3], "instead": [None, 3], "message": "There are rows 1 to 30."}


def test_another_dataset_of_the_same_name_begins_at_its_first_row() -> None:
    told = run("""
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      answerRow(9);
      reading.take({ files: [file("a.jsonl")] });
      const between = preview.row.value;
      answerData();
      answer([between, last("show_row").index, last("show_row").line ?? null]);
    """)
    assert told == [None, 0, None]


# -------------------------------------------------------------------------------------------------------- validation


def test_a_validation_file_is_read_again_with_its_dataset_and_not_with_another() -> None:
    told = run("""
      const part = { name: "check.jsonl", rows: 2, good_rows: 2, overlap: 0, report: { groups: [] } };
      const suggested = { validation_fraction: 0.1, learning_rate: 1e-4 };
      reading.take({ files: [file("a.jsonl")] });
      answerData();
      data.validationReading.value = { files: [file("check.jsonl")], name: "check.jsonl", done: 0, total: 0 };
      answerData({ validation: part });
      const used = [data.validationReading.value, data.dataset.value.validation.name];
      reading.readAgain({ use_mended: true });
      answerData({ suggested });
      const again = last("read_validation").files[0].name;
      hear("failed", { where: "dataset", message: "broken", details: null });
      const failed = [data.validationReading.value, Object.keys(problems.problems.value)];
      sent.length = 0;
      reading.take({ files: [file("b.jsonl")] });
      answerData({ title: "b.jsonl", suggested });
      answer({ used, again, failed, other: names().includes("read_validation") });
    """)
    assert told == {
        "used": [None, "check.jsonl"],
        "again": "check.jsonl",
        "failed": [None, ["validation-problem"]],
        "other": False,
    }


# ------------------------------------------------------------------------------------------------------------- files


def zipped(names: list[str], comment: bytes = b"") -> str:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "some words " * 50)
        archive.comment = comment
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize(
    ("names", "use"),
    [
        (["train.jsonl"], "dataset"),
        (["data/", "data/für alle.csv", "data/README.md"], "dataset"),
        (["adapter_config.json", "adapter_model.safetensors", "README.md"], "adapter"),
        (["my/adapters.safetensors", "my/adapter_config.json"], "adapter"),
        (["lora.gguf", "notes.txt"], "adapter"),
        (["cat.png"], "adapter"),
        ([], "adapter"),
    ],
)
def test_what_a_zip_is_for_is_told_by_the_names_in_it(names: list[str], use: str) -> None:
    told = run(
        """
      const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
      const uses = [];
      for (const text of zips) uses.push(await files.useOfFiles([{ name: "Some.ZIP", blob: new Blob([bytes(text)]) }]));
      answer(uses);
    """,
        {"zips": [zipped(names), zipped(names, b"a comment with PK in it, " * 9)]},
    )
    assert told == [use, use]


def test_what_is_no_zip_at_all_is_the_adapters_to_complain_about() -> None:
    told = run("""
      const uses = [];
      for (const bytes of [[], [80, 75, 5, 6], new Array(200).fill(80)]) {
        uses.push(await files.useOfFiles([{ name: "x.zip", blob: new Blob([Uint8Array.from(bytes)]) }]));
      }
      const model = [{ name: "m/config.json" }, { name: "m/x.safetensors" }];
      answer([...uses, files.useOf([{ name: "a.jsonl" }]), files.useOf(model)]);
    """)
    assert told == ["adapter", "adapter", "adapter", "dataset", "model"]


def test_files_of_a_folder_are_data_by_their_names_and_others_by_their_content() -> None:
    told = run("""
      panel.dropData([file("photos/cat.png"), file("photos/notes.docx")]);
      const none = [names(), problems.problems.value["dataset-problem"].message];
      panel.dropData([file("ships/cat.png"), file("ships/a.jsonl"), file("anything.bin")]);
      answer({ none, read: last("read_dataset").files.map(({ name }) => name) });
    """)
    assert told["none"][0] == []
    assert told["none"][1].startswith("Nothing in this folder can be read as data. It holds cat.png, notes.docx. ")
    assert told["read"] == ["ships/a.jsonl", "anything.bin"]
