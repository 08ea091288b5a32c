// A run that was stopped: by a pause, a reload, a crash. It can be gone on with, or given up.

import { byId, formatCount, formatDate, setText } from "./dom.js";
import { toast } from "./problems.js";
import { isRunning, state, subscribe, update } from "./store.js";

/** `resume()` goes on with it; `discard()` gives it up. */
export function setUpStopped(train, { resume, discard }) {
  let isFirst = true;
  train.on("stopped_run", (event) => {
    if (isFirst && event.step) toast(title(event), { label: "Show", run: () => byId("stopped-run").scrollIntoView({ block: "center" }) });
    isFirst = false;
    update({ stoppedRun: event.step ? event : null });
  });
  train.on("training_resumed", ({ differs }) => differs && toast(`It goes on, but not bit for bit as before: ${differs}.`));
  byId("train-resume").addEventListener("click", resume);
  byId("train-discard").addEventListener("click", discard);
  subscribe(draw);
}

const title = (run) => `Run stopped at ${formatCount(run.step)} of ${formatCount(run.total_steps)}`;

function draw({ stoppedRun: run, gpu, model }) {
  const box = byId("stopped-run");
  const shown = Boolean(run) && !isRunning();
  if (!shown && box.contains(document.activeElement)) byId(isRunning() ? "train-stop" : "train-start").focus();
  box.hidden = !shown;
  if (!shown) return;
  const isReady = Boolean(model) && gpu.state === "found";
  setText(byId("stopped-at"), title(run));
  setText(byId("stopped-what"), `· ${run.dataset} · ${run.model} · ${formatDate(run.saved_at)}`);
  setText(byId("stopped-note"), isReady
    ? "It goes on exactly as if it had never stopped, with the settings it was begun with. A new run takes its place."
    : gpu.state === "lost" ? "It can go on once the GPU is back." : "It can go on as soon as the model and the GPU are there.");
  byId("train-resume").disabled = !isReady || state.worker.phase !== "ready";
}
