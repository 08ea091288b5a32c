// Bytes that are no UTF-8: what they read like in other encodings, as Python made it; the person chooses by looking.

import { byId, create, setText } from "./dom.js";
import { isRunning, subscribe } from "./store.js";

let shown = null; // the dataset that is drawn

/** `use(name)` reads the data again in that encoding; null: as UTF-8 again. */
export function setUpEncoding({ use }) {
  byId("encodings-list").addEventListener("click", ({ target }) => {
    const chosen = target.closest("button");
    if (chosen) use(chosen.value);
  });
  byId("encoding-undo").addEventListener("click", () => use(null));
  subscribe(({ dataset }) => {
    for (const button of byId("encodings").querySelectorAll("button")) button.disabled = isRunning();
    if (dataset && dataset !== shown) draw(dataset.report);
    shown = dataset;
  });
}

function draw({ encoding, encodings }) {
  byId("encodings").hidden = !encodings.length && !encoding;
  byId("encoding-undo").hidden = !encoding;
  setText(byId("encodings-title"), encoding ? `Files that are not UTF-8 are read as ${encoding}.` : "Not UTF-8. Which of these reads right?");
  byId("encodings-list").hidden = encodings.length === 0 || Boolean(encoding);
  byId("encodings-list").replaceChildren(...encodings.map(({ name, label, text }) =>
    create("button", { type: "button", value: name, "data-encoding": name, disabled: isRunning() },
      create("span", { class: "encoding-text", dir: "auto" }, text), create("span", { class: "hint" }, `${label} · ${name}`))));
}
