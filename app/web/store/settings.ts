// The settings' form as state: what each field holds, which of them the person has set, what Python says of them.
//
// The fields themselves are made by jinja2 from lora_lab/settings.py; train/fields.ts ties them to this.

import { batch, computed, signal, type Signal } from "@preact/signals";
import { formatLearningRate } from "../format";
import type { FieldProblem, TrainSettings } from "../protocol";
import { site, type Preset } from "../site";
import { trainText } from "../text";
import { model } from "./page";

const NUMBERS = [
  "steps", "batch", "learning_rate", "rank", "alpha", "max_length", "seed", "warmup_steps", "weight_decay", "max_grad_norm",
  "rows_at_once", "checkpoint_every", "sample_every", "patience", "mix_neutral", "validation_percent",
] as const;
const CHOICES = ["masking", "on_long", "schedule", "packing", "keep", "neutral", "chat_format"] as const;
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
/** How much of the settings is shown: all of them; the usual ones without their hints, as a run leaves them; one line. */
export const view = signal<"open" | "compact" | "line">("open");

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
    sample_every: optional("sample_every"),
    keep: fields.keep.text.value,
    patience: number("patience"),
    mix_neutral: number("mix_neutral"),
    neutral: fields.neutral.text.value,
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

/** What the presets are factors of: the settings that suit the data, or those that the form begins with. */
export const suited = signal<Pick<TrainSettings, "steps" | "rank" | "alpha"> | null>(null);
const PRESET_FIELDS = ["steps", "rank", "alpha"] as const;

/** The values of a preset. */
function valuesOf({ steps, size }: Preset): Record<(typeof PRESET_FIELDS)[number], string> | null {
  const base = suited.value;
  if (!base) return null;
  const times = (value: number, factor: number): string => String(Math.max(1, Math.round(value * factor)));
  return { steps: times(base.steps, steps), rank: times(base.rank, size), alpha: times(base.alpha, size) };
}

/** The preset that the form holds, null where a person has set other values. */
export const preset = computed(() => site.presets.find((one) => {
  const values = valuesOf(one);
  return values && PRESET_FIELDS.every((name) => Number(fields[name].text.value) === Number(values[name]));
}) ?? null);

/** Choose a preset. Other data brings other values of it. */
export function choosePreset(one: Preset): void {
  const values = valuesOf(one);
  if (values) for (const name of PRESET_FIELDS) fields[name].text.value = values[name];
  touched.value = new Set([...touched.peek()].filter((name) => !(PRESET_FIELDS as readonly string[]).includes(name)));
  fieldProblems.value = [];
}

/** Fill in what suits a dataset, except where the person has already decided. */
export function suggest(settings: TrainSettings): void {
  const chosen = preset.peek();
  suited.value = settings;
  fill(settings);
  const isOwn = PRESET_FIELDS.some((name) => touched.peek().has(name));
  if (chosen && !isOwn) choosePreset(chosen);
}

/** What a number's field holds for its value. */
function shownNumber(name: NumberName, settings: TrainSettings): string {
  const value = name === "validation_percent" ? Number((settings.validation_fraction * 100).toFixed(4)) : settings[name];
  return value == null ? "" : name === "learning_rate" ? formatLearningRate(value) : String(value);
}

function fill(settings: TrainSettings): void {
  for (const name of NUMBERS) if (!touched.peek().has(name)) fields[name].text.value = shownNumber(name, settings);
  for (const name of CHOICES) {
    if (name !== "chat_format" && !touched.peek().has(name) && settings[name]) fields[name].text.value = settings[name];
  }
}

/** Put other settings in the place of those of the form, as if the person had set each; returns what brings them back. */
export function putSettings(settings: TrainSettings): () => void {
  const names = [...NUMBERS, ...CHOICES];
  const texts = names.map((name) => fields[name].text.peek());
  const before = { shuffle: checks.shuffle.peek(), save_memory: checks.save_memory.peek(), targets: targets.peek(), touched: touched.peek() };
  const hasFormat = model.peek()?.chat_formats.some(({ value }) => value === settings.chat_format);
  batch(() => {
    for (const name of NUMBERS) setText(name, shownNumber(name, settings));
    for (const name of CHOICES) if (name !== "chat_format" || hasFormat) setText(name, settings[name]);
    checks.shuffle.value = settings.shuffle;
    checks.save_memory.value = settings.save_memory;
    targets.value = new Set(settings.targets);
    touched.value = new Set([...names, "shuffle", "save_memory", "targets"]);
    fieldProblems.value = [];
  });
  return () => batch(() => {
    names.forEach((name, place) => setText(name, texts[place]!));
    checks.shuffle.value = before.shuffle;
    checks.save_memory.value = before.save_memory;
    targets.value = before.targets;
    touched.value = before.touched;
    fieldProblems.value = [];
  });
}

function setText(name: NumberName | ChoiceName, text: string): void {
  fields[name].isBroken.value = false;
  fields[name].text.value = text;
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
