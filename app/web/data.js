// Step 1: takes a file or the sample, shows what Python says is in it, asks for consent when some rows are bad.

import { setUpPreview } from "./data_preview.js";
import { setUpReport } from "./data_report.js";
import { byId, create, formatBytes, formatCount, setText } from "./dom.js";
import { dropZone } from "./files.js";
import { showProblem } from "./problems.js";
import { isRunning, state, subscribe, update } from "./store.js";

const SHOWN_PROBLEMS = 50;
let shown = null; // the dataset that is drawn

/** `read({files})` or `read({sample})` asks the train worker to read; `clear()` to forget. */
export function setUpData(train, { read, clear }) {
  dropZone(byId("dataset-drop"), byId("dataset-input"), (files) => read({ files }));
  for (const button of document.querySelectorAll(".sample-button")) {
    button.addEventListener("click", () => read({ sample: button.dataset.sample }));
  }
  byId("dataset-remove").addEventListener("click", () => {
    clear();
    byId("dataset-input").focus();
  });
  byId("consent").addEventListener("change", (event) => update({ consent: event.target.checked }));
  subscribe(draw);
  setUpReport(train);
  setUpPreview(train);
}

function draw({ dataset, reading, consent }) {
  byId("data-body").dataset.state = reading ? "reading" : dataset ? "ready" : "empty";
  if (reading) drawReading(reading);
  for (const button of document.querySelectorAll(".sample-button")) button.disabled = Boolean(reading);
  byId("dataset-remove").disabled = isRunning();
  byId("consent").disabled = isRunning();
  byId("consent").checked = consent;
  if (dataset === shown) return;
  shown = dataset;
  if (!dataset) return;
  showProblem("dataset-problem", null);
  setText(byId("dataset-title"), dataset.title);
  drawProblems(dataset);
}

function drawReading({ done, total, unit, name }) {
  const bar = byId("reading-progress");
  if (total) bar.value = done / total;
  else bar.removeAttribute("value");
  if (!total && (state.worker.phase !== "ready" || !state.model)) {
    setText(byId("reading-text"), `${name} is next, as soon as the model's tokenizer is there.`);
    return;
  }
  const amount = unit === "rows" ? (count) => `${formatCount(count)} rows` : formatBytes;
  setText(byId("reading-text"), total ? `Reading ${name}: ${amount(done)} of ${amount(total)}` : `Reading ${name}…`);
}

function drawProblems({ report: { problems }, problem_count, rows, good_rows, can_train }) {
  const box = byId("dataset-errors");
  box.replaceChildren();
  box.hidden = problem_count === 0;
  byId("consent-row").hidden = problem_count === 0 || !can_train;
  if (!problem_count) return;
  const errors = problems.filter(({ severity }) => severity === "error");
  const head = good_rows || rows > 1
    ? `${formatCount(problem_count)} of ${formatCount(rows)} rows cannot be used` : "This file cannot be used";
  const list = create("ol", { tabindex: 0, "aria-label": "What is wrong, line by line" }, ...errors.slice(0, SHOWN_PROBLEMS).map(drawProblem));
  box.append(create("h3", {}, head), list);
  const rest = problem_count - Math.min(errors.length, SHOWN_PROBLEMS);
  if (rest > 0) box.append(create("p", {}, `… and ${formatCount(rest)} more. Mend these first, then drop the file again.`));
  const word = good_rows === 1 ? "row" : "rows";
  setText(byId("consent-text"), `Leave the bad rows out and train on the ${formatCount(good_rows)} good ${word}`);
}

function drawProblem({ line, column, message, near }) {
  const place = column ? `Line ${line}, column ${column}` : `Line ${line}`;
  return create("li", {}, create("strong", {}, place), create("span", {}, message), near ? create("code", {}, near) : null);
}
