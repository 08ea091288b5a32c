// A model that a person has chosen files of: what they say, and whether a run fits, before it takes the open one's place.

import { byId, setText } from "./dom.js";
import { readSettings } from "./settings.js";

let train, openModel;
let chosen = null; // the files
let request = 0;

/** `open({files})` opens the model that was looked at. */
export function setUpCandidate(link, { open }) {
  [train, openModel] = [link, open];
  train.on("model_checked", (event) => {
    if (event.request === request && chosen) show(event);
  });
  for (const end of ["fatal", "died"]) train.on(end, () => (byId("candidate").hidden = true)); // nothing will be said of it
  byId("candidate-open").addEventListener("click", () => {
    const files = chosen;
    byId("model-dialog").close();
    openModel({ files });
  });
  byId("model-dialog").addEventListener("close", () => {
    chosen = null;
    byId("candidate").hidden = true;
  });
}

/** Show the dialog with these files in it. */
export function offerModel(files) {
  const dialog = byId("model-dialog");
  if (!dialog.open) dialog.showModal();
  chosen = files;
  request += 1; // answers about other files are told by it
  const { settings } = readSettings();
  show({ name: files.length === 1 ? files[0].name : `${files.length} files`, verdict: "reading",
    about: "", words: "Reading what it is, to see whether a run fits this GPU…" });
  train.send("check_model", { files, settings: settings ?? null, request });
}

function show({ name, about, verdict, words }) {
  const box = byId("candidate"), button = byId("candidate-open");
  box.hidden = false;
  box.dataset.verdict = verdict;
  if (name) setText(byId("candidate-name"), name);
  setText(byId("candidate-about"), about);
  setText(byId("candidate-words"), words);
  button.hidden = ["reading", "refused"].includes(verdict);
  button.className = verdict === "too large" ? "secondary" : "primary";
  setText(button, verdict === "too large" ? "Use it all the same" : "Use this model");
  box.scrollIntoView({ block: "nearest" });
  if (!button.hidden) button.focus();
}
