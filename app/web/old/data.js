// Step 1: what was asked to be read, and the panel's three states: empty, reading, ready. Its parts stand in data_*.js.

import { takeBackFormat } from "./chat_format.js";
import { setUpCleaned } from "./data_cleaned.js";
import { pasted, readable, setUpInput } from "./data_input.js";
import { setUpEncoding } from "./data_encoding.js";
import { remembered, setUpMapping } from "./data_mapping.js";
import { setUpPreview } from "./data_preview.js";
import { setUpProblems } from "./data_problems.js";
import { setUpReport } from "./data_report.js";
import { byId, create, formatBytes, formatCount, formatTime, icon, setText } from "./dom.js";
import { showProblem, toast } from "./problems.js";
import { readingSettings } from "./settings.js";
import { asksForColumns, isRunning, state, subscribe, update } from "./store.js";

const COUNTING = { counting: true, done: 0, total: 0, unit: "rows", name: "" };
const QUICK_MS = 300; // a reading again that is over so soon does not take the panel's place
let train; // the train worker's link
// What is open or being read, as it was asked for: {files | text | sample, mapping, use_mended, encoding}; read anew with another model.
let asked = null;
let readRequest = 0; // of `read_dataset`: what an older one opened is no longer of interest
let fromMemory = false; // its mapping is one that the person chose another time
let declined = false; // the person does not want that one here
let shown = null; // the dataset that is drawn
let focusBefore = null; // where the keyboard was when the data began to be read again

/** `fits(settings)` gets the settings that suit a dataset that was just read. */
export function setUpData(link, { fits }) {
  train = link;
  setUpInput({ take, add });
  for (const button of document.querySelectorAll(".sample-button")) {
    button.addEventListener("click", () => take({ sample: button.dataset.sample }));
  }
  byId("reading-stop").addEventListener("click", stop);
  byId("dataset-remove").addEventListener("click", () => {
    asked = null;
    readRequest += 1; // what the worker is about to say of it comes too late
    train.send("clear_dataset");
    update({ dataset: null, reading: null, plan: null, consent: false });
    queueMicrotask(() => byId("dataset-input").focus());
  });
  byId("count-tokens").addEventListener("click", () => {
    update({ reading: { ...COUNTING } });
    train.send("count_tokens");
  });
  setUpProblems({ mend: (use_mended) => read({ ...asked, use_mended }, true) });
  setUpEncoding({ use: (encoding) => read({ ...asked, encoding }, true) });
  setUpMapping(train, { use: useMapping, wasRemembered: () => fromMemory });
  train.on("dataset_progress", progress);
  train.on("dataset_ready", (event) => ready(event, fits));
  train.on("dataset_cleared", () => {
    if (state.reading && !state.reading.stopping) return; // what it is about was given up before this reading began
    update({ dataset: null, reading: null, plan: null, consent: false });
  });
  subscribe(draw);
  setUpReport(train);
  setUpPreview(train);
  setUpCleaned(train);
}

/** Files that were dropped anywhere on the page. */
export function dropData(files) {
  const good = readable(files);
  if (good.length) take({ files: good });
}

/** A model has come. What is open counts its tokens by itself; what a worker has taken along with it is read again. */
export function readDataAgain() {
  if (asked && !state.reading && !state.dataset) read(asked);
}

/** Do not read again what is open or being read: the worker did not survive it. */
export function forgetData() {
  asked = null;
  readRequest += 1;
}

/** Read something in place of what is there. */
function take(wanted) {
  const before = state.dataset && asked;
  [fromMemory, declined] = [false, false];
  if (!read(wanted) || !before) return;
  const both = async () => join(before, await filesOf(wanted));
  toast("This took the place of what was there.", { label: "Keep both", run: both });
}

/** Read more files together with what is there. */
function add(files) {
  if (state.dataset) join(asked, files, asked.mapping);
  else take({ files });
}

/** Read `added` files together with what `first` asks for. */
async function join(first, added, mapping = null) {
  const before = asked;
  try {
    const old = await filesOf(first);
    if (asked !== before) return; // something else was asked for meanwhile
    const files = merge(old, added);
    if (files.length > old.length) read({ files, mapping, use_mended: first.use_mended, encoding: first.encoding });
    else toast(added.length === 1 ? "This file is there already." : "These files are there already.");
  } catch (error) {
    showProblem("dataset-problem", { message: `The sample could not be fetched again: ${error.message}` });
  }
}

async function filesOf({ files, text, sample }) {
  if (!sample) return files ?? [pasted(text)];
  const name = `${sample}.jsonl`;
  const answer = await fetch(`samples/${name}`);
  if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
  return [{ name, blob: await answer.blob() }];
}

function merge(files, more) {
  const same = (one, other) => one.name === other.name && one.blob.size === other.blob.size
    && one.blob.lastModified === other.blob.lastModified && one.blob.type === other.blob.type;
  return [...files, ...more.filter((file) => !(file.blob.lastModified && files.some((other) => same(file, other))))];
}

/** Ask the worker to read. `again`: the same data otherwise, so the panel stays as it is while that is quick. */
function read(wanted, again = false) {
  if (isRunning()) return toast("Another dataset can be read when the run is over."), false;
  showProblem("dataset-problem", null);
  asked = wanted;
  const name = wanted.sample ? "the sample" : wanted.text ? "the pasted text" : wanted.files.length > 1
    ? `${formatCount(wanted.files.length)} files` : wanted.files[0].name;
  update({ reading: { done: 0, total: 0, unit: "bytes", name, again, began: performance.now() }, dataset: null, consent: false, plan: null,
    validationReading: null }); // the worker gives that up, too
  focusBefore = again && byId("data-body").contains(document.activeElement) ? document.activeElement.id : null;
  if (again) setTimeout(() => state.reading && update({}), QUICK_MS + 20);
  const { files, text, sample, mapping, use_mended, encoding } = wanted;
  readRequest += 1;
  const given = Object.entries({ files, text, sample, mapping, use_mended, encoding, settings: readingSettings(), request: readRequest });
  train.send("read_dataset", Object.fromEntries(given.filter(([, value]) => value != null)));
  return true;
}

/** Give the reading up, and what was read with it; of the counting only the tokens. */
function stop() {
  if (!state.reading.counting) asked = null;
  update({ reading: { ...state.reading, stopping: true } });
  train.send("stop_reading");
}

function ready(event, fits) {
  if (isOutdated(event)) return;
  const { stopping, counting } = state.reading ?? {};
  if (stopping && !counting) return train.send("clear_dataset"); // it was done before it heard of the stop
  const known = !event.report.mapping && !declined && remembered(event.report);
  if (known && asked && state.reading) {
    fromMemory = true;
    return read({ ...asked, mapping: known }, true);
  }
  // Tokens are counted next, which can take long: meanwhile there is a lot to look at already.
  const counts = !event.report.tokens && state.model && event.report.good > 0 && !stopping;
  const same = state.dataset?.name === event.name && state.dataset.problem_count === event.problem_count && !event.suggested;
  update({ dataset: event, reading: counts ? { ...COUNTING } : null, consent: same && state.consent });
  if (event.suggested && !asksForColumns(event)) fits(event.suggested); // else only the cut has changed: the plan is on its way
  if (stopping && event.report.tokens) takeBack(event);
}

/** The counting for another mask or format was stopped: the form goes back to the one that holds. */
function takeBack({ masking, chat_format }) {
  takeBackFormat(chat_format);
  const choice = byId("set-masking");
  if (choice.value === masking) return;
  choice.value = masking;
  choice.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Is a DatasetReady about what was read before? */
export const isOutdated = ({ request }) => request !== readRequest;

/** How far the reading is, or the counting of tokens, which also comes by itself: with another model, another mask. */
function progress(event) {
  if (state.validationReading) return;
  if (state.reading) return update({ reading: { ...state.reading, ...event, counting: event.unit === "rows" && Boolean(state.dataset) } });
  if (event.unit === "rows" && state.dataset && event.done < event.total) update({ reading: { ...COUNTING, ...event } });
}

function useMapping(mapping) {
  [fromMemory, declined] = [false, mapping === null];
  read({ ...asked, mapping }, true);
}

// --------------------------------------------------------------------------------------------------------- the states

function draw({ dataset, reading }) {
  const isQuick = reading?.again && performance.now() - reading.began < QUICK_MS;
  const body = byId("data-body");
  const now = reading && !isQuick && !reading.counting ? "reading" : dataset || isQuick ? "ready" : "empty";
  const hadFocus = body.contains(document.activeElement);
  const before = body.dataset.state;
  body.dataset.state = now;
  body.setAttribute("aria-busy", String(Boolean(reading)));
  byId("reading").hidden = now !== "reading" && !reading?.counting;
  if (reading) drawReading(reading);
  for (const button of document.querySelectorAll(".sample-button")) button.disabled = Boolean(reading);
  byId("dataset-remove").disabled = isRunning();
  byId("dataset-add").disabled = isRunning();
  // Where the button was that had the data read again, keepFocus knows better.
  if (before !== now && hadFocus && !body.contains(visibleFocus()) && !(now === "ready" && focusBefore !== null)) {
    byId({ reading: "reading-stop", ready: "dataset-title", empty: "dataset-input" }[now]).focus({ preventScroll: true });
  }
  if (dataset === shown) return;
  shown = dataset;
  if (!dataset) return;
  showProblem("dataset-problem", null);
  setText(byId("dataset-title"), dataset.title);
  drawFiles();
  if (focusBefore !== null) setTimeout(keepFocus);
}

/** The button that was pressed may be gone now: the keyboard goes on at its counterpart, or at the panel's head. */
function keepFocus() {
  if (focusBefore === null || (visibleFocus() && document.activeElement !== document.body)) return;
  const other = byId({ "mend-use": "mend-undo", "mend-undo": "mend-use" }[focusBefore] ?? "dataset-title");
  (other.hidden ? byId("dataset-title") : other).focus({ preventScroll: true });
  focusBefore = null;
}

const visibleFocus = () => (document.activeElement?.checkVisibility?.() ? document.activeElement : null);

function drawFiles() {
  const files = asked?.files ?? [];
  byId("dataset-add-label").hidden = !asked;
  byId("dataset-files").hidden = files.length < 2;
  byId("dataset-files").replaceChildren(...(files.length < 2 ? [] : files).map((file) => {
    const remove = () => read({ ...asked, files: asked.files.filter((other) => other !== file) });
    return create("li", {}, create("span", {}, file.name), create("span", { class: "count" }, formatBytes(file.blob.size)),
      create("button", { type: "button", class: "quiet icon-only", "aria-label": `Leave out ${file.name}`, onclick: remove }, icon("close")));
  }));
}

function drawReading({ done, total, unit, name, left_ms, stopping }) {
  const bar = byId("reading-progress");
  byId("reading-stop").disabled = Boolean(stopping);
  if (total && !stopping) bar.value = done / total;
  else bar.removeAttribute("value");
  const waits = !total && state.worker.phase !== "ready";
  setText(byId("reading-text"), stopping ? "Stopping…"
    : waits ? `${sentence(name)} comes next, as soon as Python is there.`
    : unit === "rows" ? "Counting the tokens" : `Reading ${name}`);
  const amount = !total || stopping ? ""
    : unit === "rows" ? `${formatCount(done)} of ${formatCount(total)} rows` : `${formatBytes(done)} of ${formatBytes(total)}`;
  setText(byId("reading-left"), left_ms > 1000 && !stopping ? `${amount} · about ${formatTime(left_ms)} left` : amount);
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
