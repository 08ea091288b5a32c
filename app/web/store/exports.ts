// What the page knows of an adapter that is taken along: what is chosen, what it would be, how far it is, where it went.

import { computed, signal } from "@preact/signals";
import type { AdapterInfo, Commands, ExportPlanned } from "../protocol";
import { takeText } from "../text";
import { adapters } from "./chat";
import { model, modelProgress, whyNoPython, worker } from "./page";

export type ExportKind = Commands["export_to"]["kind"];

/** The kinds in the order in which they are offered, and their forms: those of lora_lab/export/plan.py, the usual first. */
export const FORMS: { readonly [kind in ExportKind]: readonly string[] } = {
  ollama: ["same", "f16", "q8_0", "bf16", "f32"],
  gguf: ["same", "f16", "q8_0", "bf16", "f32"],
  "gguf-adapter": ["f32", "f16"],
  peft: ["f32"],
  merged: ["bf16", "f16", "f32"],
  mlx: ["f32"],
};
export const KINDS = Object.keys(FORMS) as readonly ExportKind[];

/** What was asked for; `name` is that of the folder, or of the download without its ending. */
export interface Going {
  readonly id: string;
  readonly kind: ExportKind;
  readonly form: string;
  readonly name: string;
  readonly model: string; // what lora-lab calls the open model, "" for its built-in one
  readonly folder: FileSystemDirectoryHandle | null; // that the person picked; null: a download
}
export interface Writing extends Going {
  readonly done_bytes: number;
  readonly total_bytes: number;
  readonly begun_ms: number;
  readonly now_ms: number;
  readonly stops: boolean;
}
export interface Written extends Going {
  readonly size_bytes: number;
  readonly place: string; // the file's name, or the folder's
  readonly again: (() => void) | null; // download it once more, while the browser keeps it
}

export const taken = signal<string | null>(null); // the adapter that the dialog is open for
export const kind = signal<ExportKind>("ollama");
export const form = signal("same");
export const system = signal(""); // the system prompt of an Ollama folder
export const planned = signal<ExportPlanned | null>(null);
export const planProblem = signal("");
export const writing = signal<Writing | null>(null);
export const written = signal<Written | null>(null);

export const takenAdapter = computed((): AdapterInfo | null => adapters.value?.find(({ id }) => id === taken.value) ?? null);

/** Why nothing can be written now, in words; "" when it can. */
export const whyNotTaken = computed((): string => {
  const adapter = takenAdapter.value;
  if (worker.value.phase === "fatal") return whyNoPython.value;
  if (!model.value || modelProgress.value) return takeText.noModel;
  if (adapter?.fits === false) return takeText.otherModel(adapter.base_model);
  return "";
});

/** How long a writing will take from now; null while that is a guess. */
export function leftMs({ done_bytes, total_bytes, begun_ms, now_ms }: Writing): number | null {
  const took = now_ms - begun_ms;
  if (took < 1000 || done_bytes < 0.02 * total_bytes || !done_bytes) return null;
  return (took * (total_bytes - done_bytes)) / done_bytes;
}
