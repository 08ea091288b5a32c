"""An adapter that is taken along, without a browser: what is asked for, what is undone, the tar, the commands."""

from __future__ import annotations

import io
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli.builtin import BUILT_IN
from lora_lab.cli.main import make_parser
from lora_lab.export.plan import FORMS, KINDS
from tests.export_cases import adapter_for, export, open_path
from tests.web import run_module

MODULES = {
    "bus": "store/bus.ts", "chats": "store/chat.ts", "pages": "store/page.ts", "problems": "store/problems.ts",
    "workers": "link/workers.ts", "store": "store/exports.ts", "shelf": "chat/adapters/shelf.ts",
    "take": "chat/taking/take.ts", "commands": "chat/taking/commands.ts", "tar": "chat/taking/tar.ts",
}  # fmt: skip
BEFORE = """
Object.defineProperty(globalThis, "navigator", { value: { gpu: {} }, configurable: true });
globalThis.location = { href: "http://x/" };
const saved = [];
const link = { click() { saved.push(this.download); } };
globalThis.document = { activeElement: null, getElementById: () => null, createElement: () => link };
"""
READY = """
const { bus, chats, pages, problems, workers, store, shelf, take } = page;
const sent = [];
workers.train.ready = true;
workers.train.worker = { postMessage: (command) => sent.push(command), terminate() {} };
bus.join([pages.pageArea, shelf.shelfArea, take.takeArea]);
const hear = (type, event = {}) => bus.receive({ type, ...event }, "train");
const asked = () => sent.map(({ type }) => type);
const fail = (message, subject = "a") =>
  hear("failed", { where: "export", message, subject, details: null, kind: "" });
const opened = { name: "m", title: "m", base_model: "", built_in: false };
const adapter = { id: "a", name: "Ships, 40 steps", base_model: "o/n", fits: true, loss_curve: [], sample_answers: [] };
const plan = (more = {}) => hear("export_planned", { id: "a", kind: store.kind.value, form: store.form.value,
  size_bytes: 1000, files: 2, model: "hf:o/n", remarks: [], requantised: false, ...more });
const progress = (done) => hear("export_progress", { id: "a", kind: "x", done_bytes: done, total_bytes: 1000 });
const wrote = (files) => hear("export_written", { id: "a", kind: store.kind.value, form: store.form.value,
  size_bytes: 1000, files, remarks: [], requantised: false });
bus.tell("model_came", { model: opened, first: true });
hear("adapter_list", { adapters: [adapter] });
class Folder {
  constructor(name, there = []) { this.name = name; this.there = new Set(there); this.asked = []; }
  async *keys() { yield* this.there; }
  async getDirectoryHandle(name) { this.there.add(name); return { inner: name }; }
  async removeEntry(name, { recursive }) { if (!recursive) throw new Error("not empty"); this.there.delete(name); }
}
const pick = (folder) => { globalThis.showDirectoryPicker = async (options) => (folder.asked.push(options), folder); };
const soon = () => new Promise((then) => setTimeout(then));
"""


def run(script: str) -> Any:
    """Return what `script` gives to `answer(value)`, with a model open and one adapter on the shelf."""
    return run_module(MODULES, READY + script, before=BEFORE)


def test_the_forms_are_those_of_the_engine() -> None:
    forms = run("answer(store.FORMS);")
    assert {kind: tuple(all) for kind, all in forms.items()} == FORMS
    assert set(forms) == set(KINDS)


def test_a_size_is_asked_for_each_choice_and_a_late_answer_is_not_taken() -> None:
    told = run("""
      take.takeAlong("a");
      take.chooseKind("gguf");
      take.chooseForm("q8_0");
      plan({ form: "same", size_bytes: 7 });
      const late = store.planned.value;
      plan();
      answer({ sent: sent.map(({ kind, form }) => [kind, form]), late, size: store.planned.value.size_bytes });
    """)
    assert told == {"sent": [["ollama", "same"], ["gguf", "same"], ["gguf", "q8_0"]], "late": None, "size": 1000}


def test_what_cannot_be_made_is_told_at_the_choice() -> None:
    told = run("""
      take.takeAlong("a");
      fail("Ollama cannot say this template");
      const said = store.planProblem.value;
      take.chooseKind("gguf");
      const { "export-problem": box, "adapter-problem": shelfBox } = problems.problems.value;
      answer({ said, after: store.planProblem.value, box, shelfBox });
    """)
    assert told == {"said": "Ollama cannot say this template", "after": ""}


@pytest.mark.parametrize(
    "change, said",
    [("pages.model.value = null", "must be open"), ("adapter.fits = false", "another model: o/n"), ("0", "")],
)
def test_without_its_model_nothing_is_asked(change: str, said: str) -> None:
    told = run(f"""
      {change};
      take.takeAlong("a");
      answer({{ why: store.whyNotTaken.value, sent: asked() }});
    """)
    assert (said in told["why"], told["sent"]) == (True, [] if said else ["plan_export"])
    assert bool(told["why"]) == bool(said)


def test_a_folder_is_written_to_under_a_free_name() -> None:
    told = run("""
      const folder = new Folder("Docs", ["ships-40-steps-merged"]);
      pick(folder);
      take.takeAlong("a");
      take.chooseKind("merged");
      plan();
      await take.writeToFolder();
      const { folder: given, ...command } = sent.at(-1);
      progress(250);
      const part = store.writing.value.done_bytes;
      wrote([]);
      answer({ command, given, part, place: store.written.value.place, writing: store.writing.value,
        there: [...folder.there], asked: folder.asked, saved });
    """)
    assert told["command"] == {"type": "export_to", "id": "a", "kind": "merged", "form": "bf16", "system": ""}
    assert told["given"] == {"inner": "ships-40-steps-merged-2"}
    assert (told["part"], told["place"], told["writing"]) == (250, "Docs/ships-40-steps-merged-2", None)
    assert told["there"] == ["ships-40-steps-merged", "ships-40-steps-merged-2"] and told["saved"] == []
    assert told["asked"] == [{"mode": "readwrite", "id": "lora-lab"}]


@pytest.mark.parametrize(
    "end", ['take.stop(); hear("export_ended", { id: "a", kind: "merged" })', 'fail("the disk is full")',
            'bus.tell("train_gone", { reading: false })'],
)  # fmt: skip
def test_whatever_ends_it_nothing_of_it_is_left(end: str) -> None:
    told = run(f"""
      const folder = new Folder("Docs", ["mine"]);
      pick(folder);
      take.takeAlong("a");
      take.chooseKind("merged");
      plan();
      await take.writeToFolder();
      progress(250);
      const before = [...folder.there];
      {end};
      await soon();
      answer({{ before, there: [...folder.there], writing: store.writing.value, written: store.written.value,
        box: problems.problems.value["export-problem"]?.message, toasts: problems.toasts.value.length,
        stops: asked().includes("stop_export") }});
    """)
    assert (told["before"], told["there"]) == (["mine", "ships-40-steps-merged"], ["mine"])
    assert (told["writing"], told["written"]) == (None, None)
    assert bool(told.get("box")) != told["stops"] == bool(told["toasts"])


def test_nobody_picked_a_folder_or_it_is_refused() -> None:
    told = run("""
      take.takeAlong("a");
      plan();
      const refuse = (name) => {
        globalThis.showDirectoryPicker = () => Promise.reject(new DOMException("not here", name));
      };
      refuse("AbortError");
      await take.writeToFolder();
      const quiet = problems.problems.value["export-problem"];
      refuse("NotAllowedError");
      await take.writeToFolder();
      answer({ quiet, loud: problems.problems.value["export-problem"].message, sent: asked() });
    """)
    assert told == {"loud": "The folder cannot be written to: not here", "sent": ["plan_export"]}


def test_downloads_are_one_file_and_told_where_the_dialog_was_closed() -> None:
    told = run("""
      const blob = (text) => new Blob([text]);
      const names = [];
      for (const [kind, files] of [["gguf", [["model.gguf"]]], ["mlx", [["a"], ["b"]]]]) {
        take.takeAlong("a");
        take.chooseKind(kind);
        plan();
        take.download();
        store.taken.value = null;
        wrote(files.map(([name]) => ({ name, blob: blob(name) })));
        names.push(problems.toasts.value.at(-1).text.split(",")[0], typeof store.written.value.again);
      }
      take.takeAlong("a");
      take.chooseKind("peft");
      plan();
      take.download();
      hear("adapter_exported", { id: "a", file_name: "ships-40-steps-lora.zip", data: new Uint8Array(5) });
      const { place, name, size_bytes, model } = store.written.value;
      answer({ saved, names, peft: [place, name, size_bytes, model], writing: store.writing.value });
    """)
    gguf, mlx = "ships-40-steps-gguf.gguf", "ships-40-steps-mlx.tar"
    assert told["saved"] == [gguf, mlx, "ships-40-steps-lora.zip"]
    assert told["names"] == [gguf, "function", mlx, "function"]
    assert told["peft"] == ["ships-40-steps-lora.zip", "ships-40-steps-lora", 5, "hf:o/n"] and told["writing"] is None


def test_the_rest_is_told_once_it_is_no_guess() -> None:
    told = run("""
      const at = (ms, done_bytes) => store.leftMs({ begun_ms: 100, now_ms: 100 + ms, done_bytes, total_bytes: 1000 });
      answer([at(500, 500), at(5000, 0), at(5000, 10), at(5000, 250), at(5000, 1000)]);
    """)
    assert told == [None, None, None, 15000, 0]


def test_a_tar_is_read_by_pythons() -> None:
    made = run("""
      const files = [["config.json", "{}"], ["a.bin", "x".repeat(512)], ["empty", ""]].map(([name, text]) =>
        ({ name, blob: new Blob([text]) }));
      const bytes = new Uint8Array(await page.tar.tarOf("ships", files, 1.7e12).arrayBuffer());
      const large = page.tar.header("ships/model.gguf", 9 * 2 ** 30 + 5, 0);
      let refused = "";
      try { page.tar.header("x".repeat(101), 1, 0); } catch (error) { refused = error.message; }
      answer({ bytes: [...bytes], large: [...large], refused });
    """)
    with tarfile.open(fileobj=io.BytesIO(bytes(made["bytes"]))) as archive:
        assert archive.getnames() == ["ships/config.json", "ships/a.bin", "ships/empty"]
        contents = [archive.extractfile(member).read() for member in archive.getmembers()]  # type: ignore[union-attr]
        assert archive.getmembers()[0].mtime == 1_700_000_000
    assert contents == [b"{}", b"x" * 512, b""]
    info = tarfile.TarInfo.frombuf(bytes(made["large"]), "utf-8", "strict")
    assert (info.name, info.size) == ("ships/model.gguf", 9 * 2**30 + 5)
    assert "at most 100 bytes" in made["refused"]


def steps(kind: str, **more: object) -> list[dict[str, str]]:
    names = {"name": f"ships-{kind}", "base": "o/n", "archive": "", "isFolder": True, "model": "", **more}
    return run_module(MODULES, "answer(page.commands.stepsOf(KIND, NAMES));", more={"KIND": kind, "NAMES": names},
                      before=BEFORE)  # fmt: skip


def test_the_push_is_one_that_lora_lab_takes() -> None:
    for said, model in (("", BUILT_IN), ("hf:o/n@main", "hf:o/n@main"), ("'my model.gguf'", "my model.gguf")):
        command = shlex.split(steps("peft", model=said)[0]["code"])
        assert command[0] == "lora-lab"
        options = make_parser().parse_args(command[1:])
        assert (str(options.adapter), command[1]) == ("ships-peft", "push")
        assert options.model == model


def test_python_loads_what_the_page_says(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = open_path(tiny_model_folder)
    lora, tensors = adapter_for(base.config)
    for kind in ("peft", "merged"):
        export(base, lora, tensors, kind, "f32", tmp_path / f"ships-{kind}")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(steps("peft", base=str(tiny_model_folder))[-1]["code"], found)
    assert found["model"].peft_config["default"].r == lora.rank
    exec(steps("merged")[0]["code"], found)
    assert capsys.readouterr().out.endswith(f"{found['said'][0]['generated_text'][-1]['content']}\n")


def test_names_need_no_quotes() -> None:
    told = run("""
      const names = ["Ships, 40 steps", "Crème & 'Co'", "灯台", "x".repeat(90)];
      answer(names.map((name) => page.commands.fileName(name, "gguf")));
    """)
    assert told == ["ships-40-steps-gguf", "creme-co-gguf", "adapter-gguf", f"{'x' * 60}-gguf"]
    assert all(shlex.quote(name) == name for name in told)
    hubs = run("""answer(["o/n", "SmolLM2 135M", "a/b.gguf", "../x/y", ""].map(page.commands.hubName));""")
    assert hubs == ["o/n", "", "", "", ""]
