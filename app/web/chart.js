// The loss over the steps, drawn by uPlot: every step, a smoothed line, and the validation loss.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { byId, formatLoss } from "./dom.js";

const HEIGHT_PX = 210;
let plot = null;
let points = []; // [step, loss]
let checks = new Map(); // step -> validation loss
let totalSteps = 0;
let frame = 0;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Forget the curve; `total` steps are coming. */
export function clearChart(total) {
  points = [];
  checks = new Map();
  totalSteps = total;
  byId("validation-key").hidden = true;
  redraw();
}

export function addStep(step, loss) {
  points.push([step, loss]);
  later();
}

export function addValidation(step, loss) {
  checks.set(step, loss);
  byId("validation-key").hidden = false;
  later();
}

/** Draw a stored curve: lists of [step, loss]. */
export function showCurve(curve, validation, total) {
  points = curve.map((point) => [...point]);
  checks = new Map(validation);
  totalSteps = total;
  byId("validation-key").hidden = checks.size === 0;
  redraw();
}

function later() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    update();
  });
}

function data() {
  const steps = [...new Set([...points.map(([step]) => step), ...checks.keys()])].sort((a, b) => a - b);
  const losses = new Map(points);
  // An exponential mean over about a tenth of the run, corrected at its beginning.
  const keep = Math.min(0.95, Math.max(0.3, 1 - 2 / (Math.max(totalSteps, steps.length) / 10 + 2)));
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
  byId("run").dataset.state = points.length || checks.size ? "drawn" : "empty";
  describe();
  if (!points.length && !checks.size) return;
  plot = new uPlot(options(box.clientWidth || 400), data(), box);
}

function describe() {
  const last = points.at(-1);
  byId("chart").setAttribute("aria-label", last
    ? `Loss from ${formatLoss(points[0][1])} at step ${points[0][0]} to ${formatLoss(last[1])} at step ${last[0]}`
    : "Loss over the steps; nothing yet");
}

export function setUpChart() {
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (plot && width && width !== plot.width) plot.setSize({ width, height: HEIGHT_PX });
  }).observe(byId("chart"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw); // uPlot draws on a canvas
}
