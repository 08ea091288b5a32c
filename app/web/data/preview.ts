// The preview's state: which row is shown, which one is asked for. Loaded at once; what draws it comes when it is wanted.

import { computed, effect, signal } from "@preact/signals";
import { formatCount } from "../format";
import { train } from "../link/workers";
import type { DatasetReady, RowShown, ShowRowGiven } from "../protocol";
import type { Area } from "../store/bus";
import { dataset, shownDataset } from "../store/data";
import { dataText } from "../text";

type Question = Omit<ShowRowGiven, "request">;
export type Jump = NonNullable<ShowRowGiven["jump"]>;

export const row = signal<RowShown | null>(null); // the one that is shown
export const searched = signal(""); // the words that led to it
export const message = signal(""); // why there is none
export const search = signal(""); // what stands in the field
export const view = signal<"tokens" | "text">("tokens");
export const isLarge = signal(false);

/** Rows of columns that nobody knows are shown by the mapping's editor instead. */
export const canPreview = computed(() => {
  const report = shownDataset.value?.report;
  return Boolean(report?.tokens) && Object.keys(report?.formats ?? {}).length > 0;
});
export const place = computed(() => (row.value ? dataText.preview.place(formatCount(row.value.line), row.value.source) : ""));

let known: DatasetReady | null = null; // that the rows are of
let target = 0; // the row that the person is on the way to
let request = 0; // late answers to earlier questions are told by it
let sent: Question | null = null; // the question that is on its way
let next: Question | null = null; // the one to ask then

effect(() => follow(dataset.value, shownDataset.value));

function follow(open: DatasetReady | null, shown: DatasetReady | null): void {
  if (!canPreview.value) {
    [known, sent, next] = [shown, null, null];
    return forget();
  }
  if (!open || open === known) return; // it is being read again: what is asked for meanwhile is asked then
  const here = row.peek();
  const isSame = known !== null && known.title === open.title && here !== null;
  const unanswered = next ?? sent;
  [known, sent, next] = [open, null, null];
  // What was asked of it before, or where it was: cut or masked in another way, and it may have been left out by that.
  if (isSame) return ask(unanswered ?? { line: here.line, source: here.source, index: here.index });
  forget();
  ask({ index: 0 });
}

function forget(): void {
  row.value = null;
  searched.value = "";
  search.value = "";
  message.value = "";
  isLarge.value = false;
  target = 0;
}

/** Ask for a row. One question at a time is on its way: a held key asks for where it has come to by then. */
function ask(question: Question): void {
  if (sent || !dataset.peek()) {
    next = question;
    return;
  }
  request += 1;
  sent = question;
  train.send("show_row", { ...question, request });
}

/** Go to the row that begins on a line of a file, and show it. */
export function showLine(line: number, source = ""): void {
  document.getElementById("preview")?.scrollIntoView({ block: "nearest" });
  document.getElementById("preview-chips")?.focus({ preventScroll: true });
  ask({ line, source });
}

export function jump(kind: Jump): void {
  if (kind === "next" || kind === "previous") walk(kind === "next" ? 1 : -1);
  else ask({ index: target, jump: kind });
}

/** Go on by so many rows, round at the ends. */
export function walk(step: number): void {
  const count = row.peek()?.count;
  if (count) goTo((target + step + count) % count);
}

export function goTo(index: number): void {
  target = index;
  ask({ index });
}

/** Go to a row by its number as it was typed. */
export function goToNumber(typed: string): void {
  const count = row.peek()?.count;
  if (!count) return;
  const number = Number(typed.trim());
  if (Number.isInteger(number) && number >= 1 && number <= count) goTo(number - 1);
  else message.value = dataText.preview.noSuchRow(formatCount(count));
}

/** Go to the next row that holds these words, or to the one before. */
export const find = (words: string, backwards: boolean): void =>
  ask({ index: target, search: words, jump: backwards ? "previous" : null });

function onRow(event: RowShown): void {
  if (event.request !== request || !sent) return;
  const question = sent;
  sent = null;
  if (event.why && question.line != null && question.index != null) ask({ index: question.index }); // left out: the row in its place
  else if (event.why) sayWhyNot(event.why);
  else show(event, question.search ?? "");
  if (!next || sent) return;
  const waiting = next;
  next = null;
  ask(waiting);
}

function sayWhyNot(why: string): void {
  message.value = why;
  target = row.peek()?.index ?? target;
}

function show(event: RowShown, words: string): void {
  row.value = event;
  searched.value = words;
  message.value = "";
  if (!next) target = event.index;
}

export const previewArea: Area = {
  train: {
    row_shown: onRow,
    failed: ({ where }) => {
      if (where === "dataset") [sent, next] = [null, null];
    },
  },
};
