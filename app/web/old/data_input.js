// How data gets in: files chosen, dropped or pasted, folders, and text pasted into a small editor.

import { byId } from "./dom.js";
import { dropZone, fromInput } from "./files.js";
import { showProblem, toast } from "./problems.js";
import { isRunning, state, subscribe } from "./store.js";

const READABLE = /\.(jsonl|ndjson|json|csv|tsv|tab|txt|md|gz)$/i;

/** Files of a drop that may be data. Those dropped by themselves all are: their content decides; of a folder's, the
    names do. `[]` when nothing is left, after a word about it. */
export function readable(files) {
  const good = files.filter(({ name, blob }) => !name.includes("/") || (READABLE.test(name) && blob.size > 0));
  if (good.length) return good;
  const names = files.slice(0, 3).map(({ name }) => name.split("/").pop());
  const found = files.length ? `It holds ${names.join(", ")}${files.length > 3 ? " and others" : ""}.` : "It is empty.";
  const message = `Nothing in this folder can be read as data. ${found} Wanted are .jsonl, .json, .csv, .tsv or .txt files, or gzip of them.`;
  showProblem("dataset-problem", { message });
  return [];
}

/** `take(wanted)` gets {files} or {text} in place of what is there, `add(files)` what comes to it. */
export function setUpInput({ take, add }) {
  const takeFiles = (files) => {
    const good = readable(files);
    if (good.length) take({ files: good });
  };
  dropZone(byId("dataset-drop"), byId("dataset-input"), takeFiles);
  byId("dataset-add").addEventListener("change", ({ target }) => {
    const files = fromInput(target);
    target.value = "";
    if (files.length) add(files);
  });
  setUpPaste({ take, add, takeFiles });
}

function setUpPaste({ take, add, takeFiles }) {
  const form = byId("paste"), field = byId("paste-text");
  const open = (text = "") => {
    form.hidden = false;
    byId("paste-add").hidden = !state.dataset;
    if (text) field.value = text;
    field.focus();
    form.scrollIntoView({ block: "nearest" });
  };
  const close = () => {
    const hadFocus = form.contains(document.activeElement);
    form.hidden = true;
    field.value = "";
    if (hadFocus) byId(state.dataset ? "dataset-title" : "paste-open").focus();
  };
  const use = (give) => {
    if (!field.value.trim()) return field.focus();
    const text = field.value;
    close();
    give(text);
  };
  byId("paste-open").addEventListener("click", () => open());
  byId("paste-cancel").addEventListener("click", close);
  byId("paste-add").addEventListener("click", () => use((text) => add([pasted(text)])));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    use((text) => take({ text }));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
    const files = [...(event.clipboardData?.files ?? [])].map((file) => ({ name: file.name, blob: file }));
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (!files.length && !text.trim()) return;
    event.preventDefault();
    if (isRunning()) return toast("Another dataset can be read when the run is over.");
    if (files.length) return takeFiles(files);
    if (state.dataset) return open(text); // what is there is not given up for a slip of the fingers
    if (!state.reading) take({ text });
  });
  subscribe(({ reading }) => {
    if (reading && !form.hidden) close();
  });
}

/** Pasted text as a file among others. */
export const pasted = (text) => ({ name: "Pasted text", blob: new Blob([text], { type: "text/plain" }) });
