// The strip under the header: which GPU, which model, how far each is.

import { byId, formatBytes, formatTime, setText } from "./dom.js";
import { missingWebGpu, showNoGpu } from "./help.js";
import { isRunning, state, subscribe, whyNoPython } from "./store.js";

const bootWords = { runtime: "Starting Python", packages: "Loading numpy", program: "Loading the engine" };

export function setUpStrip() {
  subscribe(drawGpu);
  subscribe(drawModel);
  followSteps();
}

/** On small screens: mark the step that is in view in the header. */
function followSteps() {
  const links = new Map([...document.querySelectorAll(".steps-nav a")].map((link) => [link.dataset.step, link]));
  const seen = new Set(); // on a wide window all of them at once
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
    const current = [...links.keys()].find((step) => seen.has(step));
    if (current) for (const [step, link] of links) link.setAttribute("aria-current", String(step === current));
  }, { rootMargin: "-30% 0px -60% 0px" });
  for (const step of links.keys()) observer.observe(byId(step));
}

function drawGpu({ gpu }) {
  const missing = missingWebGpu();
  const words = {
    waiting: "Waiting for Python to start",
    looking: "Looking for a GPU…",
    found: (gpu.is_software ? `${gpu.name} (software: correct, but slow)` : gpu.name) + lostWords(gpu.losses),
    none: "None found",
    again: "Lost; asked for anew…",
    lost: "Lost",
  };
  const shown = missing ? "none" : gpu.state;
  byId("gpu-item").dataset.state = shown === "found" && gpu.is_software ? "soft" : shown;
  const status = document.querySelector("[data-testid=gpu-status]");
  status.dataset.state = shown;
  setText(status, words[shown]);
  status.title = gpu.state === "again" ? gpu.message : gpu.backend ? `${gpu.name}, ${gpu.vendor}, ${gpu.backend}` : "";
  if (missing) showNoGpu(missing);
  else if (gpu.state === "none") showNoGpu(gpu.message);
}

const lostWords = (losses) => (losses ? `, lost ${losses === 1 ? "once" : `${losses} times`} and back` : "");

function drawModel({ model, modelProgress, modelProblem, chatModel, worker, gpu }) {
  const status = document.querySelector("[data-testid=model-status]");
  const bar = byId("model-progress");
  let text, kind = "busy", progress = null;
  if (worker.phase === "fatal") [text, kind] = [whyNoPython(state), "error"];
  else if (modelProblem) [text, kind] = ["Not usable; see below", "error"];
  else if (worker.phase !== "ready") {
    text = `${bootWords[worker.phase] ?? "Starting Python"}…`;
    progress = worker.total ? worker.done / worker.total : null;
  } else if (modelProgress) [text, progress] = progressWords(modelProgress);
  else if (model) {
    const about = `${model.title} · ${formatBytes(model.size_bytes)}`;
    status.title = model.facts.map(({ label, value }) => `${label}: ${value}`).join("\n");
    const usable = gpu.state !== "found" || ["ready", "released", "failed"].includes(chatModel);
    text = usable ? about : `${about} · going to the GPU…`;
    kind = usable ? "ready" : "busy";
  } else text = "Opening…";
  byId("model-item").dataset.state = kind;
  status.dataset.state = kind;
  setText(status, text);
  bar.hidden = kind !== "busy";
  if (progress == null) bar.removeAttribute("value");
  else bar.value = progress;
  byId("model-change").disabled = worker.phase !== "ready" || isRunning() || state.reading != null;
}

function progressWords({ phase, done, total, rate_bytes_per_s, left_ms }) {
  const part = total ? done / total : null;
  if (phase === "download") {
    const rate = rate_bytes_per_s ? `, ${formatBytes(rate_bytes_per_s)}/s` : "";
    const left = left_ms > 1500 ? `, ${formatTime(left_ms)} left` : "";
    return [`Fetching ${formatBytes(done)} of ${formatBytes(total)}${rate}${left}`, part];
  }
  if (phase === "gpu") return [`To the GPU: ${formatBytes(done)} of ${formatBytes(total)}`, part];
  if (phase === "kernels") return ["Compiling for this GPU…", part];
  return ["Reading…", null];
}
