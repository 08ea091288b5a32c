// "Copy report": what somebody who shall help needs to know, and no word of anybody's data, rows or file names.
//
// What an event says is taken by name: whatever is not listed here stays out.

import type { TrainSettings } from "../protocol";
import type { Heard, HeardEvent, Kind } from "./link";

const KEPT = 60; // events
const FIELDS: { readonly [K in keyof Heard]?: readonly (keyof Heard[K])[] } = {
  boot: ["phase", "done", "total"],
  ready: ["version", "python"],
  busy: ["what"],
  fatal: ["message"],
  died: ["seconds", "doing"],
  gpu: ["state", "name", "vendor", "backend", "is_software", "message", "losses"],
  storage: ["available", "persistent", "used_bytes", "quota_bytes"],
  model_opened: ["parameters", "layers", "context_length", "weight_form", "built_in", "size_bytes"],
  model_progress: ["phase", "done", "total"],
  model_ready: ["weights_bytes", "memory_bytes"],
  model_released: [],
  training_planned: ["total_steps", "memory_bytes", "recomputed_layers"],
  training_timed: ["step_ms", "tokens_per_s"],
  training_state: ["state", "done", "total"],
  training_resumed: ["step", "total_steps", "differs"],
  notice: [],
  training_step: ["step", "total_steps", "loss", "grad_norm", "tokens_per_s"],
  validation_loss: ["step", "loss"],
  training_done: ["stopped"],
  dataset_ready: ["rows", "good_rows", "problem_count"],
  reply_done: ["new_tokens", "tokens_per_s", "finish_reason"],
  failed: ["where", "kind"],
};
const REPEATED = ["training_step", "model_progress", "training_state", "busy"]; // of these only the last in a row is kept
// Errors whose words are about the computer, the model's files or the storage. Others may quote a row.
const OPEN_KINDS = ["DeviceError", "KernelError", "OutOfMemoryError", "StorageError", "FullError", "MemoryError", "CheckpointError"];

type Kept = { at: number; worker: Kind; type: string; message?: string; trace?: string[] } & Record<string, unknown>;
const events: Kept[] = [];
const known: { worker: object | null; gpu: Kept | null; error: Kept | null } = { worker: null, gpu: null, error: null };

/** Remember an event of a worker, as far as it may be told. */
export function note(worker: Kind, event: HeardEvent): void {
  const fields = FIELDS[event.type] as readonly string[] | undefined;
  if (!fields) return;
  const kept: Kept = { at: Math.round(performance.now()), worker, type: event.type };
  const said = event as unknown as Record<string, unknown>;
  for (const name of fields) if (said[name] !== undefined) kept[name] = said[name];
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
function traceOf(details: string | null): string[] {
  const lines = (details ?? "").split("\n").map((line) => line.trim());
  const places = lines.filter((line) => /^File ".*", line \d+/.test(line));
  return places.concat(lines.flatMap((line) => /^([A-Za-z_.]*(?:Error|Exception|Interrupt))(?::|$)/.exec(line)?.[1] ?? []));
}

async function adapterFacts(): Promise<object> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return { limits: null, features: [] };
  const limits: Record<string, unknown> = {};
  const all = adapter.limits as unknown as Record<string, unknown>;
  for (const name in all) limits[name] = all[name];
  const { vendor, architecture, device, description } = adapter.info ?? {};
  return { info: { vendor, architecture, device, description }, limits, features: [...adapter.features].sort() };
}

/** Return the report as text. `settings` are the form's. */
export async function report(settings: TrainSettings | undefined): Promise<string> {
  const about = {
    lora_lab: document.body.dataset.version, ...known.worker, browser: navigator.userAgent, cores: navigator.hardwareConcurrency,
    memory_gb: (navigator as { deviceMemory?: number }).deviceMemory, gpu: known.gpu, adapter: await adapterFacts(), settings,
    error: known.error, events,
  };
  return JSON.stringify(about, null, 1);
}
