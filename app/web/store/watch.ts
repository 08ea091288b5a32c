// What the page knows of a run that is watched: what the model answers while it learns, the rows held back, what came of it.

import { computed, signal } from "@preact/signals";
import type { AdapterInfo, MemoryInUse, Probe, RunVerdict, SampleAnswered, TrainingDone, ValidationLoss } from "../protocol";

const MOST_ANSWERS = 60; // of a prompt that are shown, and its first one; all of them are kept with the run

/** A prompt, and what was answered to it as the model learned, the newest last. */
export interface Watched {
  readonly prompt: string;
  readonly expected: string | null;
  readonly answers: readonly Pick<SampleAnswered, "step" | "text" | "is_cut" | "problem">[];
}

export const prompts = signal<{ readonly all: readonly Probe[]; readonly chosen: boolean } | null>(null); // null: not known yet
export const watched = signal<readonly Watched[]>([]);
export const watchProblem = signal(""); // why nothing is answered at all
export const ownPrompts = signal<readonly string[]>([]); // a person's: a fresh worker is told them again
export const editing = signal(false); // the prompts

export const validations = signal<readonly ValidationLoss[]>([]);
export const memoryInUse = signal<MemoryInUse | null>(null);
export const verdict = signal<RunVerdict | null>(null);
export const begunAt = signal<number | null>(null); // when its first step began, or it went on; ms as Date.now()
export const tookMs = signal<number | null>(null); // how long it went on, once it is over
export const endsAt = signal<number | null>(null);

/** Which adapters the last run has left. */
export interface Left extends Pick<TrainingDone, "kept" | "kept_step" | "best_step" | "stopped_early" | "sample_share"> {
  readonly adapter: AdapterInfo;
  readonly other: AdapterInfo | null;
}
export const left = signal<Left | null>(null);

/** The validation with the lowest loss, the first of equals: the one whose adapter is the best. */
export const best = computed((): ValidationLoss | null =>
  validations.value.reduce<ValidationLoss | null>((found, one) => (found && found.loss <= one.loss ? found : one), null));

/** What the strip shows: a line for each prompt that is asked now, then those that were asked before and have answers. */
export const strip = computed((): readonly Watched[] => {
  const asked = prompts.value?.all ?? [];
  const lines = asked.map(({ prompt, reference }) =>
    watched.value.find((one) => one.prompt === prompt) ?? { prompt, expected: reference, answers: [] });
  return [...lines, ...watched.value.filter(({ prompt }) => !asked.some((one) => one.prompt === prompt))];
});

/** The newest step at which anything was answered; -1: none yet. */
export const newestStep = computed(() => Math.max(-1, ...watched.value.map(({ answers }) => answers.at(-1)?.step ?? -1)));

/** A run begins, or goes on, or another one is looked at: what was known of the last one goes. */
export function forgetRun(): void {
  watched.value = [];
  watchProblem.value = "";
  validations.value = [];
  memoryInUse.value = null;
  verdict.value = null;
  begunAt.value = null;
  tookMs.value = null;
  endsAt.value = null;
  left.value = null;
}

/** Take an answer. One of a step that has been told takes the place of the one before: a run that went back says it again. */
export function takeAnswer({ step, prompt, expected, text, is_cut, problem }: SampleAnswered): void {
  if (prompt === "") {
    watchProblem.value = problem;
    return;
  }
  const before = watched.peek().find((one) => one.prompt === prompt);
  const earlier = (before?.answers ?? []).filter((one) => one.step < step);
  const [first, ...others] = [...earlier, { step, text, is_cut, problem }];
  const answers = [first!, ...others.slice(-MOST_ANSWERS)];
  const line = { prompt, expected, answers };
  watched.value = before ? watched.peek().map((one) => (one === before ? line : one)) : [...watched.peek(), line];
}

/** Take a validation; later ones are of a run that went back. */
export function takeValidation(event: ValidationLoss): void {
  validations.value = [...validations.peek().filter(({ step }) => step < event.step), event];
}
