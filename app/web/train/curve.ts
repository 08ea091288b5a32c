// The loss over the steps, of the run that goes on or of one that is looked at: what train/chart.tsx draws.

import { signal } from "@preact/signals";

const MOST_POINTS = 1024; // as many as a chart has columns: a run of a million steps takes no more memory
const pointSteps = new Float64Array(MOST_POINTS);
/** What a step has besides its number, in this order; NaN where nobody knows. */
export const VALUES = ["loss", "learning_rate", "grad_norm", "tokens_per_s"] as const;
export type Values = { readonly [K in (typeof VALUES)[number]]?: number };
const pointValues = VALUES.map(() => new Float64Array(MOST_POINTS));
const pointLosses = pointValues[0]!;
let points = 0; // each the mean of `stride` steps, told with the last of them
let stride = 1;
const sums = new Float64Array(VALUES.length); // of the point to come
let count = 0;
let checks = new Map<number, number>(); // step -> validation loss
let totalSteps = 0;

/** Counts the changes, so that whoever draws hears of them. */
export const revision = signal(0);
const changed = (): void => {
  revision.value += 1;
};

/** The step that is pointed at in the charts, and what stands there; null: none is. */
export const pointed = signal<{ readonly step: number; readonly validation: number | null }
  & { readonly [K in (typeof VALUES)[number]]: number | null } | null>(null);
export const zoomed = signal(false); // a part of the run is shown

export type Curve = readonly (readonly [number, number])[]; // [step, loss]

/** Forget the curve; `total` steps are coming. */
export function clearCurve(total: number): void {
  start(total, []);
  changed();
}

function start(total: number, validation: Curve): void {
  points = 0;
  stride = 1;
  forgetPart();
  checks = new Map(validation);
  totalSteps = total;
}

function forgetPart(): void {
  sums.fill(0);
  count = 0;
}

export function addStep(step: number, values: Values): void {
  take(step, values);
  changed();
}

function take(step: number, values: Values): void {
  count += 1;
  VALUES.forEach((name, index) => (sums[index]! += values[name] ?? NaN));
  if (count < stride) return;
  pointSteps[points] = step;
  pointValues.forEach((of, index) => (of[points] = sums[index]! / count));
  points += 1;
  forgetPart();
  if (points < MOST_POINTS) return;
  points /= 2; // two become one
  stride *= 2;
  for (let one = 0; one < points; one += 1) {
    pointSteps[one] = pointSteps[2 * one + 1]!;
    for (const of of pointValues) of[one] = (of[2 * one]! + of[2 * one + 1]!) / 2;
  }
}

export function addValidation(step: number, loss: number): void {
  checks.set(step, loss);
  changed();
}

/** Show a stored curve. */
export function showCurve(curve: Curve, validation: Curve, total: number): void {
  start(total, validation);
  for (const [step, loss] of curve) take(step, { loss });
  changed();
}

/** What the curve is, in numbers. */
export const facts = (): { points: number; checks: number; total: number; first: [number, number]; last: [number, number]; hasMore: boolean } => ({
  points, checks: checks.size, total: totalSteps, first: at(0), last: at(points - 1),
  hasMore: points > 0 && pointValues.some((of, index) => index > 0 && of.subarray(0, points).some(Number.isFinite)),
});

const at = (point: number): [number, number] => [pointSteps[point] ?? 0, pointLosses[point] ?? 0];

/** The validation with the lowest loss, the first of equals, as [step, loss]; null without one. */
export function bestCheck(): readonly [number, number] | null {
  let found: readonly [number, number] | null = null;
  for (const one of checks) if (!found || one[1] < found[1] || (one[1] === found[1] && one[0] < found[0])) found = one;
  return found;
}

export type Column = (number | null)[]; // null where there is no value
/**
 * Steps, and for each the loss, the smoothed loss, the validation loss, that of the best validation only; then the learning
 * rate, the gradient's norm, the tokens a second.
 */
export type Columns = [number[], Column, Column, Column, Column, Column, Column, Column];

export function columns(): Columns {
  const at = new Map<number, number>(); // step -> its point
  for (let one = 0; one < points; one += 1) at.set(pointSteps[one]!, one);
  const steps = [...new Set([...at.keys(), ...checks.keys()])].sort((a, b) => a - b);
  const column = (of: Float64Array): Column => steps.map((step) => {
    const value = of[at.get(step) ?? -1];
    return value === undefined || !Number.isFinite(value) ? null : value;
  });
  const [losses, rates, norms, speeds] = pointValues.map(column) as [Column, Column, Column, Column];
  const best = bestCheck()?.[0];
  const validation = steps.map((step) => checks.get(step) ?? null);
  const bestOnly = steps.map((step) => (step === best ? checks.get(step)! : null));
  return [steps, losses, smoothed(losses), validation, bestOnly, rates, norms, speeds];
}

/** An exponential mean over about a tenth of the run, corrected at its beginning. */
function smoothed(losses: Column): Column {
  const keep = Math.min(0.95, Math.max(0.3, 1 - 2 / (Math.max(totalSteps / stride, losses.length) / 10 + 2)));
  let mean = 0;
  let weight = 0;
  return losses.map((loss) => {
    if (loss === null) return null;
    mean = keep * mean + (1 - keep) * loss;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
}
