// The numbers of a run: how far it is, how long it takes and until when, its memory, and the rows held back.

import { computed, signal, useSignalEffect } from "@preact/signals";
import { formatBytes, formatHour, formatLoss, formatPercent, formatPerplexity, formatRate, formatTime } from "../format";
import type { ValidationLoss } from "../protocol";
import { curveOf, isRunning, lastStep, plan } from "../store/train";
import { begunAt, best, endsAt, memoryInUse, tookMs, validations } from "../store/watch";
import { trainText, watchText } from "../text";

const NONE = "–";
const clock = signal(Date.now()); // goes on while a run does

const elapsedMs = computed(() => tookMs.value ?? (begunAt.value === null ? null : Math.max(0, clock.value - begunAt.value)));
const leftMs = computed(() => (!isRunning.value || endsAt.value === null ? null : Math.max(0, endsAt.value - clock.value)));

const Metric = ({ id, label, value, accent = false }: { id: string; label: string; value: string; accent?: boolean }) => (
  <div>
    <span class="metric-label">{label}</span>
    <span class={accent ? "metric accent" : "metric"} data-testid={id} id={id}>{value}</span>
  </div>
);

export function Metrics() {
  useSignalEffect(() => {
    if (!isRunning.value) return undefined;
    clock.value = Date.now();
    const timer = setInterval(() => (clock.value = Date.now()), 1000);
    return () => clearInterval(timer);
  });
  const step = lastStep.value;
  return (
    <>
      <div class="metrics">
        <Metric id="train-step" label={trainText.step} value={step ? `${step.step} / ${step.total_steps}` : NONE} />
        <Metric id="train-loss" label={trainText.loss} value={step?.loss == null ? NONE : formatLoss(step.loss)} accent />
        <Metric id="train-rate" label={trainText.rate} value={step?.tokens_per_s == null ? NONE : formatRate(step.tokens_per_s)} />
        <Metric id="train-left" label={trainText.left} value={leftMs.value === null ? NONE : formatTime(leftMs.value)} />
      </div>
      {!curveOf.value && <Facts />}
      {!curveOf.value && <Validations />}
    </>
  );
}

function Facts() {
  const running = isRunning.value;
  const memory = memoryInUse.value;
  const planned = plan.value?.memory_bytes ?? 0;
  const words = memory && watchText.memoryWords(planned ? formatBytes(planned) : "", running ? formatBytes(memory.in_use_bytes) : "");
  const facts = [
    elapsedMs.value !== null && { id: "train-elapsed", label: running ? watchText.elapsed : watchText.took, value: formatTime(elapsedMs.value) },
    running && endsAt.value !== null && { id: "train-ends", label: watchText.endsAt, value: formatHour(endsAt.value) },
    running && words && { id: "train-memory", label: watchText.memory, value: words, title: watchText.memoryPeak(formatBytes(memory.peak_bytes)) },
  ].filter((one) => one !== false && one !== null && one !== "");
  if (!facts.length) return null;
  return (
    <dl class="run-facts">
      {facts.map(({ id, label, value, title }: { id: string; label: string; value: string; title?: string }) => (
        <div key={id}><dt>{label}</dt><dd data-testid={id} title={title}>{value}</dd></div>
      ))}
    </dl>
  );
}

/** The rows held back: before training, at the best step, and now. */
function Validations() {
  const all = validations.value;
  const [first, now] = [all[0], all.at(-1)];
  if (!first || !now) return null;
  const rows = [...new Set([first, best.value ?? now, now])];
  return (
    <table class="validations" data-testid="validations">
      <thead>
        <tr>
          <td />
          <th scope="col">{watchText.validation}</th>
          <th scope="col">{watchText.perplexity}</th>
          <th scope="col" title={watchText.accuracyHelp}>{watchText.accuracy}</th>
        </tr>
      </thead>
      <tbody>{rows.map((one) => <Row key={one.step} one={one} isBest={one === best.value && all.length > 1} />)}</tbody>
    </table>
  );
}

const Row = ({ one, isBest }: { one: ValidationLoss; isBest: boolean }) => (
  <tr data-step={one.step} data-best={isBest}>
    <th scope="row">{watchText.atStep(one.step)}{isBest && <span class="best-mark">{watchText.best}</span>}</th>
    <td>{formatLoss(one.loss)}</td>
    <td>{formatPerplexity(one.perplexity)}</td>
    <td>{one.accuracy === null ? NONE : formatPercent(one.accuracy)}</td>
  </tr>
);
