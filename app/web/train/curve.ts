// The loss over the steps, of the run that goes on or of one that is looked at: what train/chart.tsx draws.

import { signal } from "@preact/signals";

const MOST_POINTS = 1024; // as many as a chart has columns: a run of a million steps takes no more memory
const pointSteps = new Float64Array(MOST_POINTS);
const pointLosses = new Float64Array(MOST_POINTS);
let points = 0; // each the mean loss of `stride` steps, told with the last of them
let stride = 1;
let part = { count: 0, sum: 0 }; // of the point to come
let checks = new Map<number, number>(); // step -> validation loss
let totalSteps = 0;

/** Counts the changes, so that whoever draws hears of them. */
export const revision = signal(0);
const changed = (): void => {
  revision.value += 1;
};

export type Curve = readonly (readonly [number, number])[]; // [step, loss]

/** Forget the curve; `total` steps are coming. */
export function clearCurve(total: number): void {
  start(total, []);
  changed();
}

function start(total: number, validation: Curve): void {
  points = 0;
  stride = 1;
  part = { count: 0, sum: 0 };
  checks = new Map(validation);
  totalSteps = total;
}

export function addStep(step: number, loss: number): void {
  take(step, loss);
  changed();
}

function take(step: number, loss: number): void {
  part.count += 1;
  part.sum += loss;
  if (part.count < stride) return;
  pointSteps[points] = step;
  pointLosses[points] = part.sum / part.count;
  points += 1;
  part = { count: 0, sum: 0 };
  if (points < MOST_POINTS) return;
  points /= 2; // two become one
  stride *= 2;
  for (let one = 0; one < points; one += 1) {
    pointSteps[one] = pointSteps[2 * one + 1]!;
    pointLosses[one] = (pointLosses[2 * one]! + pointLosses[2 * one + 1]!) / 2;
  }
}

export function addValidation(step: number, loss: number): void {
  checks.set(step, loss);
  changed();
}

/** Show a stored curve. */
export function showCurve(curve: Curve, validation: Curve, total: number): void {
  start(total, validation);
  for (const [step, loss] of curve) take(step, loss);
  changed();
}

/** What the curve is, in numbers. */
export const facts = (): { points: number; checks: number; total: number; first: [number, number]; last: [number, number] } => ({
  points, checks: checks.size, total: totalSteps, first: at(0), last: at(points - 1),
});

const at = (point: number): [number, number] => [pointSteps[point] ?? 0, pointLosses[point] ?? 0];

/** Steps, and for each the loss, the smoothed loss and the validation loss, null where there is none. */
export type Columns = [number[], (number | null)[], (number | null)[], (number | null)[]];

export function columns(): Columns {
  const losses = new Map<number, number>();
  for (let one = 0; one < points; one += 1) losses.set(pointSteps[one]!, pointLosses[one]!);
  const steps = [...new Set([...losses.keys(), ...checks.keys()])].sort((a, b) => a - b);
  // An exponential mean over about a tenth of the run, corrected at its beginning.
  const keep = Math.min(0.95, Math.max(0.3, 1 - 2 / (Math.max(totalSteps / stride, steps.length) / 10 + 2)));
  let mean = 0;
  let weight = 0;
  const smooth = steps.map((step) => {
    const loss = losses.get(step);
    if (loss === undefined) return null;
    mean = keep * mean + (1 - keep) * loss;
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
  return [steps, steps.map((step) => losses.get(step) ?? null), smooth, steps.map((step) => checks.get(step) ?? null)];
}
