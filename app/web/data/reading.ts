// What is asked to be read, and what the train worker says of it: reading, counting, ready, given up.

import { batch } from "@preact/signals";
import { focusNext } from "../dom";
import { formatCount } from "../format";
import { train } from "../link/workers";
import type { DatasetProgress, DatasetReady, Mapping, NamedBlob } from "../protocol";
import type { Area } from "../store/bus";
import {
  asked, asksForColumns, consent, dataset, isFromMemory, reading, shownDataset, validationReading, type Asked, type Reading,
} from "../store/data";
import { model } from "../store/page";
import { showProblem, toast, type Action } from "../store/problems";
import { fields, readingSettings, setField, suggest, takeBackFormat } from "../store/settings";
import { isRunning } from "../store/train";
import { common, dataText } from "../text";
import { forgetPlan, planNow, planSoon } from "../train/plan";
import { filesOf, merge } from "./files";
import { remembered } from "./remembered_columns";

const COUNTING: Reading = { counting: true, done: 0, total: 0, unit: "rows", name: "" };
const QUICK_MS = 300; // a reading again that is over so soon does not take the panel's place
let request = 0; // of `read_dataset`: what an older one opened is no longer of interest
let isDeclined = false; // the person does not want the remembered columns here
let pressed = ""; // the id of the button that had the data read again

/** Is a DatasetReady about what was read before? */
export const isOutdated = (event: DatasetReady): boolean => event.request !== request;

/** Where the keyboard goes on once the data is read again: at the counterpart of the button that was pressed. */
export const counterpart = (): string => ({ "mend-use": "mend-undo", "mend-undo": "mend-use" })[pressed] ?? "";

/** Read something in place of what is there. */
export function take(wanted: Asked): void {
  const before = dataset.peek() && asked.peek();
  if (isRunning.peek()) return toast(dataText.notDuringRun);
  isFromMemory.value = false;
  isDeclined = false;
  read(wanted);
  if (!before) return;
  const both = async (): Promise<void> => join(before, await filesOf(wanted));
  toast(dataText.tookItsPlace, { label: dataText.keepBoth, run: () => void both() });
}

/** Read more files together with what is there. */
export function add(files: readonly NamedBlob[]): void {
  const now = asked.peek();
  if (dataset.peek() && now) void join(now, files, now.mapping);
  else take({ files });
}

/** Leave one of the files out. */
export function leaveOut(file: NamedBlob): void {
  const now = asked.peek();
  if (!now?.files || isRunning.peek()) return;
  read({ ...now, files: now.files.filter((other) => other !== file) });
  toast(dataText.leftOut(file.name), back(now));
}

/** The way back to what was there before. */
const back = (before: Asked): Action => ({ label: common.undo, run: () => take(before) });


/** Read `added` files together with what `first` asks for. */
async function join(first: Asked, added: readonly NamedBlob[], mapping: Mapping | null = null): Promise<void> {
  const before = asked.peek();
  try {
    const old = await filesOf(first);
    if (asked.peek() !== before) return; // something else was asked for meanwhile
    const files = merge(old, added);
    if (files.length > old.length) read({ files, mapping, use_mended: first.use_mended, encoding: first.encoding });
    else toast(dataText.thereAlready(added.length));
  } catch (error) {
    showProblem("dataset-problem", { message: dataText.sampleLost(error instanceof Error ? error.message : String(error)) });
  }
}

/** Read the same data in another way. */
export const readAgain = (changes: Asked): void => read({ ...asked.peek(), ...changes }, true);

/** Read with these columns; null: without, and no remembered ones either. */
export function useMapping(mapping: Mapping | null): void {
  isFromMemory.value = false;
  isDeclined = mapping === null;
  readAgain({ mapping });
}

/** Ask the worker to read. `again`: the same data otherwise, so the panel stays as it is while that is quick. */
function read(wanted: Asked, again = false): void {
  if (isRunning.peek()) return toast(dataText.notDuringRun);
  showProblem("dataset-problem", null);
  const before = again ? shownDataset.peek() : null;
  batch(() => {
    asked.value = wanted;
    dataset.value = null;
    reading.value = { done: 0, total: 0, unit: "bytes", name: nameOf(wanted), before };
    validationReading.value = null; // the worker gives that up, too
    consent.value = false;
    forgetPlan();
  });
  pressed = again ? (globalThis.document?.activeElement?.id ?? "") : "";
  request += 1;
  const mine = request;
  setTimeout(() => {
    const now = reading.peek();
    if (mine === request && now && !now.counting) reading.value = { ...now, isSlow: true };
  }, QUICK_MS);
  const { files, text, sample, mapping, use_mended, encoding } = wanted;
  const given = Object.entries({ files, text, sample, mapping, use_mended, encoding, settings: readingSettings() });
  train.send("read_dataset", { ...Object.fromEntries(given.filter(([, value]) => value != null)), request });
}

function nameOf({ files, sample, text }: Asked): string {
  if (sample) return dataText.theSample;
  if (text || !files) return dataText.thePastedText;
  return files.length > 1 ? dataText.files(formatCount(files.length)) : (files[0]?.name ?? "");
}

/** Give the reading up, and what was read with it; of the counting only the tokens. */
export function stopReading(): void {
  const now = reading.peek();
  if (!now) return;
  if (!now.counting) asked.value = null;
  reading.value = { ...now, stopping: true };
  train.send("stop_reading");
}

export function countTokens(): void {
  reading.value = COUNTING;
  train.send("count_tokens");
}

/** Make room for other data. */
export function removeData(): void {
  const before = asked.peek();
  const title = dataset.peek()?.title;
  if (before && title) toast(dataText.closed(title), back(before));
  forgetData();
  train.send("clear_dataset");
  clear();
  focusNext("dataset-input");
}

function clear(): void {
  batch(() => {
    dataset.value = null;
    reading.value = null;
    consent.value = false;
    forgetPlan();
  });
}

/** Do not read again what is open or being read: it was given up, or the worker did not survive it. */
function forgetData(): void {
  asked.value = null;
  request += 1; // what the worker is about to say of it comes too late
}

function ready(event: DatasetReady): void {
  if (isOutdated(event)) return;
  const { stopping = false, counting = false } = reading.peek() ?? {};
  if (stopping && !counting) return train.send("clear_dataset"); // it was done before it heard of the stop
  const { report, suggested } = event;
  const known = report.mapping || isDeclined ? null : remembered(report);
  if (known && asked.peek() && reading.peek()) {
    isFromMemory.value = true;
    return readAgain({ mapping: known });
  }
  // Tokens are counted next, which can take long: meanwhile there is a lot to look at already.
  const counts = !report.tokens && model.peek() && report.good > 0 && !stopping;
  const before = dataset.peek();
  const isSame = before !== null && before.name === event.name && before.problem_count === event.problem_count && !suggested;
  dataset.value = event;
  reading.value = counts ? COUNTING : null;
  consent.value = isSame && consent.peek();
  showProblem("dataset-problem", null);
  if (suggested && !asksForColumns.peek()) {
    suggest(suggested); // else only the cut has changed: the plan is on its way
    planNow();
  }
  if (stopping && report.tokens) takeBack(event);
}

/** The counting for another mask or format was stopped: the form goes back to the one that holds. */
function takeBack({ masking, chat_format }: DatasetReady): void {
  if (takeBackFormat(chat_format)) planSoon();
  if (fields.masking.text.peek() === masking) return;
  setField("masking", masking);
  planSoon();
}

/** How far the reading is, or the counting of tokens, which also comes by itself: with another model, another mask. */
function progress({ done, total, unit, name, left_ms }: DatasetProgress): void {
  if (validationReading.peek()) return;
  const now = reading.peek();
  const told = { done, total, unit, name, left_ms };
  if (now) reading.value = { ...now, ...told, counting: unit === "rows" && dataset.peek() !== null };
  else if (unit === "rows" && dataset.peek() && done < total) reading.value = { ...COUNTING, ...told };
}

export const readingArea: Area = {
  train: {
    dataset_progress: progress,
    dataset_ready: ready,
    dataset_cleared: () => {
      const now = reading.peek();
      if (!now || now.stopping) clear(); // else it is about what was given up before this reading began
    },
    failed: (event) => {
      if (event.where !== "dataset" || validationReading.peek()) return; // the validation's box tells of its own
      reading.value = null;
      showProblem("dataset-problem", event);
    },
  },
  own: {
    // What is open counts its tokens by itself; what a worker has taken along with it is read again.
    model_came: () => {
      const now = asked.peek();
      if (now && !reading.peek() && !dataset.peek()) read(now);
    },
    train_gone: ({ reading: wasReading }) => {
      reading.value = null;
      validationReading.value = null;
      if (wasReading) forgetData();
    },
    train_anew: () => {
      clear();
      validationReading.value = null;
    },
  },
};
