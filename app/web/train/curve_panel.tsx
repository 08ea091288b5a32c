// The run's numbers and its curves. The charts' library is fetched when there is something to draw.

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { formatCount, formatLearningRate, formatLoss, formatRate } from "../format";
import { adapters } from "../store/chat";
import { curveOf, lastStep } from "../store/train";
import { trainText, watchText } from "../text";
import type { Charts } from "./chart";
import { bestCheck, facts, pointed, revision, zoomed } from "./curve";
import { Metrics } from "./run_facts";

export function CurvePanel() {
  const owner = curveOf.value && (adapters.value?.find(({ id }) => id === curveOf.value?.id) ?? curveOf.value);
  revision.value; // drawn again when the curve has changed
  const { points, checks, first, last, hasMore } = facts();
  const best = checks > 1 ? bestCheck() : null;
  const label = points ? trainText.curveLabel(first[0], formatLoss(first[1]), last[0], formatLoss(last[1])) : trainText.noCurve;
  const charts = useRef<Charts | null>(null);
  return (
    <div class="run" id="run" data-state={points || checks ? "drawn" : "empty"}>
      {owner && <p class="run-of" data-testid="run-of">{trainText.runOf(owner.name)}</p>}
      <Metrics />
      <figure class="chart-box">
        <figcaption>
          <span class="key train-key">{trainText.trainingLoss}</span>
          <span class="key smooth-key">{trainText.smoothed}</span>
          <span class="key validation-key" id="validation-key" hidden={!checks}>{trainText.validation}</span>
          {best && <span class="key best-key" data-testid="best-key">{watchText.best}, {watchText.atStep(best[0]).toLowerCase()}</span>}
          <PointWords />
          {zoomed.value && (
            <button type="button" class="quiet small show-all" data-testid="zoom-reset" onClick={() => charts.current?.show(null)}>
              {watchText.showAll}
            </button>
          )}
        </figcaption>
        <Drawing label={label} hasMore={hasMore} charts={charts} />
        <p class="chart-empty">{trainText.chartEmpty}</p>
      </figure>
    </div>
  );
}

function PointWords() {
  const at = pointed.value;
  const loss = (value: number | null): string => (value === null ? "" : formatLoss(value));
  return <span class="chart-point" id="chart-point">{at && trainText.point(at.step, loss(at.loss), loss(at.validation))}</span>;
}

const SMALL = [
  { name: "learning_rate", label: watchText.learningRate, shown: (value: number) => formatLearningRate(Number(value.toPrecision(3))) },
  { name: "grad_norm", label: watchText.gradNorm, shown: (value: number) => value.toPrecision(3) },
  { name: "tokens_per_s", label: watchText.tokensPerS, shown: (value: number) => (value >= 1000 ? formatCount(value) : formatRate(value)) },
] as const;

/** What a small chart shows, with its value where one points at a step, else its last. */
function SmallHead({ name, label, shown }: (typeof SMALL)[number]) {
  const value = pointed.value ? pointed.value[name] : lastStep.value?.[name];
  return (
    <p class="small-head">
      <span>{label}</span> <span class="small-value" data-testid={`chart-${name}`}>{value == null ? "" : shown(value)}</span>
    </p>
  );
}

/** The canvases, which the charts' library draws on by itself: once a frame at most. */
function Drawing({ label, hasMore, charts }: { label: string; hasMore: boolean; charts: RefObject<Charts | null> }) {
  const box = useRef<HTMLDivElement>(null);
  const small = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let frame = 0;
    let isGone = false;
    const draw = (): void => {
      const { points, checks } = facts();
      if (charts.current) charts.current.draw();
      else if (points || checks) void begin();
    };
    const begin = async (): Promise<void> => {
      const { Charts } = await import("./chart");
      if (isGone || !box.current || !small.current) return;
      charts.current ??= new Charts({ loss: box.current, small: [...small.current.querySelectorAll<HTMLElement>(".small-chart")] });
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
      charts.current?.destroy();
      charts.current = null;
    };
  }, []);
  return (
    <>
      <div class="chart" id="chart" role="img" aria-label={label} ref={box} />
      <div class="small-charts" data-testid="small-charts" hidden={!hasMore} ref={small}>
        {SMALL.map((one) => (
          <div key={one.name}>
            <SmallHead {...one} />
            <div class="small-chart" role="img" aria-label={one.label} />
          </div>
        ))}
        <p class="hint zoom-hint">{watchText.zoomHint}</p>
      </div>
    </>
  );
}
