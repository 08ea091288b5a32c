// The page's beginning and its switchboard: which event of which worker leads to which command or view.

import { setUpAdapters } from "./adapters.js";
import { applyToModel, awaitModel, modelIsReady, removeAdapter, setUpApplied, useAdapter } from "./applied.js";
import { askForBaseModel, setUpBaseModel } from "./base_model.js";
import { begunMs } from "./begin.js";
import { abandonReply, connectChat, setUpChat, suggestQuestions } from "./chat.js";
import { offerModel, setUpCandidate } from "./candidate.js";
import { chosenFormat, offerFormats, setUpChatFormat } from "./chat_format.js";
import { setUpChart, showCurve } from "./chart.js";
import { dropData, readDataAgain, setUpData } from "./data.js";
import { byId, formatBytes, saveFile, setText } from "./dom.js";
import { dropAnywhere } from "./files.js";
import { hubFails, setUpHub } from "./hub.js";
import { WorkerLink } from "./loader.js";
import { setUpModelDialog } from "./model_dialog.js";
import { goBack, isOpening, modelIsProven, openAgain, openFirst, openingFails, openModel, openSiteModel, setUpOpening } from "./opening.js";
import { showProblem, showRemarks, toast } from "./problems.js";
import { setUpReportButton } from "./report.js";
import { addPiece, failAnswer, finishAnswer, hideResult, renameResult, setUpResult, showResult } from "./result.js";
import { chatDies, giveWhatWasLearned, setUpRevival, showLost, stopTraining } from "./revive.js";
import { offerTargets, readSettings, setUpSettings, showFieldProblems, suggest } from "./settings.js";
import { setUpStrip } from "./setup.js";
import { setUpStopped } from "./stopped.js";
import { listenToPhases, pagePhase, reached } from "./startup.js";
import { isRunning, state, update } from "./store.js";
import { setUpTiming } from "./timing.js";
import { setUpTraining } from "./train.js";
import { setUpValidation } from "./validation.js";

const train = new WorkerLink("train");
pagePhase("page", 0, begunMs);
pagePhase("page's scripts", begunMs);
listenToPhases(train);
let chat = null; // started when the train worker has found a GPU: without one there is no use for it
let chatWaits = false; // it got ready in the middle of a run and has not been given the model
let planRequest = 0;

// ------------------------------------------------------------------------------------------------ model and workers

/** The model takes the last one's place. */
function modelCame(event) {
  if (state.model) { // what is in use is the last model's; with the first one an adapter may wait for it
    removeAdapter();
    awaitModel();
    endReplies();
  }
  update({ model: event, modelProgress: null, modelProblem: null, plan: null, chatModel: "none" });
  offerTargets(event.targets);
  offerFormats(event);
  askForBaseModel(event);
  if (state.gpu.state === "found") reached("ready_ms");
  chatCanStart();
  chatOpens();
  readDataAgain();
}

/** Have the chat worker leave what it writes, which would keep it from whatever comes next. */
function endReplies() {
  if (state.replying != null || state.comparing) chat.send("stop_reply");
  abandonReply();
}

/** Start the chat worker when there is a GPU, and a model: not before, as both workers would only slow each other. */
function chatCanStart() {
  if (chat || state.gpu.state !== "found" || !state.model) return;
  chat = new WorkerLink("chat");
  listenToPhases(chat);
  listenToChat(chat);
  connectChat(chat);
}

function chatOpens() {
  if (!chat?.ready || !state.model) return;
  chatWaits = isRunning() && byId("set-free-chat").checked;
  if (chatWaits) return update({ chatModel: "released" }); // the run has the GPU's memory: after it
  update({ chatModel: "loading" });
  chat.send("open_model", { files: state.model.files, title: state.model.title });
  applyToModel(chat);
}

train.on("boot", ({ phase, done, total }) => update({ worker: { phase: done < total ? phase : "program", done, total } }));
train.on("ready", () => {
  update({ worker: { phase: "ready", done: 1, total: 1 } });
});
train.on("gpu", (event) => {
  if (event.state === "lost") return showLost(event);
  update({ gpu: event });
  if (event.state === "found") chatCanStart();
  if (event.losses) toast(event.message);
  if (event.state === "found" && event.losses) plan();
});
train.on("notice", ({ message }) => toast(message));
train.on("model_progress", (event) => update({ modelProgress: event }));
train.on("storage", ({ available, persistent, used_bytes, reason }) => {
  const kept = persistent ? "kept until you delete them" : "kept in this browser";
  setText(byId("storage-note"), available ? `Models and adapters are ${kept}: ${formatBytes(used_bytes)}` : reason);
  byId("storage-note").classList.toggle("warn", !available || Boolean(reason));
});

// ------------------------------------------------------------------------------------------------------------- plan

/** Is there a row to train on, or one that other settings would bring back? */
function canPlan() {
  const { model, modelProgress, dataset } = state;
  if (!model || modelProgress || !dataset) return false;
  return dataset.can_train || dataset.report.groups.some(({ kind }) => ["nothing-to-train", "too-long"].includes(kind));
}

function plan() {
  if (!canPlan() || isRunning()) return;
  const { settings, problems } = readSettings();
  if (problems) return update({ plan: { problems } }), showFieldProblems(problems);
  planRequest += 1; // late answers to earlier questions are told by it
  train.send("plan_training", { settings, request: planRequest });
}

train.on("training_planned", (event) => {
  if (event.request !== planRequest || !canPlan()) return; // the dataset or the model may be gone
  showFieldProblems(event.problems);
  update({ plan: event, timing: null });
});

function measureTime() {
  const { settings } = readSettings();
  if (!settings) return update({ timing: null }); // a field is just being filled in: another plan follows
  train.send("time_training", { settings, request: planRequest });
}

// --------------------------------------------------------------------------------------------------------- training

function startTraining() {
  const { settings, problems } = readSettings();
  if (problems) return showFieldProblems(problems);
  makeRoomForRun();
  train.send("start_training", { settings, accept_problems: state.consent });
}

function resumeTraining() {
  if (isRunning()) return;
  makeRoomForRun();
  train.send("resume_training");
}

function makeRoomForRun() {
  showProblem("train-problem", null);
  hideResult();
  endReplies();
  askToPersist();
  if (byId("set-free-chat").checked && chat) {
    if (!["none", "failed"].includes(state.chatModel)) update({ chatModel: "released" });
    chat.send("release_model");
  }
}

train.on("training_state", ({ state: phase }) => {
  if (!["idle", "done", "error"].includes(phase) || state.chatModel !== "released") return;
  if (chatWaits) return queueMicrotask(chatOpens); // when the others have heard that the run is over
  update({ chatModel: "loading" });
  chat.send("wake_model");
});

async function askToPersist() {
  try {
    await navigator.storage.persist(); // some browsers ask the person, so only when there is a reason
  } catch {} // not offered here: the worker says what it could store
}

train.on("adapter_learned", (learned) => update({ learned }));
train.on("training_done", ({ adapter, probes, stopped }) => {
  const note = adapter.name + (stopped ? ", stopped early" : "");
  update({ learned: null }); // it is kept
  showResult(adapter, probes, note);
  suggestQuestions(probes.map(({ prompt }) => prompt));
  useAdapter(adapter.id);
});

/** Have one question of the card answered. It waits for the adapter of the card to be in use. */
function compare(adapterId, index, probe) {
  if (state.comparing || state.applied?.id !== adapterId || state.replying != null || isRunning()) return false;
  if (!["ready", "released"].includes(state.chatModel)) return false;
  update({ comparing: true });
  chat.send("compare", { adapter_id: adapterId, index, probe, chat_format: chosenFormat() });
  return true;
}

// --------------------------------------------------------------------------------------------------------- adapters

const deleting = new Set(); // ids of adapters that the worker was told to delete

function addAdapter(files) {
  if (isRunning()) return toast("An adapter can be added when the run is over.");
  showProblem("adapter-problem", null);
  train.send("import_adapter", { files });
}

train.on("adapter_list", ({ adapters }) => {
  update({ adapters });
  deleting.clear();
  for (const adapter of adapters) renameResult(adapter);
});
train.on("adapter_exported", ({ file_name, data }) => saveFile(file_name, data));
train.on("adapter_imported", ({ adapter, remarks }) => {
  toast(`${adapter.name} fits this model and is kept.`);
  if (remarks.length) showRemarks("adapter-problem", `${adapter.name} is kept. Good to know:`, remarks);
  useAdapter(adapter.id);
});
train.on("adapter_deleted", ({ id, name }) => {
  hideResult(id);
  toast(`${name} was deleted.`, { label: "Undo", run: () => train.send("restore_adapter", { id }) });
});

function deleteAdapter(id) {
  if (deleting.has(id)) return; // pressed twice
  deleting.add(id);
  train.send("delete_adapter", { id });
}

function showRun(adapter) {
  if (isRunning()) return;
  showCurve(adapter.loss_curve, adapter.validation_curve, adapter.steps);
  showResult(adapter, adapter.sample_answers.map((answer) => ({ ...answer, done: true })), adapter.name);
  byId("train").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

// ------------------------------------------------------------------------------------------------------ chat worker

function listenToChat(worker) {
  worker.on("ready", chatOpens);
  worker.on("fatal", (event) => chatDies(worker, event, chatFails));
  worker.on("died", (event) => chatDies(worker, event, chatFails));
  worker.on("gpu", (event) => {
    if (event.state === "lost") chatFails(event); // a run goes on: if its GPU is lost too, the train worker says so
    if (event.state !== "found" || !event.losses) return;
    toast(event.message);
    if (state.chatModel !== "released" || isRunning()) return;
    update({ chatModel: "loading" });
    worker.send("wake_model");
  });
  worker.on("notice", ({ message }) => toast(message));
  worker.on("model_progress", () => {});
  worker.on("model_ready", ({ memory_bytes }) => {
    update({ chatModel: "ready", chatBytes: memory_bytes });
    modelIsProven();
    reached("chat_ready_ms");
    modelIsReady(worker);
  });
  worker.on("model_released", () => update({ chatModel: "released" }));
  worker.on("compare_piece", addPiece);
  worker.on("compare_done", (event) => {
    const answers = finishAnswer(event);
    if (answers) train.send("save_sample_answers", { id: event.adapter_id, answers });
    update({ comparing: false });
  });
  worker.on("failed", (event) => {
    if (event.where === "adapter" && event.subject === state.applied?.id) removeAdapter(); // it could not be applied
    // The train worker has opened the same files: it is about this worker's GPU.
    if (event.where !== "model") failed(event);
    else if (!goBack(event)) chatFails(event);
  });
}

function chatFails(event) {
  abandonReply();
  awaitModel();
  update({ chatModel: "failed", comparing: false });
  const run = () => {
    showProblem("chat-problem", null);
    update({ chatModel: "loading" });
    chat.restart();
  };
  showProblem("chat-problem", event, { label: "Try again", run });
}

// -------------------------------------------------------------------------------------------------------- problems

const slots = {
  device: "setup-problem", worker: "setup-problem", storage: "setup-problem", dataset: "dataset-problem",
  settings: "train-problem", training: "train-problem", adapter: "adapter-problem", compare: "compare-problem",
};

function failed(event) {
  if (event.where === "chat") return; // chat.js shows it beside the conversation
  if (event.where === "model") return openingFails(event);
  if (event.where === "hub") return hubFails(event);
  if (event.where === "dataset" && state.validationReading) return; // validation.js shows it beside the file
  if (event.where === "dataset") update({ reading: null });
  if (event.where === "training") update({ phase: "error", phaseDetail: "" });
  if (event.where === "training") giveWhatWasLearned();
  if (event.where === "adapter") deleting.clear(); // one that could not be deleted may be told so again
  if (event.where === "compare") failAnswer(event);
  if (event.where === "settings") update({ plan: null });
  showProblem(slots[event.where] ?? "setup-problem", event);
}
train.on("failed", failed);

// ------------------------------------------------------------------------------------------------------------ begin

setUpRevival(train, { chat: () => chat, isOpening, openAgain });
setUpStrip();
setUpOpening(train, { came: modelCame, stayed: plan }); // settings may have changed meanwhile
setUpModelDialog(train, { offerModel, open: openModel, openSiteModel });
setUpCandidate(train, { open: openModel });
setUpHub(train, { settings: () => readSettings().settings ?? null, persist: askToPersist });
setUpData(train, {
  fits: (settings) => {
    suggest(settings);
    plan();
  },
});
setUpSettings({ plan, start: startTraining, stop: stopTraining, pause: () => train.send("pause_training") });
setUpStopped(train, { resume: resumeTraining, discard: () => train.send("discard_run") });
setUpChatFormat();
setUpReportButton(() => readSettings().settings);
setUpTraining(train);
setUpTiming(train, { measure: measureTime, isNewest: (request) => request === planRequest });
setUpValidation(train, { plan });
setUpChart();
setUpChat();
setUpResult({ compare, download: (id) => train.send("export_adapter", { id }) });
setUpApplied(train);
setUpBaseModel(train);
setUpAdapters({
  use: useAdapter,
  rename: (id, name) => train.send("rename_adapter", { id, name }),
  remove: deleteAdapter,
  download: (id) => train.send("export_adapter", { id }),
  show: showRun,
  add: addAdapter,
});
dropAnywhere((use, files) => {
  if (use === "model") isRunning() ? openModel({ files }) : offerModel(files); // which says that a run goes on
  else if (use === "adapter") addAdapter(files);
  else dropData(files);
});
openFirst();
