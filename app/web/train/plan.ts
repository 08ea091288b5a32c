// The plan of a run: asked for when the settings, the data or the model change. Late answers to earlier questions are dropped.

import { train } from "../link/workers";
import { dataset } from "../store/data";
import { model, modelProgress } from "../store/page";
import { fieldProblems, read } from "../store/settings";
import { isRunning, plan, timing } from "../store/train";
import type { TrainingPlanned } from "../protocol";

const SOON_MS = 250; // after the last key
let timer: ReturnType<typeof setTimeout> | undefined;
let request = 0;
let isWaiting = false; // an answer is on its way
let starts = false; // a run shall be begun as soon as there is a plan for it

/** Is there a row to train on, or one that other settings would bring back? */
function canPlan(): boolean {
  const data = dataset.peek();
  if (!model.peek() || modelProgress.peek() || !data) return false;
  return data.can_train || data.report.groups.some(({ kind }) => ["nothing-to-train", "too-long"].includes(kind));
}

/** Ask, once nothing has been typed for a moment. */
export function planSoon(): void {
  clearTimeout(timer);
  timer = setTimeout(planNow, SOON_MS);
}

/** Ask at once. */
export function planNow(): void {
  clearTimeout(timer);
  timer = undefined;
  if (!canPlan() || isRunning.peek()) return;
  const { settings, problems } = read.peek();
  if (!settings) {
    plan.value = { problems };
    fieldProblems.value = problems;
    return;
  }
  request += 1;
  isWaiting = true;
  train.send("plan_training", { settings, request });
}

/** Whether the plan is that of the form as it stands: nothing was typed since, and no answer is on its way. */
export const isPlanCurrent = (): boolean => timer === undefined && !isWaiting;

/** Begin a run as soon as its plan has come: Start was pressed too early for it, or a sample was to be trained. */
export function startWhenPlanned(): void {
  starts = true;
}

/** Whether a run shall begin now that there is a plan; asked once. */
export function isToStart(): boolean {
  const now = starts;
  starts = false;
  return now;
}

/** A plan has come. True when it is the one that counts. */
export function takePlan(event: TrainingPlanned): boolean {
  if (event.request !== request || !canPlan()) return false; // the dataset or the model may be gone
  isWaiting = false;
  fieldProblems.value = event.problems;
  plan.value = event;
  timing.value = null;
  return true;
}

/** Nothing will be answered any more: another worker, other data, another model. `stillStarts`: what was to begin still is. */
export function forgetPlan(stillStarts = false): void {
  request += 1;
  isWaiting = false;
  starts &&= stillStarts;
  plan.value = null;
}

/** Ask for the time of the run that is planned. */
export function measureTime(): void {
  const { settings } = read.peek();
  timing.value = settings ? "measuring" : null; // a field is just being filled in: another plan follows
  if (settings) train.send("time_training", { settings, request });
}

/** Whether an answer about the time is about the newest plan. */
export const isNewest = (answered: number): boolean => answered === request;
