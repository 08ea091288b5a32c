// A worker that died or hangs: it is ended, told of as what it is, and started anew with what the page knows.
//
// What a fresh train worker is told is the model, and then the data; the settings stand in the page. What the last one was
// busy with when it died is left out, or it would die of it again.

import { awaitModel } from "./applied.js";
import { abandonReply } from "./chat.js";
import { forgetData } from "./data.js";
import { saveFile } from "./dom.js";
import { showProblem, toast } from "./problems.js";
import { isRunning, state, update } from "./store.js";

const WITHIN_MS = 300000, MOST = 3; // so often a worker is started anew by itself: not for ever
const END_AFTER_MS = 5000; // of a stop that shows no effect
const begun = { train: [], chat: [] }; // when a worker was started anew
let train;
let page; // {chat(), isOpening(), openAgain(the_same)}

/** `given`: the chat's link or null; whether a model is being opened; has the model opened again, or the site's own. */
export function setUpRevival(link, given) {
  [train, page] = [link, given];
  train.on("fatal", trainDies);
  train.on("died", trainDies);
}

function mayRevive(kind) {
  const now = performance.now();
  begun[kind] = begun[kind].filter((when) => now - when < WITHIN_MS);
  return begun[kind].push(now) <= MOST;
}

/** What became of a worker, in words. `event` is its `fatal` or `died`. */
function deathWords({ type, message, seconds, doing }, started) {
  if (type === "fatal") return started ? `Python has died: ${message}.` : `Python could not start: ${message}`;
  if (!started) return `Python did not start within ${seconds} seconds.`;
  return `Python did not answer for ${seconds} seconds${doing ? ` while ${doing}` : ""}, and was ended.`;
}

function trainDies(event) {
  const started = event.started ?? train.ready;
  const words = [deathWords(event, started)];
  const reading = Boolean(state.reading || state.validationReading);
  const opening = started && !reading && page.isOpening();
  if (isRunning()) words.push("The run that was going on is over.");
  if (reading) words.push("The data that was being read is left out.");
  if (opening) words.push("The model that was being opened is left out.");
  giveWhatWasLearned();
  train.worker.terminate();
  update({ worker: { phase: "fatal", started }, adapters: state.adapters ?? [], reading: null, validationReading: null,
    phase: isRunning() ? "error" : state.phase, timing: null });
  if (reading) forgetData();
  const revived = started && mayRevive("train");
  if (revived) restartTrain(!opening);
  const message = revived ? [...words, "It was started anew."] : words;
  const restart = { label: "Restart", run: () => restartWorkers(!opening) };
  showProblem("setup-problem", { message: message.join(" "), details: event.details }, revived ? undefined : restart);
}

/** The chat worker has died or hangs: a fresh one gets the model and the adapter when it is ready. `fail` tells of it otherwise. */
export function chatDies(link, event, fail) {
  const words = deathWords(event, event.started ?? link.ready);
  link.worker.terminate();
  if (!mayRevive("chat")) return fail({ message: words, details: event.details });
  abandonReply();
  awaitModel();
  update({ chatModel: "loading", comparing: false });
  link.restart();
  showProblem("chat-problem", { message: `${words} The chat was started anew.`, details: event.details });
}

function restartTrain(theSame) {
  abandonReply();
  awaitModel();
  update({ worker: { phase: "starting", done: 0, total: 0 }, gpu: { state: "waiting" }, model: null, modelProgress: null,
    modelProblem: null, phase: "idle", phaseDetail: "", dataset: null, reading: null, validationReading: null, plan: null,
    timing: null, comparing: false, mayEnd: false });
  train.restart();
  page.openAgain(theSame);
}

function restartWorkers(theSame = true) {
  showProblem("setup-problem", null);
  update({ chatModel: "none" });
  restartTrain(theSame);
  page.chat()?.restart();
}

/** The GPU is lost and the browser gives no other one. */
export function showLost(event) {
  update({ gpu: event, phase: isRunning() ? "error" : state.phase, reading: null });
  abandonReply();
  showProblem("setup-problem", event, { label: "Try again", run: () => restartWorkers() });
}

/** What a run has learned and nothing has kept goes to the person. */
export function giveWhatWasLearned() {
  if (!state.learned) return;
  saveFile(state.learned.file_name, state.learned.data);
  update({ learned: null });
}

/** Stop is pressed; or pressed again where that has had no effect for a while, which ends the worker. */
export function stopTraining() {
  if (state.phase !== "stopping") {
    update({ phase: "stopping", phaseDetail: "", mayEnd: false });
    setTimeout(() => update({ mayEnd: state.phase === "stopping" }), END_AFTER_MS);
    return train.send("stop_training");
  }
  giveWhatWasLearned();
  restartTrain(true);
  toast("The run was ended at once; what it had learned is gone where it was not kept.");
}
