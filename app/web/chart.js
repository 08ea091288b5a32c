// The loss over the steps, drawn by uPlot: every step, a smoothed line, and the validation loss.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { byId, formatLoss } from "./dom.js";

const HEIGHT_PX = 210;
const MOST_POINTS = 1024; // as many as a chart has columns: a run of a million steps takes no more memory
let plot = null;
let points = 0; // each the mean loss of `stride` steps, told with the last of them
const pointSteps = new Float64Array(MOST_POINTS), pointLosses = new Float64Array(MOST_POINTS);
let stride = 1;
let part = { count: 0, sum: 0 }; // of the point to come
let checks = new Map(); // step -> validation loss
let totalSteps = 0;
let frame = 0;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Forget the curve; `total` steps are coming. */
export function clearChart(total) {
  start(total, []);
  redraw();
}

function start(total, validation) {
  points = 0;
  stride = 1;
  part = { count: 0, sum: 0 };
  checks = new Map(validation);
  totalSteps = total;
  byId("validation-key").hidden = checks.size === 0;
}

export function addStep(step, loss) {
  take(step, loss);
  later();
}

function take(step, loss) {
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
    pointSteps[one] = pointSteps[2 * one + 1];
    pointLosses[one] = (pointLosses[2 * one] + pointLosses[2 * one + 1]) / 2;
  }
}

export function addValidation(step, loss) {
  checks.set(step, loss);
  byId("validation-key").hidden = false;
  later();
}

/** Draw a stored curve: lists of [step, loss]. */
export function showCurve(curve, validation, total) {
  start(total, validation);
  for (const [step, loss] of curve) take(step, loss);
  redraw();
}

function later() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    update();
  });
}

function data() {
  const losses = new Map();
  for (let one = 0; one < points; one += 1) losses.set(pointSteps[one], pointLosses[one]);
  const steps = [...new Set([...losses.keys(), ...checks.keys()])].sort((a, b) => a - b);
  // An exponential mean over about a tenth of the run, corrected at its beginning.
  const keep = Math.min(0.95, Math.max(0.3, 1 - 2 / (Math.max(totalSteps / stride, steps.length) / 10 + 2)));
  let mean = 0, weight = 0;
  const smooth = steps.map((step) => {
    if (!losses.has(step)) return null;
    mean = keep * mean + (1 - keep) * losses.get(step);
    weight = keep * weight + (1 - keep);
    return mean / weight;
  });
  return [steps, steps.map((step) => losses.get(step) ?? null), smooth, steps.map((step) => checks.get(step) ?? null)];
}

function options(width) {
  const text = color("--ink-soft"), grid = color("--line");
  const font = "11px 'Geist Mono', monospace";
  const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width, height: HEIGHT_PX, padding: [10, 12, 0, 0], legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    hooks: { setCursor: [showPoint] },
    scales: { x: { time: false, range: (_, min, max) => [Math.min(1, min ?? 1), Math.max(totalSteps, max ?? 1, 2)] } },
    axes: [{ ...axis, size: 28, space: 50, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick : "")) },
      { ...axis, size: 42, space: 36 }],
    series: [
      {},
      { stroke: color("--accent-faint"), width: 1.25, spanGaps: true, points: { show: (chart) => chart.data[0].length < 3, size: 5 } },
      { stroke: color("--accent"), width: 2.25, spanGaps: true, points: { show: false } },
      { stroke: color("--second"), width: 1.5, spanGaps: true, dash: [4, 4],
        points: { show: true, size: 6, fill: color("--second") } },
    ],
  };
}

function showPoint(chart) {
  const index = chart.cursor.idx;
  const caption = byId("chart-point");
  if (!caption) return;
  if (index == null) {
    caption.textContent = "";
    return;
  }
  const [steps, losses, , validation] = chart.data;
  const parts = [`step ${steps[index]}`];
  if (losses[index] != null) parts.push(`loss ${formatLoss(losses[index])}`);
  if (validation[index] != null) parts.push(`validation ${formatLoss(validation[index])}`);
  caption.textContent = parts.join(" · ");
}

function update() {
  if (!plot) return redraw();
  plot.setData(data());
  describe();
}

function redraw() {
  const box = byId("chart");
  plot?.destroy();
  plot = null;
  byId("run").dataset.state = points || checks.size ? "drawn" : "empty";
  describe();
  if (!points && !checks.size) return;
  plot = new uPlot(options(box.clientWidth || 400), data(), box);
}

function describe() {
  const last = points - 1;
  byId("chart").setAttribute("aria-label", points
    ? `Loss from ${formatLoss(pointLosses[0])} at step ${pointSteps[0]} to ${formatLoss(pointLosses[last])} at step ${pointSteps[last]}`
    : "Loss over the steps; nothing yet");
}

export function setUpChart() {
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (plot && width && width !== plot.width) plot.setSize({ width, height: HEIGHT_PX });
  }).observe(byId("chart"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw); // uPlot draws on a canvas
}
