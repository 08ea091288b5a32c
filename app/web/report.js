// "Copy report": what somebody who shall help needs to know, and no word of anybody's data, rows or file names.
//
// What an event says is taken by name: whatever is not listed here stays out.

import { byId, copyText } from "./dom.js";

const KEPT = 60; // events
const FIELDS = {
  boot: ["phase", "done", "total"], ready: ["version", "python"], busy: ["what"], fatal: ["message"], died: ["seconds", "doing"],
  gpu: ["state", "name", "vendor", "backend", "is_software", "message", "losses"], storage: ["available", "persistent", "used_bytes", "quota_bytes"],
  model_opened: ["parameters", "layers", "context_length", "weight_form", "built_in", "size_bytes"], model_progress: ["phase", "done", "total"],
  model_ready: ["weights_bytes", "memory_bytes"], model_released: [], training_planned: ["total_steps", "memory_bytes", "recomputed_layers"],
  training_timed: ["step_ms", "tokens_per_s"], training_state: ["state", "done", "total"], training_resumed: ["step", "total_steps", "differs"], notice: [],
  training_step: ["step", "total_steps", "loss", "grad_norm", "tokens_per_s"], validation_loss: ["step", "loss"],
  training_done: ["stopped"], dataset_ready: ["rows", "good_rows", "problem_count"], reply_done: ["new_tokens", "tokens_per_s", "finish_reason"],
  failed: ["where", "kind"],
};
const REPEATED = ["training_step", "model_progress", "training_state", "busy"]; // of these only the last in a row is kept
// Errors whose words are about the computer, the model's files or the storage. Others may quote a row.
const OPEN_KINDS = ["DeviceError", "KernelError", "OutOfMemoryError", "StorageError", "FullError", "MemoryError", "CheckpointError"];

const events = []; // {at, worker, type, ...}
const known = { worker: null, gpu: null, error: null };

/** Remember an event of a worker, as far as it may be told. */
export function note(worker, event) {
  const fields = FIELDS[event.type];
  if (!fields) return;
  const kept = { at: Math.round(performance.now()), worker, type: event.type };
  for (const name of fields) if (event[name] !== undefined) kept[name] = event[name];
  if (event.type === "failed") {
    if (OPEN_KINDS.includes(event.kind)) kept.message = event.message;
    kept.trace = traceOf(event.details);
  }
  if (event.type === "fatal" && kept.message?.includes("\n")) {
    kept.trace = traceOf(kept.message); // a traceback, whose last line may quote anything
    delete kept.message;
  }
  if (event.type === "failed" || event.type === "fatal" || event.type === "died") known.error = kept;
  if (event.type === "ready") known.worker = { version: event.version, python: event.python };
  if (event.type === "gpu" && worker === "train") known.gpu = kept;
  const last = events.at(-1);
  if (last && REPEATED.includes(event.type) && last.type === event.type && last.worker === worker) events.pop();
  events.push(kept);
  if (events.length > KEPT) events.shift();
}

/** Of a traceback: the places, and the names of the errors without what they say. */
function traceOf(details) {
  const lines = (details ?? "").split("\n").map((line) => line.trim());
  return lines.filter((line) => /^File ".*", line \d+/.test(line)).concat(
    lines.map((line) => /^([A-Za-z_.]*(?:Error|Exception|Interrupt))(?::|$)/.exec(line)?.[1]).filter(Boolean));
}

async function adapterFacts() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return { limits: null, features: [] };
  const limits = {};
  for (const name in adapter.limits) limits[name] = adapter.limits[name];
  const { vendor, architecture, device, description } = adapter.info ?? {};
  return { info: { vendor, architecture, device, description }, limits, features: [...adapter.features].sort() };
}

/** Return the report as text. `settings` are the form's. */
export async function report(settings) {
  const about = {
    lora_lab: document.body.dataset.version, ...known.worker, browser: navigator.userAgent, cores: navigator.hardwareConcurrency,
    memory_gb: navigator.deviceMemory, gpu: known.gpu, adapter: await adapterFacts(), settings, error: known.error, events,
  };
  return JSON.stringify(about, null, 1);
}

/** `settings()` returns what the form says. */
export function setUpReportButton(settings) {
  const button = byId("copy-report");
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const copied = await copyText(await report(settings()));
    button.textContent = copied ? "Copied: no word of your data is in it" : "The browser refused to copy";
    setTimeout(() => (button.textContent = label), 4000);
  });
}
