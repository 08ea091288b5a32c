// The run's numbers and its curve. The chart's library is fetched when there is something to draw.

import { useEffect, useRef } from "preact/hooks";
import { formatLoss, formatRate, formatTime } from "../format";
import { adapters } from "../store/chat";
import { curveOf, isRunning, lastStep, phase } from "../store/train";
import { trainText } from "../text";
import type { Chart } from "./chart";
import { facts, revision } from "./curve";

const NONE = "–";

export function CurvePanel() {
  const step = lastStep.value;
  const owner = curveOf.value && (adapters.value?.find(({ id }) => id === curveOf.value?.id) ?? curveOf.value);
  const isOver = !isRunning.value && phase.value !== "idle";
  revision.value; // drawn again when the curve has changed
  const { points, checks, first, last } = facts();
  const label = points ? trainText.curveLabel(first[0], formatLoss(first[1]), last[0], formatLoss(last[1])) : trainText.noCurve;
  return (
    <div class="run" id="run" data-state={points || checks ? "drawn" : "empty"}>
      {owner && <p class="run-of" data-testid="run-of">{trainText.runOf(owner.name)}</p>}
      <div class="metrics">
        <Metric id="train-step" label={trainText.step} value={step ? `${step.step} / ${step.total_steps}` : NONE} />
        <Metric id="train-loss" label={trainText.loss} value={step?.loss == null ? NONE : formatLoss(step.loss)} accent />
        <Metric id="train-rate" label={trainText.rate} value={step?.tokens_per_s == null ? NONE : formatRate(step.tokens_per_s)} />
        <Metric id="train-left" label={trainText.left} value={step?.left_ms == null || isOver ? NONE : formatTime(step.left_ms)} />
      </div>
      <figure class="chart-box">
        <figcaption>
          <span class="key train-key">{trainText.trainingLoss}</span>
          <span class="key smooth-key">{trainText.smoothed}</span>
          <span class="key validation-key" id="validation-key" hidden={!checks}>{trainText.validation}</span>
          <span class="chart-point" id="chart-point" />
        </figcaption>
        <Drawing label={label} />
        <p class="chart-empty">{trainText.chartEmpty}</p>
      </figure>
    </div>
  );
}

const Metric = ({ id, label, value, accent = false }: { id: string; label: string; value: string; accent?: boolean }) => (
  <div>
    <span class="metric-label">{label}</span>
    <span class={accent ? "metric accent" : "metric"} data-testid={id} id={id}>{value}</span>
  </div>
);

/** The canvas, which the chart's library draws on by itself: once a frame at most. */
function Drawing({ label }: { label: string }) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  useEffect(() => {
    let frame = 0;
    let isGone = false;
    const draw = (): void => {
      const { points, checks } = facts();
      if (chart.current) chart.current.draw();
      else if (points || checks) void begin();
    };
    const begin = async (): Promise<void> => {
      const { Chart } = await import("./chart");
      if (!isGone && box.current) chart.current ??= new Chart(box.current, document.getElementById("chart-point"));
    };
    const stop = revision.subscribe(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    });
    return () => {
      isGone = true;
      stop();
      cancelAnimationFrame(frame);
      chart.current?.destroy();
    };
  }, []);
  return <div class="chart" id="chart" role="img" aria-label={label} ref={box} />;
}
