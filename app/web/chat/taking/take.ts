// An adapter is taken along: what it would be, writing it into a folder or for a download, stopping.

import { saveFile } from "../../dom";
import { train } from "../../link/workers";
import type { ExportWritten } from "../../protocol";
import type { Area } from "../../store/bus";
import { adapters } from "../../store/chat";
import {
  FORMS, form, kind, planned, planProblem, system, taken, takenAdapter, whyNotTaken, writing, written, type ExportKind,
  type Going, type Writing,
} from "../../store/exports";
import { showProblem, toast } from "../../store/problems";
import { takeText } from "../../text";
import { fileName } from "./commands";
import { tarOf } from "./tar";

const LONG_MS = 20000; // of a notice of something that took long

type Picker = (options: { mode: "readwrite"; id: string }) => Promise<FileSystemDirectoryHandle>;
const picker = (): Picker | undefined => (globalThis as { showDirectoryPicker?: Picker }).showDirectoryPicker;

/** Whether this browser lets a page write into a folder. */
export const canPick = (): boolean => picker() !== undefined;

/** Open the dialog for an adapter; while one is being written, for that one. */
export function takeAlong(id: string): void {
  taken.value = writing.peek()?.id ?? id;
  if (written.peek()?.id !== id) written.value = null;
  if (!writing.peek()) showProblem("export-problem", null);
  ask();
}

export function chooseKind(chosen: ExportKind): void {
  kind.value = chosen;
  form.value = FORMS[chosen][0]!;
  written.value = null;
  ask();
}

export function chooseForm(chosen: string): void {
  form.value = chosen;
  written.value = null;
  ask();
}

/** Ask what the chosen export would be. */
function ask(): void {
  planned.value = null;
  planProblem.value = "";
  const id = taken.peek();
  if (id !== null && !whyNotTaken.peek() && !writing.peek()) train.send("plan_export", { id, kind: kind.peek(), form: form.peek() });
}

/** Write what was chosen, to be downloaded. */
export function download(): void {
  const adapter = takenAdapter.peek();
  if (!adapter) return;
  const going = { ...chosen(), name: fileName(adapter.name, kind.peek()), folder: null };
  if (going.kind !== "peft") return begin(going, null);
  showBegin(going); // PEFT's files come as the zip that this page takes back
  train.send("export_adapter", { id: going.id });
}

/** Have a folder picked, and write into a new one within it. */
export async function writeToFolder(): Promise<void> {
  const adapter = takenAdapter.peek();
  const what = chosen();
  if (!adapter) return;
  try {
    const folder = await picker()!({ mode: "readwrite", id: "lora-lab" });
    const name = await freeName(folder, fileName(adapter.name, what.kind));
    begin({ ...what, name, folder }, await folder.getDirectoryHandle(name, { create: true }));
  } catch (error) {
    const { name, message } = error as DOMException;
    if (name !== "AbortError") showProblem("export-problem", { message: takeText.folderRefused(message) }); // else: nobody picked one
  }
}

const chosen = (): Omit<Going, "name" | "folder"> => ({
  id: taken.peek()!, kind: kind.peek(), form: form.peek(), model: planned.peek()?.model ?? "",
});

async function freeName(folder: FileSystemDirectoryHandle, wanted: string): Promise<string> {
  const names = new Set<string>();
  for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) names.add(name);
  let [name, number] = [wanted, 1];
  while (names.has(name)) name = `${wanted}-${(number += 1)}`;
  return name;
}

function showBegin(going: Going): void {
  const now = performance.now();
  const total_bytes = planned.peek()?.size_bytes ?? 0;
  showProblem("export-problem", null);
  written.value = null;
  writing.value = { ...going, done_bytes: 0, total_bytes, begun_ms: now, now_ms: now, stops: false };
}

function begin(going: Going, folder: FileSystemDirectoryHandle | null): void {
  showBegin(going);
  train.send("export_to", { id: going.id, kind: going.kind, form: going.form, system: going.kind === "ollama" ? system.peek().trim() : "", folder });
}

export function stop(): void {
  const now = writing.peek();
  if (now) writing.value = { ...now, stops: true };
  train.send("stop_export");
}

/** Remove what the browser keeps of the last one. */
export function drop(): void {
  const now = written.peek();
  if (now) written.value = { ...now, again: null };
  train.send("drop_export");
}

/** What was being written is no more: its folder goes too. */
function undo({ folder, name }: Writing): void {
  writing.value = null;
  void folder?.removeEntry(name, { recursive: true }).catch(() => {});
}

function arrived(event: ExportWritten, now: Writing): void {
  const { id, kind: of, form: as, name, folder, model } = now;
  const going = { id, kind: of, form: as, name, folder, model };
  const { size_bytes, files } = event;
  const only = files.length === 1 ? files[0] : undefined;
  const place = folder ? `${folder.name}/${name}` : `${name}.${only ? "gguf" : "tar"}`;
  const save = (): void => {
    if (only) saveFile(place, only.blob as Blob, "application/octet-stream");
    else saveFile(place, tarOf(name, files, Date.now()), "application/x-tar");
  };
  finish({ ...going, size_bytes, place, again: folder ? null : save });
  if (!folder) save();
}

function finish(now: NonNullable<typeof written.value>): void {
  writing.value = null;
  written.value = now;
  if (taken.peek() === now.id) return;
  const words = now.folder ? takeText.inFolder(now.place, now.size_bytes) : takeText.downloaded(now.place, now.size_bytes);
  toast(words, { label: takeText.show, run: () => void (taken.value = now.id) }, LONG_MS);
}

export const takeArea: Area = {
  train: {
    export_planned: (event) => {
      if (event.id === taken.peek() && event.kind === kind.peek() && event.form === form.peek()) planned.value = event;
    },
    export_progress: ({ id, done_bytes, total_bytes }) => {
      const now = writing.peek();
      if (now?.id === id) writing.value = { ...now, done_bytes, total_bytes, now_ms: performance.now() };
    },
    export_written: (event) => {
      const now = writing.peek();
      if (now?.id === event.id && now.kind === event.kind) arrived(event, now);
    },
    export_ended: ({ id }) => {
      const now = writing.peek();
      if (now?.id !== id) return;
      undo(now);
      toast(takeText.stopped);
      ask();
    },
    adapter_exported: ({ id, file_name, data }) => {
      const now = writing.peek();
      if (now?.id !== id || now.kind !== "peft" || now.folder) return; // the shelf gives it to the person
      const { kind: of, form: as, folder, model } = now;
      const name = file_name.replace(/\.zip$/, "");
      const size_bytes = (data as ArrayBufferView).byteLength;
      finish({ id, kind: of, form: as, folder, model, name, place: file_name, size_bytes, again: null });
    },
    failed: (event) => {
      const now = writing.peek();
      if (event.where === "adapter" && event.subject === now?.id && now?.kind === "peft") writing.value = null; // told at the shelf
      if (event.where !== "export") return;
      if (now && now.id === event.subject) {
        undo(now);
        showProblem("export-problem", event);
        if (taken.peek() !== now.id) toast(event.message, { label: takeText.title, run: () => void (taken.value = now.id) }, LONG_MS);
      } else if (event.subject === taken.peek()) {
        planProblem.value = event.message;
      }
    },
    adapter_deleted: ({ id }) => {
      if (taken.peek() === id) taken.value = null;
    },
    adapter_list: () => {
      if (taken.peek() !== null && !adapters.peek()?.some(({ id }) => id === taken.peek())) taken.value = null;
      else if (taken.peek() !== null && !planned.peek()) ask();
    },
  },
  own: {
    model_came: ask,
    train_gone: () => {
      const now = writing.peek();
      if (!now) return;
      undo(now);
      showProblem("export-problem", { message: takeText.workerEnded });
    },
    train_anew: () => {
      planned.value = null;
      if (written.peek()) written.value = { ...written.peek()!, again: null };
    },
  },
};
