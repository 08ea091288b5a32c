// What the page knows of the data: what was asked for, what is open, what is being read.

import { computed, signal } from "@preact/signals";
import type { DatasetReady, DatasetReport, Mapping, NamedBlob } from "../protocol";

/** What is open or being read, as it was asked for: it is read anew with other columns, mended rows, another worker. */
export interface Asked {
  readonly files?: readonly NamedBlob[];
  readonly text?: string;
  readonly sample?: string;
  readonly mapping?: Mapping | null;
  readonly use_mended?: boolean;
  readonly encoding?: string | null;
}

/** What goes on with the data: it is read, or its tokens are counted (`counting`). */
export interface Reading {
  readonly name: string;
  readonly done: number;
  readonly total: number;
  readonly unit: "bytes" | "rows";
  readonly left_ms?: number | null;
  readonly counting?: boolean;
  readonly stopping?: boolean;
  readonly before?: DatasetReady | null; // the same data otherwise: it stays in the panel while the reading is quick
  readonly isSlow?: boolean;
}
export interface ValidationReading {
  readonly files: readonly NamedBlob[];
  readonly name: string;
  readonly done: number;
  readonly total: number;
}

export const asked = signal<Asked | null>(null);
export const dataset = signal<DatasetReady | null>(null);
export const reading = signal<Reading | null>(null);
export const validationReading = signal<ValidationReading | null>(null);
export const consent = signal(false); // to leave bad rows out
export const isFromMemory = signal(false); // its mapping is one that the person chose another time

/** What the panel shows: what is open, or what was until it began to be read again. */
export const shownDataset = computed(() => dataset.value ?? reading.value?.before ?? null);

/** The panel's three states. */
export const panelState = computed((): "empty" | "reading" | "ready" => {
  const now = reading.value;
  if (now && !now.counting && (!now.before || now.isSlow)) return "reading";
  return shownDataset.value ? "ready" : "empty";
});

/** Has a dataset no row that can be used before somebody says which column is what? */
export const asksFor = ({ good, mapping, unknown }: DatasetReport): boolean => good === 0 && !mapping && unknown > 0;

/** Is it so with the one that is open? */
export const asksForColumns = computed(() => dataset.value !== null && asksFor(dataset.value.report));
