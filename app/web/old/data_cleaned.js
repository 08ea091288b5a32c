// The cleaned file: its pieces come from Python one by one and are put together where the browser may keep them on disk.

import { byId, formatCount, saveFile, setText } from "./dom.js";
import { showProblem } from "./problems.js";
import { subscribe } from "./store.js";

let pieces = null; // Blobs of the file that is being written
let shown = null;

/** `train` is the train worker's link. */
export function setUpCleaned(train) {
  byId("cleaned-save").addEventListener("click", () => {
    if (pieces) return;
    pieces = [];
    showProblem("dataset-problem", null);
    setText(byId("cleaned-status"), "");
    byId("cleaned-progress").removeAttribute("value");
    show();
    train.send("save_cleaned", {
      mended: byId("cleaned-mended").checked,
      as_conversations: byId("cleaned-form").value === "conversations",
    });
  });
  train.on("cleaned_piece", ({ data, done_rows, total_rows }) => {
    if (!pieces) return;
    pieces.push(new Blob([data]));
    if (total_rows) byId("cleaned-progress").value = done_rows / total_rows;
    setText(byId("cleaned-status"), `${formatCount(done_rows)} of ${formatCount(total_rows)} rows`);
  });
  train.on("cleaned_done", ({ file_name, rows }) => {
    if (!pieces) return;
    saveFile(file_name, new Blob(pieces), "application/jsonl");
    end(`${file_name}: ${formatCount(rows)} rows.`);
  });
  train.on("failed", ({ where }) => where === "dataset" && end(""));
  train.on("dataset_cleared", () => end(""));
  train.on("fatal", () => end(""));
  train.on("died", () => end(""));
  subscribe(draw);
}

function end(text) {
  if (!pieces) return;
  pieces = null;
  setText(byId("cleaned-status"), text);
  show();
}

function show() {
  byId("cleaned-progress").hidden = !pieces;
  byId("cleaned-save").disabled = Boolean(pieces);
}

function draw({ dataset }) {
  if (dataset === shown) return;
  if (!dataset || shown?.name !== dataset.name) end("");
  if (dataset && shown?.name !== dataset.name) setText(byId("cleaned-status"), "");
  shown = dataset;
  if (!dataset) return;
  const { good } = dataset.report;
  const mendable = dataset.report.mendable + dataset.report.improvable;
  byId("cleaned").hidden = good + dataset.report.mendable === 0;
  byId("cleaned-mended-row").hidden = mendable === 0;
  setText(byId("cleaned-mended-text"), mendable === 1 ? "With the row that can be mended" : `With the ${formatCount(mendable)} rows that can be mended`);
}
