// Step 2's form: reads it into TrainSettings, fills it with what suits the data, shows what Python says of it.

import { chosenFormat } from "./chat_format.js";
import { byId, create, formatBytes, setText } from "./dom.js";
import { asksForColumns, isRunning, state, subscribe, whyNoPython } from "./store.js";

const numbers = {
  steps: "set-steps", batch: "set-batch", learning_rate: "set-lr", rank: "set-rank", alpha: "set-alpha",
  max_length: "set-max-length", seed: "set-seed", warmup_steps: "set-warmup", weight_decay: "set-decay",
  max_grad_norm: "set-clip", rows_at_once: "set-rows-at-once", checkpoint_every: "set-checkpoint",
  mix_neutral: "set-mix", sample_every: "set-sample-every", patience: "set-patience",
};
const choices = {
  masking: "set-masking", on_long: "set-on-long", schedule: "set-schedule", packing: "set-packing", keep: "set-keep",
  neutral: "set-neutral",
};
let expanded = true; // all settings are shown; a run folds them up to make room for its curve
const touched = new Set(); // fields that the person has set: suggestions leave them alone

/** `plan()` is called (not too often) when a setting has changed; `start()` when the form is sent. */
export function setUpSettings({ plan, start, stop, pause }) {
  const form = byId("settings");
  let timer;
  form.addEventListener("input", (event) => {
    if (event.target.name) touched.add(event.target.name);
    showFieldProblems([]);
    clearTimeout(timer);
    timer = setTimeout(plan, 250);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (!byId("train-start").disabled) start();
  });
  for (const button of document.querySelectorAll("[data-rate]")) {
    button.addEventListener("click", () => {
      byId("set-lr").value = button.dataset.rate;
      touched.add("learning_rate");
      markPreset();
      plan();
    });
  }
  byId("set-lr").addEventListener("input", markPreset);
  byId("train-stop").addEventListener("click", stop);
  byId("train-pause").addEventListener("click", pause);
  byId("settings-toggle").addEventListener("click", () => {
    expanded = !expanded;
    draw(state);
  });
  byId("set-free-chat").addEventListener("change", () => draw(state));
  markPreset();
  subscribe(draw);
}

function markPreset() {
  const rate = Number(byId("set-lr").value);
  for (const button of document.querySelectorAll("[data-rate]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.rate) === rate));
  }
}

/** Return {settings} for the worker, or {problems} when a number is none. Ranges are Python's business. */
export function readSettings() {
  const settings = {}, problems = [];
  for (const [name, id] of Object.entries(numbers)) {
    const input = byId(id);
    const text = input.value.trim();
    if (text === "" && !input.validity.badInput && "mayBeEmpty" in input.dataset) {
      settings[name] = null;
      continue;
    }
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) problems.push({ field: name, message: "A number is wanted here." });
    else if (input.step === "1" && !Number.isInteger(value)) problems.push({ field: name, message: "A whole number is wanted here." });
    else settings[name] = value;
  }
  const percent = Number(byId("set-validation").value);
  if (byId("set-validation").value.trim() === "" || !Number.isFinite(percent)) {
    problems.push({ field: "validation_percent", message: "A number is wanted here; 0 holds nothing back." });
  } else settings.validation_fraction = percent / 100;
  for (const [name, id] of Object.entries(choices)) settings[name] = byId(id).value;
  settings.chat_format = chosenFormat();
  settings.shuffle = byId("set-shuffle").checked;
  settings.save_memory = byId("set-save-memory").checked;
  settings.targets = [...document.querySelectorAll("label:not([hidden]) > [name=targets]:checked")].map((box) => box.value);
  return problems.length ? { problems } : { settings };
}

/** Offer the layers that the open model has, all of them chosen; one that it shares with the last model stays as it was. */
export function offerTargets(names) {
  for (const box of document.querySelectorAll("[name=targets]")) {
    const offered = names.includes(box.value);
    if (box.closest("label").hidden === offered) box.checked = offered;
    box.closest("label").hidden = !offered;
  }
}

/** The settings to read a dataset with, null where the person has set none that matters then. */
export function readingSettings() {
  if (!["max_length", "masking", "on_long", "chat_format"].some((name) => touched.has(name))) return null;
  return readSettings().settings ?? null;
}

/** Fill in what suits a dataset, except where the person has already decided. */
export function suggest(settings) {
  const all = { ...settings, validation_percent: Math.round(settings.validation_fraction * 100) };
  for (const [name, id] of Object.entries({ ...numbers, validation_percent: "set-validation" })) {
    if (touched.has(name)) continue;
    byId(id).value = all[name] == null ? "" : name === "learning_rate" ? shortRate(all[name]) : all[name];
  }
  for (const [name, id] of Object.entries(choices)) {
    if (!touched.has(name) && all[name]) byId(id).value = all[name];
  }
  markPreset();
}

const shortRate = (rate) => rate.toExponential().replace(/e([+-])0?/, "e$1").replace("e+", "e");

/** Show which settings cannot be used, each below its field. */
export function showFieldProblems(problems) {
  for (const element of document.querySelectorAll("#settings [data-field]")) {
    const own = problems.filter(({ field }) => field === element.dataset.field);
    const line = element.querySelector(".field-error");
    if (line) setText(line, own.map(({ message }) => message).join(" "));
    element.classList.toggle("wrong", own.length > 0);
    for (const input of element.querySelectorAll("input, select")) input.setAttribute("aria-invalid", String(own.length > 0));
    if (own.length && element.closest("details")) element.closest("details").open = true;
  }
}

/** A run begins: fold the settings up. */
export function foldSettings() {
  expanded = false;
}

function draw({ plan, phase }) {
  const running = isRunning();
  byId("settings").dataset.folded = String(!expanded);
  byId("settings-toggle").hidden = phase === "idle" && expanded;
  setText(byId("settings-toggle"), expanded ? "Fold settings" : "All settings");
  byId("settings-toggle").setAttribute("aria-expanded", String(expanded));
  byId("settings-fields").disabled = running;
  const reason = whyNot();
  byId("train-start").disabled = reason !== "";
  byId("train-start").hidden = running;
  setText(byId("train-start").querySelector("span"), phase === "done" ? "Train again" : "Start training");
  const focused = document.activeElement;
  byId("train-stop").hidden = !running;
  const stopping = phase === "stopping";
  byId("train-stop").disabled = !running || (stopping && !state.mayEnd);
  setText(byId("train-stop").querySelector("span"), stopping && state.mayEnd ? "End it at once" : "Stop");
  byId("train-pause").hidden = !running;
  byId("train-pause").disabled = phase !== "training";
  // The two buttons stand in each other's place: the focus goes along, or keyboards would lose it.
  if (running && focused === byId("train-start")) byId("train-stop").focus();
  if (!running && [byId("train-stop"), byId("train-pause")].includes(focused)) byId("train-start").focus();
  setText(byId("plan-summary"), plan?.summary ?? "");
  byId("plan-memory").hidden = !plan?.memory_bytes;
  if (plan?.memory_bytes) drawMemory(plan);
  byId("plan-notes").replaceChildren(...(plan?.notes ?? []).map((note) => create("li", {}, note)));
}

/** Why training cannot start now, in words; "" when it can. */
export function whyNot() {
  const { worker, gpu, model, modelProgress, modelProblem, dataset, reading, validationReading, plan, consent } = state;
  if (isRunning()) return "A run is going on.";
  if (worker.phase === "fatal") return whyNoPython(state);
  if (gpu.state === "none" || !navigator.gpu) return "Training needs a GPU.";
  if (gpu.state === "lost") return "There is no GPU any more; see above.";
  if (gpu.state === "again") return "The GPU was lost and is asked for anew.";
  if (modelProblem) return "Training needs a model.";
  if (!dataset && !reading) return "Add a dataset first.";
  if (!model || modelProgress || gpu.state !== "found") return "The model is on its way.";
  if (reading) return "The dataset is being read.";
  if (validationReading) return "The validation file is being read.";
  if (asksForColumns(dataset)) return "Say first which column is what.";
  if (dataset.report.asks.length) return "Say first how the rows are to be read.";
  if (!dataset.report.tokens && dataset.report.good) return "The tokens are not counted yet.";
  if (!dataset.can_train) return "The dataset has no row to train on.";
  if (dataset.problem_count && !consent) return "Some rows are bad: mend them, or agree to leave them out.";
  if (plan?.problems.length) return "Some settings cannot be used; see above.";
  return "";
}

function drawMemory(plan) {
  let { memory_bytes, memory_parts } = plan;
  if (!byId("set-free-chat").checked && state.chatBytes) { // two workers are two devices: both stand on the GPU
    memory_parts = [...memory_parts, { label: "Chat, kept awake", size_bytes: state.chatBytes }];
    memory_bytes += state.chatBytes;
  }
  setText(byId("plan-memory-total"), formatBytes(memory_bytes));
  const { recomputed_layers } = plan;
  setText(byId("plan-recomputed"), recomputed_layers && state.model ? `, recomputes ${recomputed_layers} of ${state.model.layers} layers` : "");
  const bar = byId("memory-bar");
  bar.replaceChildren(...memory_parts.map(({ size_bytes }, index) => {
    const part = create("span", { class: `part-${index % 7}` });
    part.style.flexGrow = String(size_bytes / memory_bytes);
    return part;
  }));
  byId("memory-parts").replaceChildren(...memory_parts.flatMap(({ label, size_bytes }, index) => [
    create("dt", {}, create("span", { class: `swatch part-${index % 7}` }), label), create("dd", {}, formatBytes(size_bytes))]));
}
