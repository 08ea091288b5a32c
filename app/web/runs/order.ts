// Which runs the table shows, and in which order.

import type { RunRow } from "../protocol";

export const SORTS = ["name", "dataset", "steps", "learning_rate", "rank", "validation_loss", "training_s"] as const;
export type SortName = (typeof SORTS)[number];
/** By what the table is sorted; null: as it comes, the newest first. */
export type Sort = { readonly by: SortName; readonly isDown: boolean } | null;

/** The runs that have every one of the words in their name, data, model or notes. */
export function found(runs: readonly RunRow[], words: string): readonly RunRow[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return runs;
  return runs.filter(({ name, dataset, model, notes }) => {
    const text = [name, dataset, model, notes].join("\n").toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

/** The runs in order; those of which the value is not known stand last either way. */
export function sorted(runs: readonly RunRow[], sort: Sort): readonly RunRow[] {
  if (!sort) return runs;
  const { by, isDown } = sort;
  const sign = isDown ? -1 : 1;
  return [...runs].sort((a, b) => {
    const [left, right] = [a[by], b[by]];
    if (left == null || right == null) return Number(left == null) - Number(right == null);
    return sign * (typeof left === "string" ? left.localeCompare(String(right), undefined, { numeric: true }) : left - Number(right));
  });
}

/** A press on a column: upwards, then downwards, then as it comes. */
export function nextSort(sort: Sort, by: SortName): Sort {
  if (sort?.by !== by) return { by, isDown: false };
  return sort.isDown ? null : { by, isDown: true };
}
