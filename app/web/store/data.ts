// What the page knows of the data: what is open, what is being read.

import { computed, signal } from "@preact/signals";
import type { DatasetReady, NamedBlob } from "../protocol";

/** What goes on with the data: it is read, or its tokens are counted (`counting`). */
export interface Reading {
  readonly name: string;
  readonly done: number;
  readonly total: number;
  readonly unit: "bytes" | "rows";
  readonly left_ms?: number | null;
  readonly counting?: boolean;
  readonly again?: boolean; // the same data otherwise: the panel stays as it is while that is quick
  readonly began?: number; // performance.now()
  readonly stopping?: boolean;
}
export interface ValidationReading {
  readonly files: readonly NamedBlob[];
  readonly name: string;
  readonly done: number;
  readonly total: number;
}

export const dataset = signal<DatasetReady | null>(null);
export const reading = signal<Reading | null>(null);
export const validationReading = signal<ValidationReading | null>(null);
export const consent = signal(false); // to leave bad rows out

/** Has the dataset no row that can be used before somebody says which column is what? */
export const asksForColumns = computed(() => {
  const report = dataset.value?.report;
  return Boolean(report && report.good === 0 && !report.mapping && report.unknown > 0);
});
