// Which column is what, as the person chose it another time for columns of the same names.

import type { DatasetReport, Mapping } from "../protocol";
import { readRemembered, remember } from "../store/remembered";

const KEY = "lora-lab.columns";
const KEPT = 30; // sets of columns that are remembered

/** The mapping that was chosen for these columns before, or null; not one that this file's rows give no ground for. */
export function remembered({ columns, readings, unknown }: DatasetReport): Mapping | null {
  const names = Object.keys(columns);
  const found = readRemembered(KEY)[keyOf(names)];
  if (!isMapping(found) || !Object.keys(found).length || !columnsOf(found).every(([, name]) => names.includes(name))) return null;
  return unknown > 0 || readings.some(({ mapping }) => roles(mapping) === roles(found)) ? found : null;
}

/** Remember a mapping for columns of these names; null forgets it. */
export const keep = (names: readonly string[], mapping: Mapping | null): void => remember(KEY, keyOf(names), mapping, KEPT);

/** The mapping's roles that are columns: not the least rating, nor that the known names are read. */
export const columnsOf = (mapping: Mapping): [role: string, column: string][] =>
  Object.entries(mapping).filter(([role]) => role !== "as" && role !== "at_least");

const isMapping = (found: unknown): found is Mapping => typeof found === "object" && found !== null && !Array.isArray(found);
const roles = (mapping: Mapping): string => JSON.stringify(Object.entries(mapping).filter(([role]) => role !== "at_least").sort());
const keyOf = (names: readonly string[]): string => JSON.stringify([...names].sort());
