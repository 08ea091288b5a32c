// Rows to check on from a file of their own, in place of a share of the dataset that is held back.

import { isOutdated } from "./data.js";
import { drawKinds } from "./data_problems.js";
import { byId, formatCount, setText } from "./dom.js";
import { dropZone } from "./files.js";
import { showProblem } from "./problems.js";
import { isRunning, state, subscribe, update } from "./store.js";

let train = null; // the train worker's link
let used = null; // {files, of: the dataset's title}: to be read again when that dataset is
let shown; // the part whose problems are drawn
let asking = false; // the worker was told of another file, or of none
let heldBackHint = ""; // what the page says of rows that are held back

/** Take a validation file. `link` is the train worker's; `plan()` when there is another part to check on. */
export function setUpValidation(link, { plan }) {
  train = link;
  heldBackHint = byId("set-validation-hint").textContent;
  dropZone(byId("validation"), byId("validation-input"), (files) => {
    if (state.dataset && !isRunning() && !state.reading && !state.validationReading) take(files);
  });
  byId("validation-remove").addEventListener("click", () => {
    used = null;
    asking = true;
    train.send("read_validation", { files: [] });
    byId("validation-input").focus();
  });
  train.on("dataset_ready", (event) => {
    if (isOutdated(event)) return;
    const { title, suggested, validation } = event;
    if (validation && state.validationReading) used = { files: state.validationReading.files, of: title };
    if (asking) queueMicrotask(plan);
    asking = false;
    if (state.validationReading) return update({ validationReading: null });
    if (!suggested || validation || !used) return;
    if (used.of === title) take(used.files); // the dataset was read anew, with other columns or mended rows
    else used = null;
  });
  train.on("dataset_cleared", () => {
    used = null;
    update({ validationReading: null });
  });
  train.on("failed", (event) => {
    if (event.where !== "dataset" || !state.validationReading) return;
    asking = false;
    update({ validationReading: null });
    showProblem("validation-problem", event);
  });
  subscribe(draw);
}

function take(files) {
  showProblem("validation-problem", null);
  update({ validationReading: { files, name: files.map(({ name }) => name).join(", "), done: 0, total: 0 } });
  asking = true;
  train.send("read_validation", { files });
}

function draw({ dataset, validationReading }) {
  const part = dataset?.validation;
  byId("validation").dataset.state = validationReading ? "reading" : part ? "used" : "none";
  byId("validation-input").disabled = !dataset || Boolean(validationReading) || isRunning();
  byId("validation-remove").hidden = !part;
  byId("validation-remove").disabled = Boolean(validationReading) || isRunning();
  setText(byId("validation-title"), part ? part.name : "Validation file");
  drawProblems(part);
  byId("set-validation").readOnly = Boolean(part);
  byId("set-validation").closest(".field").classList.toggle("unused", Boolean(part));
  setText(byId("set-validation-hint"), part ? "The file is used instead" : heldBackHint);
  setText(byId("validation-text"), validationReading ? `Reading ${validationReading.name}…` : part ? about(part)
    : dataset ? "Rows of your own to check on, in place of held back ones." : "Add a dataset first; then a file of rows to check on can stand beside it.");
}

function drawProblems(part) {
  const same = part && shown && part.name === shown.name && JSON.stringify(part.report.groups) === JSON.stringify(shown.report.groups);
  shown = part;
  if (same) return; // what a person unfolded stays unfolded
  const groups = (part?.report.groups ?? []).filter(({ severity }) => severity !== "info");
  byId("validation-kinds").replaceChildren(...drawKinds(groups, part?.report, false));
}

function about({ rows, good_rows, overlap, overlap_lines }) {
  const bad = rows - good_rows;
  const said = [bad ? `${formatCount(good_rows)} of ${count(rows, "row")} to check on; the ${bad === 1 ? "other" : `other ${formatCount(bad)}`} cannot be used.`
    : `${count(rows, "row")} to check on.`];
  if (!overlap) said.push("None of them stands in the training data.");
  else {
    const lines = overlap_lines.slice(0, 4).map(([line, other]) => `line ${formatCount(line)} (there line ${formatCount(other)})`).join(", ");
    const more = overlap > 4 ? ` and ${formatCount(overlap - 4)} more` : "";
    said.push(`${count(overlap, "training row")} ${overlap === 1 ? "stands" : "stand"} in it too and ${overlap === 1 ? "is" : "are"} left out: ${lines}${more}.`);
  }
  return said.join(" ");
}

const count = (number, word) => `${formatCount(number)} ${word}${number === 1 ? "" : "s"}`;
