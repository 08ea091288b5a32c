// Step 1's numbers: what Python says is in the dataset that is open.

import { byId, create } from "./dom.js";
import { subscribe } from "./store.js";

let shown = null; // the dataset that is drawn

/** Draw the report of each dataset that comes. `train` is the train worker's link. */
export function setUpReport(train) {
  subscribe(draw);
}

function draw({ dataset }) {
  if (dataset === shown) return;
  shown = dataset;
  if (!dataset) return;
  byId("dataset-summary").replaceChildren(...dataset.facts.map(({ label, value, hint }) =>
    create("div", { title: hint || null }, create("dt", {}, label), create("dd", {}, value))));
  byId("dataset-notes").replaceChildren(...dataset.notes.map((note) => create("li", {}, note)));
}
