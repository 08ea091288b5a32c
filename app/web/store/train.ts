// What the page knows of training: the plan of a run, how long it will take, how far it is, what came of it.

import { computed, signal } from "@preact/signals";
import type { AdapterLearned, StoppedRun, TrainingPlanned, TrainingState, TrainingStep, TrainingTimed } from "../protocol";
import { trainText } from "../text";
import { asksForColumns, consent, dataset, reading, validationReading } from "./data";
import { gpu, missingWebGpu, model, modelProblem, modelProgress, whyNoPython, worker } from "./page";

export type Plan = Pick<TrainingPlanned, "problems"> & Partial<TrainingPlanned>;

/** The newest step of a run; of one that is just gone on with, what its curve says. */
export type LastStep = Pick<TrainingStep, "step" | "total_steps"> & { readonly loss: number | null }
  & Partial<Omit<TrainingStep, "step" | "total_steps" | "loss">>;

export const plan = signal<Plan | null>(null);
export const timing = signal<TrainingTimed | "measuring" | null>(null); // of that plan
export const phase = signal<TrainingState["state"]>("idle"); // data-state of train-status
export const phaseDetail = signal("");
export const phaseProgress = signal({ done: 0, total: 0 }); // in bytes, kernels or steps
export const mayEnd = signal(false); // a stop has had no effect for a while: the run may be ended by force
export const stoppedRun = signal<StoppedRun | null>(null); // a run that can be gone on with
export const learned = signal<AdapterLearned | null>(null); // what a run has learned, until it is kept
export const lastStep = signal<LastStep | null>(null);

/** What the last run has left: which adapter, and the step at which it was stopped, null where it went to its end. */
export const outcome = signal<{ readonly adapterId: string; readonly stoppedAt: number | null } | null>(null);
/** The kept adapter whose run is looked at; null: the run of this session. */
export const curveOf = signal<{ readonly id: string; readonly name: string } | null>(null);

/** Is a run going on, in any of its phases? */
export const isRunning = computed(() => ["loading", "compiling", "training", "stopping"].includes(phase.value));

/** Why training cannot start now, in words; "" when it can. */
export const whyNot = computed((): string => {
  const words = trainText.whyNot;
  const data = dataset.value;
  if (isRunning.value) return words.running;
  if (worker.value.phase === "fatal") return whyNoPython.value;
  if (gpu.value.state === "none" || missingWebGpu()) return words.noGpu;
  if (gpu.value.state === "lost") return words.gpuLost;
  if (gpu.value.state === "again") return words.gpuAgain;
  if (modelProblem.value) return words.noModel;
  if (!data && !reading.value) return words.noData;
  if (!model.value || modelProgress.value || gpu.value.state !== "found") return words.modelComes;
  if (reading.value || !data) return words.reading;
  if (validationReading.value) return words.readingValidation;
  if (asksForColumns.value) return words.columns;
  if (data.report.asks.length) return words.asks;
  if (!data.report.tokens && data.report.good) return words.uncounted;
  if (!data.can_train) return words.noRow;
  if (data.problem_count && !consent.value) return words.badRows;
  if (plan.value?.problems.length) return words.settings;
  return "";
});
