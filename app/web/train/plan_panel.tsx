// What a run will take: its steps, its time, its memory, and what is to be said of that.

import { computed, signal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { focusNext } from "../dom";
import { formatBytes, formatCount, formatTime } from "../format";
import { chatBytes, chatModel, comparing, replying } from "../store/chat";
import { gpu, model } from "../store/page";
import { checks } from "../store/settings";
import { isRunning, plan, timing, whyNot, type Plan } from "../store/train";
import { trainText } from "../text";
import { measureTime } from "./plan";

const SETTLED_MS = 700;
const askedFor = signal<Plan | null>(null); // the plan whose time was asked for: once is enough

const canMeasure = computed(() => Boolean(plan.value?.memory_bytes) && whyNot.value === "" && timing.value !== "measuring");

// A software device has no time to spare, so there only a person may ask; a GPU must not be busy with something else.
const mayMeasureByItself = computed(() =>
  canMeasure.value && !gpu.value.is_software && timing.value === null && askedFor.value !== plan.value
  && replying.value === null && !comparing.value && chatModel.value !== "loading");

function measure(): void {
  askedFor.value = plan.peek();
  measureTime();
}

/** The parts of the memory. Where the chat stays awake its model is one: two workers are two devices. */
const memory = computed(() => {
  const { memory_bytes = 0, memory_parts = [] } = plan.value ?? {};
  const awake = checks.free_chat.value ? 0 : chatBytes.value;
  const parts = awake ? [...memory_parts, { label: trainText.chatAwake, size_bytes: awake }] : memory_parts;
  return { bytes: memory_bytes + awake, parts };
});

function timeWords(): string {
  const told = plan.value?.memory_bytes ? timing.value : null;
  if (!told) return "";
  if (told === "measuring") return trainText.measuring;
  if (told.problem) return trainText.notMeasured(told.problem);
  const ms = told.step_ms;
  const step = ms >= 9950 ? formatTime(ms) : ms >= 995 ? `${(ms / 1000).toFixed(1)} s` : `${ms >= 9.5 ? Math.round(ms) : ms.toFixed(1)} ms`;
  return trainText.takes(formatTime(told.total_ms), step, formatCount(Number(told.tokens_per_s.toPrecision(3))));
}

export function PlanPanel() {
  useSignalEffect(() => {
    const planned = mayMeasureByItself.value ? plan.value : null;
    if (!planned) return undefined;
    const timer = setTimeout(measure, SETTLED_MS);
    return () => clearTimeout(timer);
  });
  const told = plan.value;
  return (
    <div class="plan" id="plan" aria-live="polite" hidden={isRunning.value}>
      <p id="plan-summary">{told?.summary ?? ""}</p>
      <p id="plan-time" data-testid="plan-time">{timeWords()}</p>
      <MeasureButton />
      <Memory />
      <ul class="notes" id="plan-notes">{(told?.notes ?? []).map((note) => <li>{note}</li>)}</ul>
    </div>
  );
}

function MeasureButton() {
  const told = timing.value;
  const isHidden = !plan.value?.memory_bytes || (told !== null && told !== "measuring" && told.step_ms > 0);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (isHidden && document.activeElement === button.current) focusNext("train-start"); // or keyboards would lose their place
  }, [isHidden]);
  return (
    <button type="button" class="secondary small" data-testid="measure-time" id="plan-measure" ref={button} hidden={isHidden}
      disabled={!canMeasure.value} onClick={measure}>
      {trainText.measure}
    </button>
  );
}

function Memory() {
  const { bytes, parts } = memory.value;
  const twice = plan.value?.recomputed_layers ?? 0;
  return (
    <details class="fold memory" id="plan-memory" hidden={!plan.value?.memory_bytes}>
      <summary>
        {trainText.memoryNeeded} <strong id="plan-memory-total">{formatBytes(bytes)}</strong>
        <span id="plan-recomputed">{twice && model.value ? trainText.recomputes(twice, model.value.layers) : ""}</span>
      </summary>
      <div class="memory-bar" id="memory-bar" aria-hidden="true">
        {parts.map(({ size_bytes }, index) => <span class={`part-${index % 7}`} style={{ flexGrow: size_bytes / bytes }} />)}
      </div>
      <dl class="memory-parts" id="memory-parts">
        {parts.flatMap(({ label, size_bytes }, index) => [
          <dt><span class={`swatch part-${index % 7}`} />{label}</dt>,
          <dd>{formatBytes(size_bytes)}</dd>,
        ])}
      </dl>
    </details>
  );
}
