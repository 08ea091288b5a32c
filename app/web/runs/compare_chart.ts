// Several runs' curves over the steps, drawn by uPlot. What is pointed at is told to whoever asks.

import uPlot from "uplot";
import { theme } from "../store/shell";

export type Points = readonly (readonly [number, number])[]; // [step, loss]
/** The step that is pointed at, and each run's loss there; null where it has none. */
export interface Picked {
  readonly step: number;
  readonly values: readonly (number | null)[];
}

const HEIGHT_PX = 260;
const COLOURS = 6; // --run-0 to --run-5 in runs.css; then they come again, dashed
const DASHES = [[], [8, 4], [2, 3]];

/** The steps of all curves, and for each curve its losses at them. */
export function aligned(curves: readonly Points[]): uPlot.AlignedData {
  const columns = curves.map((curve): uPlot.AlignedData => [curve.map(([step]) => step), curve.map(([, loss]) => loss)]);
  return uPlot.join(columns.filter(([steps]) => steps.length).length ? columns : [[[], []]]);
}

export class CompareChart {
  private plot: uPlot | null = null;
  private readonly sizes = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry?.contentRect.width ?? 0);
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT_PX });
  });
  private readonly themes = matchMedia("(prefers-color-scheme: dark)");
  private readonly stopThemes: () => void;

  constructor(private readonly box: HTMLElement, private readonly curves: readonly Points[], private readonly tell: (picked: Picked | null) => void) {
    this.sizes.observe(box);
    this.themes.addEventListener("change", this.draw); // uPlot draws on a canvas
    this.stopThemes = theme.subscribe(() => this.draw());
  }

  destroy(): void {
    this.sizes.disconnect();
    this.themes.removeEventListener("change", this.draw);
    this.stopThemes();
    this.plot?.destroy();
  }

  private readonly draw = (): void => {
    this.plot?.destroy();
    this.plot = new uPlot(this.options(this.box.clientWidth || 400), aligned(this.curves), this.box);
  };

  private options(width: number): uPlot.Options {
    const style = getComputedStyle(this.box);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: color("--ink-soft"), font: "11px 'Geist Mono', monospace", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false },
    };
    const whole = (_: uPlot, ticks: number[]): string[] => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : ""));
    return {
      width,
      height: HEIGHT_PX,
      padding: [10, 22, 0, 0], // half of the last label stands beyond the last step
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      hooks: { setCursor: [this.point] },
      scales: { x: { time: false, range: (_, min, max) => [min ?? 0, Math.max(max ?? 2, (min ?? 0) + 1)] } },
      axes: [{ ...axis, size: 28, space: 50, values: whole }, { ...axis, size: 42, space: 36 }],
      series: [{}, ...this.curves.map((curve, place): uPlot.Series => ({
        stroke: color(`--run-${place % COLOURS}`),
        width: 2,
        spanGaps: true, // a step that only another run has
        dash: DASHES[Math.floor(place / COLOURS) % DASHES.length]!,
        points: { show: curve.length < 12, size: 5 },
      }))],
    };
  }

  private readonly point = (plot: uPlot): void => {
    const index = plot.cursor.idx;
    const step = index == null ? undefined : plot.data[0][index];
    this.tell(index == null || step === undefined ? null : { step, values: plot.data.slice(1).map((column) => column[index] ?? null) });
  };
}
