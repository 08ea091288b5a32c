// The run's curves, drawn by uPlot: the loss, the learning rate, the gradient's norm and the speed over the same steps.
// What is pointed at in one is pointed at in all; a drag zooms all, a double click shows all again. Fetched when wanted.

import uPlot from "uplot";
import { formatLearningRate } from "../format";
import { theme } from "../store/shell";
import { columns, facts, pointed, zoomed, type Columns } from "./curve";

const HEIGHT_PX = 210;
const SMALL_PX = 58;
const LABEL_PX = 42; // of what stands at the left: the same in all, so that steps stand below each other
const DIGIT_PX = 6.7; // of the labels' type
const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Where the axis ends: with the run, but while it is young not so far off that its curve would be a sliver. */
const lastShown = (reached: number): number => Math.max(Math.min(facts().total, Math.max(20, Math.ceil(reached * 1.6))), reached, 2);

const short = (value: number): string =>
  Math.abs(value) >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
const SMALL = [
  { column: 5, values: (value: number) => (value === 0 ? "0" : formatLearningRate(Number(value.toPrecision(2)))) },
  { column: 6, values: short },
  { column: 7, values: short },
] as const;

/** The elements that are drawn in: of the loss, and of the three others in the order of SMALL. */
export interface Boxes {
  readonly loss: HTMLElement;
  readonly small: readonly HTMLElement[];
}

export class Charts {
  private plots: uPlot[] = [];
  private data: Columns = columns();
  private zoom: readonly [number, number] | null = null;
  private readonly sync = uPlot.sync("run");
  private readonly sizes = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry?.contentRect.width ?? 0);
    for (const plot of this.plots) if (width && width !== plot.width) plot.setSize({ width, height: plot.height });
  });
  private readonly stopThemes: () => void;
  private readonly themes = matchMedia("(prefers-color-scheme: dark)");

  constructor(private readonly boxes: Boxes) {
    this.sizes.observe(boxes.loss);
    this.themes.addEventListener("change", this.redraw); // uPlot draws on a canvas
    this.redraw();
    this.stopThemes = theme.subscribe(() => this.plots.length && this.redraw());
  }

  destroy(): void {
    this.sizes.disconnect();
    this.themes.removeEventListener("change", this.redraw);
    this.stopThemes();
    this.clear();
  }

  /** The curve has changed. */
  draw(): void {
    const { points, checks } = facts();
    const before = this.data[0].at(-1) ?? 0;
    this.data = columns();
    if ((this.data[0].at(-1) ?? 0) < before) this.show(null); // another run's
    if (!points && !checks) this.clear();
    else if (this.plots.length) this.plots.forEach((plot, index) => plot.setData(this.of(index)));
    else this.redraw();
  }

  /** Show the steps from one to another, or all. */
  readonly show = (range: readonly [number, number] | null): void => {
    this.zoom = range;
    zoomed.value = range !== null;
    this.plots.forEach((plot, index) => {
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      plot.setData(this.of(index)); // which asks for the range anew
    });
  };

  private clear(): void {
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    pointed.value = null;
  }

  private readonly redraw = (): void => {
    this.clear();
    const width = this.boxes.loss.clientWidth || 400;
    this.data = columns();
    this.plots = [new uPlot(this.lossOptions(width), this.of(0), this.boxes.loss)];
    this.boxes.small.forEach((box, index) => this.plots.push(new uPlot(this.smallOptions(width, index), this.of(index + 1), box)));
  };

  /** The columns of one of the plots. */
  private of(index: number): uPlot.AlignedData {
    const [steps, losses, smooth, validation, best] = this.data;
    return index === 0 ? [steps, losses, smooth, validation, best] : [steps, this.data[SMALL[index - 1]!.column]];
  }

  private shared(width: number, height: number): Pick<uPlot.Options, "width" | "height" | "padding" | "legend" | "cursor" | "scales"> {
    const half = (String(facts().total).length * DIGIT_PX) / 2; // of the last label stands beyond the last step
    return {
      width,
      height,
      padding: [8, Math.ceil(half) + 6, height === SMALL_PX ? 6 : 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false },
        sync: { key: this.sync.key, scales: ["x", null] },
        bind: { dblclick: () => () => (this.show(null), null) },
      },
      scales: { x: { time: false, range: (_, min, max) => (this.zoom ? [...this.zoom] : [Math.min(1, min ?? 1), lastShown(max ?? 1)]) } },
    };
  }

  private axis(): uPlot.Axis {
    return {
      stroke: color("--ink-soft"), font: "11px 'Geist Mono', monospace", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false },
    };
  }

  private lossOptions(width: number): uPlot.Options {
    const axis = this.axis();
    const steps = (_: uPlot, ticks: number[]): string[] => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : ""));
    return {
      ...this.shared(width, HEIGHT_PX),
      hooks: { setCursor: [this.point], setSelect: [this.select] },
      axes: [{ ...axis, size: 28, space: 50, values: steps }, { ...axis, size: LABEL_PX, space: 36 }],
      series: [
        {},
        { stroke: color("--accent-faint"), width: 1.25, spanGaps: true, points: { show: (chart) => chart.data[0].length < 3, size: 5 } },
        { stroke: color("--accent"), width: 2.25, spanGaps: true, points: { show: false } },
        { stroke: color("--second"), width: 1.5, spanGaps: true, dash: [4, 4], points: { show: true, size: 6, fill: color("--second") } },
        {
          stroke: color("--good"), width: 0, paths: () => null,
          points: { show: true, size: 12, width: 2.5, stroke: color("--good"), fill: color("--card") },
        },
      ],
    };
  }

  private smallOptions(width: number, index: number): uPlot.Options {
    const axis = this.axis();
    const { values } = SMALL[index]!;
    return {
      ...this.shared(width, SMALL_PX),
      hooks: { setSelect: [this.select] },
      axes: [
        { ...axis, size: 0, space: 50, values: (_, ticks) => ticks.map(() => "") },
        { ...axis, size: LABEL_PX, space: 20, values: (_, ticks) => ticks.map((tick) => values(tick)) },
      ],
      series: [{}, { stroke: color("--accent"), width: 1.5, spanGaps: true, points: { show: (chart) => chart.data[0].length < 3, size: 5 } }],
    };
  }

  private readonly select = (plot: uPlot): void => {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    this.show([from, Math.max(to, from + 1)]);
  };

  private readonly point = (plot: uPlot): void => {
    const at = plot.cursor.idx;
    const step = at == null ? undefined : this.data[0][at];
    const value = (column: 1 | 3 | 5 | 6 | 7): number | null => this.data[column][at ?? -1] ?? null;
    pointed.value = step === undefined ? null : {
      step, loss: value(1), validation: value(3), learning_rate: value(5), grad_norm: value(6), tokens_per_s: value(7),
    };
  };
}
