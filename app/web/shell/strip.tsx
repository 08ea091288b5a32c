// The strip under the header: which GPU, which model, how far each is.

import { computed } from "@preact/signals";
import { formatBytes } from "../format";
import { chatModel, fetching } from "../store/chat";
import { reading } from "../store/data";
import { gpu, hasGpu, missingWebGpu, model, modelDialog, modelProblem, modelProgress, whyNoPython, worker } from "../store/page";
import { isRunning } from "../store/train";
import { pageText } from "../text";
import { Bar } from "./parts";
import { Problems } from "./problems";

interface Line {
  readonly text: string;
  readonly state: "busy" | "ready" | "error";
  readonly part?: number | null; // how far it is, null where nobody knows
  readonly title?: string;
}

/** What the strip says of the model. */
export const modelLine = computed((): Line => {
  if (worker.value.phase === "fatal") return { text: whyNoPython.value, state: "error" };
  if (modelProblem.value) return { text: pageText.notUsable, state: "error" };
  const { phase, done, total } = worker.value;
  if (phase !== "ready") return { text: pageText.boot[phase] ?? pageText.starting, state: "busy", part: total ? done / total : null };
  if (modelProgress.value) return progressLine(modelProgress.value);
  const opened = model.value;
  if (!opened) return { text: pageText.opening, state: "busy" };
  const about = `${opened.title} · ${formatBytes(opened.size_bytes)}`;
  const title = opened.facts.map(({ label, value }) => `${label}: ${value}`).join("\n");
  const usable = !hasGpu.value || ["ready", "released", "failed"].includes(chatModel.value);
  return usable ? { text: about, state: "ready", title } : { text: pageText.toGpu(about), state: "busy", title };
});

function progressLine({ phase, done, total, rate_bytes_per_s, left_ms }: NonNullable<typeof modelProgress.value>): Line {
  const part = total ? done / total : null;
  if (phase === "download") return { text: pageText.fetching(done, total, rate_bytes_per_s ?? null, left_ms ?? null), state: "busy", part };
  if (phase === "gpu") return { text: pageText.movingToGpu(done, total), state: "busy", part };
  return phase === "kernels" ? { text: pageText.compiling, state: "busy", part } : { text: pageText.reading, state: "busy" };
}

function Gpu() {
  const { state, name, vendor, backend, message, losses, is_software } = gpu.value;
  const shown = missingWebGpu() ? "none" : state;
  const found = (is_software ? pageText.software(name) : name) + (losses ? pageText.lostAndBack(losses) : "");
  const title = state === "again" ? message : backend ? `${name}, ${vendor}, ${backend}` : "";
  return (
    <div class="setup-item" id="gpu-item" data-state={shown === "found" && is_software ? "soft" : shown}>
      <span class="lamp" aria-hidden="true" />
      <span class="setup-label">{pageText.gpu}</span>
      <span class="setup-value" data-testid="gpu-status" data-state={shown} role="status" title={title}>
        {shown === "found" ? found : pageText.gpuWords[shown]}
      </span>
    </div>
  );
}

function Model() {
  const { text, state, part = null, title = "" } = modelLine.value;
  const { total_bytes, done_bytes = 0 } = fetching.value ?? {};
  const fetched = total_bytes ? ` · ${Math.floor((100 * done_bytes) / total_bytes)} %` : "";
  const isOff = worker.value.phase !== "ready" || isRunning.value || reading.value !== null;
  return (
    <div class="setup-item grow" id="model-item" data-state={state}>
      <span class="lamp" aria-hidden="true" />
      <span class="setup-label">{pageText.model}</span>
      <span class="setup-value" data-testid="model-status" data-state={state} role="status" title={title}>{text}</span>
      <Bar id="model-progress" part={part} label={pageText.modelLoading} hidden={state !== "busy"} />
      <button type="button" class="quiet small" id="model-change" disabled={isOff} onClick={() => (modelDialog.value = true)}>
        {pageText.otherModel}{fetched}
      </button>
    </div>
  );
}

export const Strip = () => (
  <>
    <Gpu />
    <Model />
    <Problems slot="setup-problem" name="setup-problem" />
  </>
);
