// Step 1: takes a file or the sample, shows what Python says is in it, asks for consent when some rows are bad.

import { byId, create, formatBytes, formatCount, setText } from "./dom.js";
import { dropZone } from "./files.js";
import { showProblem } from "./problems.js";
import { isRunning, state, subscribe, update } from "./store.js";

const SHOWN_PROBLEMS = 50;
let shown = null; // the dataset that is drawn
let row = 0; // of the preview

/** `read({file})` or `read({sample})` asks the train worker to read; `clear()` to forget. */
export function setUpData({ read, clear }) {
  dropZone(byId("dataset-drop"), byId("dataset-input"), (files) => read({ file: files[0] }));
  for (const button of document.querySelectorAll(".sample-button")) {
    button.addEventListener("click", () => read({ sample: button.dataset.sample }));
  }
  byId("dataset-remove").addEventListener("click", () => {
    clear();
    byId("dataset-input").focus();
  });
  byId("consent").addEventListener("change", (event) => update({ consent: event.target.checked }));
  byId("preview-previous").addEventListener("click", () => turnTo(row - 1));
  byId("preview-next").addEventListener("click", () => turnTo(row + 1));
  subscribe(draw);
}

function draw({ dataset, reading, consent }) {
  byId("data-body").dataset.state = reading ? "reading" : dataset ? "ready" : "empty";
  if (reading) drawReading(reading);
  for (const button of document.querySelectorAll(".sample-button")) button.disabled = Boolean(reading);
  byId("dataset-remove").disabled = isRunning();
  byId("consent").disabled = isRunning();
  byId("consent").checked = consent;
  if (dataset === shown) return;
  const sameFile = dataset?.title === shown?.title;
  shown = dataset;
  if (!dataset) return;
  showProblem("dataset-problem", null);
  setText(byId("dataset-title"), dataset.title);
  drawProblems(dataset);
  byId("dataset-summary").replaceChildren(...dataset.facts.map(({ label, value, hint }) =>
    create("div", { title: hint || null }, create("dt", {}, label), create("dd", {}, value))));
  byId("dataset-notes").replaceChildren(...dataset.notes.map((note) => create("li", {}, note)));
  turnTo(sameFile ? row : 0);
}

function drawReading({ done_bytes, total_bytes, name }) {
  const bar = byId("reading-progress");
  if (state.worker.phase !== "ready" || (!state.model && !total_bytes)) {
    setText(byId("reading-text"), `${name} is next, as soon as the model's tokenizer is there.`);
    bar.removeAttribute("value");
    return;
  }
  setText(byId("reading-text"), total_bytes
    ? `Reading ${name}: ${formatBytes(done_bytes)} of ${formatBytes(total_bytes)}` : `Reading ${name}…`);
  if (total_bytes) bar.value = done_bytes / total_bytes;
  else bar.removeAttribute("value");
}

function drawProblems({ problems, problem_count, rows, good_rows, can_train }) {
  const box = byId("dataset-errors");
  box.replaceChildren();
  box.hidden = problem_count === 0;
  byId("consent-row").hidden = problem_count === 0 || !can_train;
  if (!problem_count) return;
  const head = good_rows || rows > 1
    ? `${formatCount(problem_count)} of ${formatCount(rows)} rows cannot be used` : "This file cannot be used";
  const list = create("ol", { tabindex: 0, "aria-label": "What is wrong, line by line" }, ...problems.slice(0, SHOWN_PROBLEMS).map(drawProblem));
  box.append(create("h3", {}, head), list);
  const rest = problem_count - Math.min(problems.length, SHOWN_PROBLEMS);
  if (rest > 0) box.append(create("p", {}, `… and ${formatCount(rest)} more. Mend these first, then drop the file again.`));
  const word = good_rows === 1 ? "row" : "rows";
  setText(byId("consent-text"), `Leave the bad rows out and train on the ${formatCount(good_rows)} good ${word}`);
}

function drawProblem({ line, column, message, near }) {
  const place = column ? `Line ${line}, column ${column}` : `Line ${line}`;
  return create("li", {}, create("strong", {}, place), create("span", {}, message), near ? create("code", {}, near) : null);
}

function turnTo(index) {
  const rows = shown?.preview ?? [];
  byId("preview").hidden = rows.length === 0;
  if (!rows.length) return;
  row = Math.min(Math.max(index, 0), rows.length - 1);
  byId("preview-turns").replaceChildren(...rows[row].map(({ role, content }) =>
    create("div", { class: `turn ${role}` }, create("span", { class: "turn-role" }, role),
      create("p", {}, content.length > 600 ? `${content.slice(0, 600)}…` : content))));
  setText(byId("preview-place"), `${row + 1} of ${rows.length}`);
  byId("preview-previous").disabled = row === 0;
  byId("preview-next").disabled = row === rows.length - 1;
}
