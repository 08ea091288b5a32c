// Which column is what, as it is being chosen by hand; and when that is to be shown.

import { computed, effect, signal } from "@preact/signals";
import { focusNext } from "../dom";
import { train } from "../link/workers";
import type { DatasetReady, DatasetReport, Mapping, MappingPreviewed } from "../protocol";
import type { Area } from "../store/bus";
import { asksFor, dataset, shownDataset } from "../store/data";
import { useMapping } from "./reading";
import { keep } from "./remembered_columns";

/** What a row can be, and the roles that its columns can have then. */
export const ROLES = {
  pair: ["prompt", "context", "reply", "system", "history", "label"],
  conversation: ["conversation", "system", "label"],
  text: ["text"],
} as const;
export type RowKind = keyof typeof ROLES;
export type Role = (typeof ROLES)[RowKind][number];
const NEEDED: ReadonlySet<Role> = new Set(["prompt", "reply", "conversation", "text"]);

export interface Draft {
  readonly kind: RowKind;
  readonly columns: { readonly [role in Role]?: string };
  readonly atLeast: string; // the least rating of a good answer
}

export const draft = signal<Draft>({ kind: "pair", columns: {}, atLeast: "" });
export const isOpen = signal(false); // the editor, not only the line that says how the columns are read
export const previewed = signal<Pick<MappingPreviewed, "rows" | "problem">>({ rows: [], problem: "" });
export const columns = computed(() => Object.keys(shownDataset.value?.report.columns ?? {}));
export const isNeeded = (role: Role): boolean => NEEDED.has(role);

/** The mapping that the form says. */
export const chosen = computed((): Mapping => {
  const { kind, columns: picked, atLeast } = draft.value;
  const pairs = ROLES[kind].flatMap((role) => (picked[role] === undefined ? [] : [[role, picked[role]] as const]));
  const least = picked.label !== undefined && kind !== "text" ? atLeast.trim() : "";
  return Object.fromEntries(least ? [...pairs, ["at_least", least] as const] : pairs);
});
export const isComplete = computed(() => ROLES[draft.value.kind].every((role) => !isNeeded(role) || chosen.value[role] !== undefined));

/** Are there readings to choose from, beside the choice of columns? */
export const offersReadings = ({ readings, unknown }: DatasetReport): boolean => readings.length > (unknown ? 1 : 0);

/** What of this is shown: the editor, the line, the readings. */
export const shows = computed(() => {
  const report = shownDataset.value?.report;
  if (!report) return { editor: false, line: false, readings: false, cancel: false };
  const { mapping, good, groups } = report;
  const offers = offersReadings(report);
  // A row with a prompt alone has columns too, but choosing others would not help it.
  const some = columns.value.length > 0 && (mapping != null || asksFor(report) || groups.some(({ kind }) => kind === "unknown-columns"));
  return {
    editor: isOpen.value && (some || offers),
    line: some && !isOpen.value && (!offers || mapping != null),
    readings: offers && (mapping == null || isOpen.value),
    cancel: mapping != null || good > 0 || offers,
  };
});

let request = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
let known: DatasetReady | null = null; // that the editor is about

// Data that was read anew fills the editor anew; when only its tokens were counted, what is being chosen stays.
effect(() => follow(shownDataset.value));

function follow(now: DatasetReady | null): void {
  const isFresh = now !== null && known?.request !== now.request;
  known = now;
  if (!now) clearTimeout(timer); // there is nothing to preview
  if (!isFresh) return;
  isOpen.value = asksFor(now.report) && !offersReadings(now.report);
  if (Object.keys(now.report.columns).length) fill(now.report);
}

function fill({ mapping, suggested_mapping, readings, columns: counted }: DatasetReport): void {
  const likely = suggested_mapping ?? readings.map((reading) => reading.mapping).find((found) => !found.as) ?? {};
  const start = mapping && !mapping.as ? mapping : likely;
  const kind = (["text", "conversation"] as const).find((role) => start[role]) ?? "pair";
  const all = new Set(Object.values(ROLES).flat());
  const picked = [...all].flatMap((role) => (start[role] !== undefined && Object.hasOwn(counted, start[role]) ? [[role, start[role]] as const] : []));
  draft.value = { kind, columns: Object.fromEntries(picked), atLeast: String(start.at_least ?? "") };
  previewed.value = { rows: [], problem: "" };
  clearTimeout(timer);
  if (isOpen.peek()) ask(0);
}

/** Change what is being chosen, and ask what it makes of the first rows once the person pauses for so long. */
export function change(changes: Partial<Draft>, wait_ms: number): void {
  draft.value = { ...draft.peek(), ...changes };
  ask(wait_ms);
}

function ask(wait_ms: number): void {
  clearTimeout(timer);
  const complete = isComplete.peek();
  previewed.value = { rows: complete ? previewed.peek().rows : [], problem: "" };
  if (!complete) return;
  timer = setTimeout(() => {
    if (!dataset.peek()) return; // it is being read again
    request += 1;
    train.send("preview_mapping", { mapping: chosen.peek(), request });
  }, wait_ms);
}

/** Read the rows so, from now on whenever columns of these names come. */
export function choose(mapping: Mapping): void {
  isOpen.value = false;
  keep(columns.peek(), mapping);
  useMapping(mapping);
}

/** Forget what was chosen for these columns. */
export function forget(): void {
  keep(columns.peek(), null);
  useMapping(null);
}

/** Open the editor with what holds now. */
export function openEditor(): void {
  isOpen.value = true;
  if (known) fill(known.report);
  focusNext(`map-${ROLES[draft.peek().kind][0]}`);
}

export function closeEditor(): void {
  isOpen.value = false;
  focusNext("mapped-change", "readings-other");
}

export const mappingArea: Area = {
  train: {
    mapping_previewed: ({ request: answered, rows, problem }) => {
      if (answered === request) previewed.value = { rows, problem }; // else of an earlier choice
    },
  },
};
