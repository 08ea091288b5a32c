// The loss over the steps, drawn by uPlot: every step, a smoothed line, and the validation loss. Fetched when it is wanted.

import uPlot from "uplot";
import { formatLoss } from "../format";
import { theme } from "../store/shell";
import { trainText } from "../text";
import { columns, facts, type Columns } from "./curve";

const HEIGHT_PX = 210;
const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Where the axis ends: with the run, but while it is young not so far off that its curve would be a sliver. */
const lastShown = (reached: number): number => Math.max(Math.min(facts().total, Math.max(20, Math.ceil(reached * 1.6))), reached, 2);

export class Chart {
  private plot: uPlot | null = null;
  private readonly sizes = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry?.contentRect.width ?? 0);
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT_PX });
  });
  private readonly stopThemes: () => void;
  private readonly themes = matchMedia("(prefers-color-scheme: dark)");

  /** `caption` gets the numbers of the step that is pointed at. */
  constructor(private readonly box: HTMLElement, private readonly caption: HTMLElement | null) {
    this.sizes.observe(box);
    this.themes.addEventListener("change", this.redraw); // uPlot draws on a canvas
    this.redraw();
    this.stopThemes = theme.subscribe(() => this.plot && this.redraw());
  }

  destroy(): void {
    this.sizes.disconnect();
    this.themes.removeEventListener("change", this.redraw);
    this.stopThemes();
    this.plot?.destroy();
  }

  /** The curve has changed. */
  draw(): void {
    const { points, checks } = facts();
    if (!points && !checks) {
      this.plot?.destroy();
      this.plot = null;
    } else if (this.plot) this.plot.setData(columns());
    else this.redraw();
  }

  private readonly redraw = (): void => {
    this.plot?.destroy();
    this.plot = new uPlot(this.options(this.box.clientWidth || 400), columns(), this.box);
  };

  private options(width: number): uPlot.Options {
    const axis: uPlot.Axis = {
      stroke: color("--ink-soft"), font: "11px 'Geist Mono', monospace", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false },
    };
    const steps = (_: uPlot, ticks: number[]): string[] => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : ""));
    return {
      width,
      height: HEIGHT_PX,
      padding: [10, 22, 0, 0], // half of the last label stands beyond the last step
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      hooks: { setCursor: [this.showPoint] },
      scales: { x: { time: false, range: (_, min, max) => [Math.min(1, min ?? 1), lastShown(max ?? 1)] } },
      axes: [{ ...axis, size: 28, space: 50, values: steps }, { ...axis, size: 42, space: 36 }],
      series: [
        {},
        { stroke: color("--accent-faint"), width: 1.25, spanGaps: true, points: { show: (chart) => chart.data[0].length < 3, size: 5 } },
        { stroke: color("--accent"), width: 2.25, spanGaps: true, points: { show: false } },
        { stroke: color("--second"), width: 1.5, spanGaps: true, dash: [4, 4], points: { show: true, size: 6, fill: color("--second") } },
      ],
    };
  }

  private readonly showPoint = (chart: uPlot): void => {
    if (!this.caption) return;
    const index = chart.cursor.idx;
    const [steps, losses, , validation] = chart.data as Columns;
    const step = index == null ? undefined : steps[index];
    this.caption.textContent = index == null || step === undefined ? "" : trainText.point(
      step, losses[index] == null ? "" : formatLoss(losses[index]), validation[index] == null ? "" : formatLoss(validation[index]));
  };
}
