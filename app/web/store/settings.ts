// The settings' form as state: what each field holds, which of them the person has set, what Python says of them.
//
// The fields themselves are made by jinja2 from lora_lab/settings.py; train/fields.ts ties them to this.

import { computed, signal, type Signal } from "@preact/signals";
import { formatLearningRate } from "../format";
import type { FieldProblem, TrainSettings } from "../protocol";
import { trainText } from "../text";
import { model } from "./page";

const NUMBERS = [
  "steps", "batch", "learning_rate", "rank", "alpha", "max_length", "seed", "warmup_steps", "weight_decay", "max_grad_norm",
  "rows_at_once", "checkpoint_every", "validation_percent",
] as const;
const CHOICES = ["masking", "on_long", "schedule", "packing", "chat_format"] as const;
const CHECKS = ["shuffle", "save_memory", "free_chat"] as const; // the last one is the page's own
export type NumberName = (typeof NUMBERS)[number];
export type ChoiceName = (typeof CHOICES)[number];
export type CheckName = (typeof CHECKS)[number];
export type FieldName = NumberName | ChoiceName | CheckName | "targets";

/** A field that holds text: a number's or a choice's. */
export interface Field {
  readonly text: Signal<string>;
  readonly isBroken: Signal<boolean>; // the browser cannot read what stands there, and says that it is empty
  isWhole: boolean;
  mayBeEmpty: boolean;
}

const made = <N extends string, V>(names: readonly N[], make: () => V): Record<N, V> =>
  Object.fromEntries(names.map((name) => [name, make()])) as Record<N, V>;
const field = (): Field => ({ text: signal(""), isBroken: signal(false), isWhole: false, mayBeEmpty: false });

export const fields: Readonly<Record<NumberName | ChoiceName, Field>> = made([...NUMBERS, ...CHOICES], field);
export const checks: Readonly<Record<CheckName, Signal<boolean>>> = made(CHECKS, () => signal(false));
export const targets = signal<ReadonlySet<string>>(new Set()); // the layers that are chosen
export const offered = signal<readonly string[]>([]); // the layers that there are
export const touched = signal<ReadonlySet<string>>(new Set()); // fields that the person has set: suggestions leave them alone
export const fieldProblems = signal<readonly FieldProblem[]>([]); // what cannot be used, each shown below its field
export const expanded = signal(true); // all settings are shown; a run folds them up to make room for its curve

/** The person has set a field. */
export function touch(name: string): void {
  if (!touched.peek().has(name)) touched.value = new Set([...touched.peek(), name]);
  fieldProblems.value = [];
}

/** Set a number or a choice as the person would, e.g. by a preset. */
export function setField(name: NumberName | ChoiceName, text: string): void {
  fields[name].text.value = text;
  fields[name].isBroken.value = false;
  touch(name);
}

const AUTO = "auto"; // the model's own template, or what suits it

/** The chat format for messages to the workers. */
export const chosenFormat = (): string => (model.value?.chat_formats.length ? fields.chat_format.text.value : AUTO);

export type Read =
  | { readonly settings: TrainSettings; readonly problems?: undefined }
  | { readonly settings?: undefined; readonly problems: readonly FieldProblem[] };

/** The form's settings for the worker, or problems where a number is none. Ranges are Python's business. */
export const read = computed((): Read => {
  const problems: FieldProblem[] = [];
  const optional = (name: NumberName): number | null => {
    const { text, isBroken, isWhole, mayBeEmpty } = fields[name];
    const written = text.value.trim();
    if (written === "" && !isBroken.value && mayBeEmpty) return null;
    const value = Number(written);
    if (written === "" || isBroken.value || !Number.isFinite(value)) problems.push({ field: name, message: trainText.noNumber(name) });
    else if (isWhole && !Number.isInteger(value)) problems.push({ field: name, message: trainText.notWhole });
    return value;
  };
  const number = (name: NumberName): number => optional(name) ?? 0;
  const settings: TrainSettings = {
    steps: number("steps"),
    batch: number("batch"),
    learning_rate: number("learning_rate"),
    rank: number("rank"),
    alpha: number("alpha"),
    max_length: number("max_length"),
    seed: number("seed"),
    targets: offered.value.filter((name) => targets.value.has(name)),
    schedule: fields.schedule.text.value,
    warmup_steps: optional("warmup_steps"),
    weight_decay: number("weight_decay"),
    max_grad_norm: number("max_grad_norm"),
    shuffle: checks.shuffle.value,
    validation_fraction: number("validation_percent") / 100,
    rows_at_once: optional("rows_at_once"),
    save_memory: checks.save_memory.value,
    packing: fields.packing.text.value,
    masking: fields.masking.text.value,
    on_long: fields.on_long.text.value,
    chat_format: chosenFormat(),
    checkpoint_every: optional("checkpoint_every"),
  };
  return problems.length ? { problems } : { settings };
});

/** The form's settings as they stand, null where a field is just being filled in. */
export const readSettings = (): TrainSettings | null => read.peek().settings ?? null;

/** The settings to read a dataset with, null where the person has set none that matters then. */
export function readingSettings(): TrainSettings | null {
  const matters = ["max_length", "masking", "on_long", "chat_format"].some((name) => touched.peek().has(name));
  return matters ? readSettings() : null;
}

/** Fill in what suits a dataset, except where the person has already decided. */
export function suggest(settings: TrainSettings): void {
  const all = { ...settings, validation_percent: Math.round(settings.validation_fraction * 100) };
  for (const name of NUMBERS) {
    if (touched.peek().has(name)) continue;
    const value = all[name];
    fields[name].text.value = value == null ? "" : name === "learning_rate" ? formatLearningRate(value) : String(value);
  }
  for (const name of CHOICES) {
    if (name !== "chat_format" && !touched.peek().has(name) && all[name]) fields[name].text.value = all[name];
  }
}

/** Offer the layers that a model has, all of them chosen; one that it shares with the last model stays as it was. */
export function offerTargets(names: readonly string[]): void {
  const before = offered.peek();
  const chosen = names.filter((name) => !before.includes(name) || targets.peek().has(name));
  offered.value = names;
  targets.value = new Set(chosen);
}

/** The counting for another chat format was stopped: go back to the one that holds. True where that changes it. */
export function takeBackFormat(held: string): boolean {
  const value = held === AUTO ? model.peek()?.chat_format : held;
  if (!model.peek()?.chat_formats.length || value == null || fields.chat_format.text.peek() === value) return false;
  fields.chat_format.text.value = value;
  return true;
}
