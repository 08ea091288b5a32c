// What the open model is called on Hugging Face: asked for where its files do not say it, remembered for the next time.

import { signal } from "@preact/signals";
import { train } from "../../link/workers";
import type { ModelOpened } from "../../protocol";
import type { Area } from "../../store/bus";
import { model } from "../../store/page";
import { readRemembered, remember } from "../../store/remembered";
import { modelText, shelfText } from "../../text";

const KEY = "lora-lab base models"; // localStorage: {model: OWNER/NAME}
const REMEMBERED = 100;

const name = signal(""); // what stands in the field
const problem = signal("");

const keyOf = (one: ModelOpened): string => `${one.name} ${one.size_bytes}`;
const tellName = (base_model: string): void => train.send("name_base_model", { base_model });

export const baseModelArea: Area = {
  train: {
    base_model_named: ({ base_model, problem: said }) => {
      problem.value = said;
      const opened = model.peek();
      if (said || !opened) return;
      name.value = base_model;
      remember(KEY, keyOf(opened), base_model, REMEMBERED);
    },
  },
  own: {
    model_came: ({ model: opened }) => {
      name.value = problem.value = "";
      const known = readRemembered(KEY)[keyOf(opened)];
      if (!opened.base_model && typeof known === "string") tellName(known);
    },
  },
};

export function BaseModel() {
  return (
    <div class={problem.value ? "field wide wrong" : "field wide"} id="base-model-field" hidden={!model.value || Boolean(model.value.base_model)}>
      <label for="base-model">{shelfText.baseModel} <span class="term">{shelfText.baseModelTerm}</span></label>
      <input type="text" id="base-model" data-testid="base-model" placeholder={modelText.name} maxLength={200} autoComplete="off"
        autoCapitalize="none" spellcheck={false} aria-describedby="base-model-hint base-model-error" aria-invalid={problem.value !== ""}
        value={name.value} onInput={(event) => (name.value = event.currentTarget.value)} onChange={(event) => tellName(event.currentTarget.value)} />
      <p class="hint" id="base-model-hint">{shelfText.baseModelHint}</p>
      <p class="field-error" id="base-model-error" role="alert">{problem.value}</p>
    </div>
  );
}
