// What the open model is called on Hugging Face: asked for where its files do not say it, remembered for the next time.

import { byId, setText } from "./dom.js";
import { readRemembered, remember } from "./remembered.js";
import { state } from "./store.js";

const KEY = "lora-lab base models"; // localStorage: {model: OWNER/NAME}
const REMEMBERED = 100;

let train;

export function setUpBaseModel(link) {
  train = link;
  byId("base-model").addEventListener("change", (event) => name(event.target.value));
  train.on("base_model_named", ({ base_model, problem }) => {
    setText(byId("base-model-error"), problem);
    byId("base-model").setAttribute("aria-invalid", String(Boolean(problem)));
    if (problem || !state.model) return;
    byId("base-model").value = base_model;
    remember(KEY, keyOf(state.model), base_model, REMEMBERED);
  });
}

/** A model is open: ask for its name where nothing says it, and give the one of last time. */
export function askForBaseModel(model) {
  byId("base-model-field").hidden = Boolean(model.base_model);
  byId("base-model").value = "";
  setText(byId("base-model-error"), "");
  const known = readRemembered(KEY)[keyOf(model)];
  if (!model.base_model && known) name(known);
}

const name = (base_model) => train.send("name_base_model", { base_model });
const keyOf = ({ name, size_bytes }) => `${name} ${size_bytes}`;
