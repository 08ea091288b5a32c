// The runs that are kept: the table's state, notes with undo, runs beside each other, reports.

import { batch, computed, signal } from "@preact/signals";
import { saveFile } from "../dom";
import { train } from "../link/workers";
import type { RunRow, RunsCompared } from "../protocol";
import type { Area } from "../store/bus";
import { card } from "../train/result";
import { showProblem } from "../store/problems";
import { found, nextSort, sorted, type Sort, type SortName } from "./order";

export const isOpen = signal(false); // the dialog
export const runs = signal<readonly RunRow[] | null>(null); // null: not known yet
export const search = signal("");
export const sort = signal<Sort>(null);
export const unfolded = signal<string | null>(null); // id of the run whose details are shown
export const ticked = signal<readonly string[]>([]); // ids of the runs to be compared, in the order in which they were ticked
export const comparison = signal<RunsCompared | null>(null);
export const replaced = signal<{ readonly id: string; readonly notes: string } | null>(null); // notes before the last change

export const shown = computed(() => sorted(found(runs.value ?? [], search.value), sort.value));

const FIRST = "runs-search";
let place = FIRST; // of the keyboard, in the table to come
const reports = new Map<string, Set<"html" | "json">>(); // files that were asked for, by run

export function openRuns(): void {
  batch(() => {
    isOpen.value = true;
    comparison.value = null;
    replaced.value = null;
  });
  showProblem("runs-problem", null);
  train.send("list_runs");
}

/** Back from the comparison to the table, with the keyboard where it was. */
export function leaveComparison(): void {
  comparison.value = null;
  place = "runs-compare";
}

/** Where the keyboard goes when the table comes; asked once. */
export function placeInTable(): string {
  const now = place;
  place = FIRST;
  return now;
}

export const closeRuns = (): void => {
  isOpen.value = false;
};

export const sortBy = (by: SortName): void => {
  sort.value = nextSort(sort.peek(), by);
};

export const unfold = (id: string): void => {
  unfolded.value = unfolded.peek() === id ? null : id;
  replaced.value = null;
};

export const tick = (id: string): void => {
  const all = ticked.peek();
  ticked.value = all.includes(id) ? all.filter((one) => one !== id) : [...all, id];
};

export function compare(): void {
  showProblem("runs-problem", null);
  if (ticked.peek().length > 1) train.send("compare_runs", { ids: ticked.peek() });
}

/** Keep notes with a run in place of those before, which can be had back. */
export function note(id: string, notes: string): void {
  const before = runs.peek()?.find((one) => one.id === id)?.notes;
  if (before === undefined || notes === before) return;
  runs.value = runs.peek()!.map((one) => (one.id === id ? { ...one, notes } : one)); // the worker's list follows
  replaced.value = before ? { id, notes: before } : null;
  train.send("note_run", { id, notes });
}

export function bringNotesBack(): void {
  const before = replaced.peek();
  replaced.value = null;
  if (before) train.send("note_run", before);
}

/** Have a run's report made, and give it to the person. */
export function saveReport(id: string, kind: "html" | "json"): void {
  const wanted = reports.get(id);
  if (wanted?.has(kind)) return; // pressed twice
  reports.set(id, new Set([...(wanted ?? []), kind]));
  if (!wanted) train.send("make_report", { id });
}

export const runsArea: Area = {
  train: {
    run_list: (event) => {
      runs.value = event.runs;
      const isThere = (id: string | null): boolean => event.runs.some((one) => one.id === id);
      ticked.value = ticked.peek().filter(isThere);
      if (!isThere(unfolded.peek())) unfolded.value = null;
    },
    adapter_list: () => {
      if (isOpen.peek()) train.send("list_runs"); // another tab has trained, renamed or deleted one
    },
    runs_compared: (event) => {
      if (isOpen.peek()) comparison.value = event;
    },
    report_made: ({ id, file_name, html, json }) => {
      const wanted = reports.get(id);
      reports.delete(id);
      if (wanted?.has("html")) saveFile(`${file_name}.html`, html as BlobPart, "text/html");
      if (wanted?.has("json")) saveFile(`${file_name}.json`, json as BlobPart, "application/json");
    },
    failed: (event) => {
      if (event.where !== "runs") return;
      reports.clear();
      const isGone = !isOpen.peek() && event.subject !== card.peek()?.adapter.id; // what was asked of a card that is closed
      if (!isGone) showProblem(isOpen.peek() ? "runs-problem" : "compare-problem", event);
    },
  },
  own: { train_anew: () => reports.clear() },
};
