// Step 2's run: status, numbers, chart; warns before the page is left in mid-run.

import { addStep, addValidation, clearChart, showCurve } from "./chart.js";
import { byId, formatBytes, formatCount, formatLoss, formatRate, formatTime, setText } from "./dom.js";
import { foldSettings, whyNot } from "./settings.js";
import { isRunning, state, subscribe, update } from "./store.js";

const words = {
  loading: "Loading the model", compiling: "Compiling for this GPU", training: "Training", stopping: "Stopping after this step",
  done: "Done, the adapter is kept", error: "Stopped by an error",
};
let progress = { done: 0, total: 0 };

/** Listen to the train worker's run. */
export function setUpTraining(train) {
  train.on("training_state", onState);
  train.on("training_step", onStep);
  train.on("training_resumed", onResumed);
  train.on("validation_loss", ({ step, loss }) => addValidation(step, loss));
  addEventListener("beforeunload", (event) => {
    if (isRunning()) event.preventDefault(); // the browser asks in its own words
  });
  subscribe(draw);
}

function onState({ state: phase, detail, done, total }) {
  if (phase === "loading" && !isRunning()) beginRun();
  progress = { done, total };
  update({ phase, phaseDetail: detail });
}

function beginRun() {
  foldSettings();
  clearChart(state.plan?.total_steps ?? 0);
  setText(byId("train-step"), "–");
  setText(byId("train-loss"), "–");
  setText(byId("train-rate"), "–");
  setText(byId("train-left"), "–");
}

function onResumed({ step, total_steps, loss_curve, validation_curve }) {
  showCurve(loss_curve, validation_curve, total_steps);
  setText(byId("train-step"), `${step} / ${total_steps}`);
  setText(byId("train-loss"), loss_curve.length ? formatLoss(loss_curve.at(-1)[1]) : "–"); // a lost GPU may lead to the beginning
}

function onStep(event) {
  addStep(event.step, event.loss);
  setText(byId("train-step"), `${event.step} / ${event.total_steps}`);
  setText(byId("train-loss"), formatLoss(event.loss));
  setText(byId("train-rate"), formatRate(event.tokens_per_s));
  setText(byId("train-left"), formatTime(event.left_ms));
  progress = { done: event.step, total: event.total_steps };
  drawProgress();
}

function draw({ phase, phaseDetail }) {
  const status = byId("train-status");
  status.dataset.state = phase;
  const ended = phase === "done" || phase === "error";
  const idle = phase === "idle" && !phaseDetail;
  setText(status, idle ? whyNot() || "Ready to train." : describe(phase, phaseDetail) + (ended ? `. ${whyNot()}` : ""));
  document.title = isRunning() ? `${words[phase]} – LoRA Lab` : "LoRA Lab";
  if (!isRunning() && phase !== "idle") setText(byId("train-left"), "–");
  drawProgress();
}

function describe(phase, detail) {
  const { done, total } = progress;
  if (phase === "loading" && total) return `${words[phase]}: ${formatBytes(done)} of ${formatBytes(total)}`;
  if (phase === "compiling" && total) return `${words[phase]}: ${formatCount(done)} of ${formatCount(total)} kernels`;
  return detail || words[phase];
}

function drawProgress() {
  const bar = byId("train-progress");
  bar.hidden = !isRunning();
  if (progress.total) bar.value = progress.done / progress.total;
  else bar.removeAttribute("value");
}
