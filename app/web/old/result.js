// What came of a run: the same questions answered without the adapter and with it.

import { byId, create, setText } from "./dom.js";
import { showProblem } from "./problems.js";
import { state, subscribe } from "./store.js";

let current = null; // {adapter, answers: [{prompt, messages, base, tuned, reference, done}], writing: {index, side} | null}
let shown = 0;
let asked = null; // {id, index}: the question that was handed over last
let followed = true; // show the question that is being answered, until the person chooses another
let actions;

/** actions: download(id); compare(adapterId, index, probe) has a question answered, and returns whether it could begin. */
export function setUpResult(given) {
  actions = given;
  byId("export-adapter").addEventListener("click", () => current && actions.download(current.adapter.id));
  subscribe(askNext);
}

/** Show an adapter's card: with questions to be answered, or with stored answers. */
export function showResult(adapter, questions, note) {
  const answers = questions.map((question) => ({ base: "", tuned: "", done: false, ...question }));
  current = { adapter, answers, writing: null };
  [shown, followed] = [0, true];
  byId("result").hidden = false;
  byId("result").dataset.adapter = adapter.id;
  setText(byId("result-sub"), note);
  showProblem("compare-problem", null);
  draw();
}

export function hideResult(id) {
  if (current && (id == null || current.adapter.id === id)) {
    current = null;
    byId("result").hidden = true;
  }
}

export function renameResult(adapter) {
  if (current?.adapter.id === adapter.id) current.adapter = adapter;
}

/** Have the next open question answered: the one shown, or on a real GPU any. */
function askNext({ gpu, comparing }) {
  if (!current || comparing) return;
  const open = ({ done, failed, messages }) => !done && !failed && messages;
  let index = shown;
  if (!open(current.answers[index] ?? {}) && !gpu.is_software) index = current.answers.findIndex(open);
  const answer = current.answers[index];
  if (!answer || !open(answer)) return;
  const { prompt, messages, reference } = answer;
  if (!actions.compare(current.adapter.id, index, { prompt, messages, reference })) return;
  asked = { id: current.adapter.id, index };
  Object.assign(answer, { base: "", tuned: "" });
}

/** A ComparePiece came. */
export function addPiece({ adapter_id, index, side, text, done }) {
  if (current?.adapter.id !== adapter_id || !current.answers[index]) return;
  current.answers[index][side] += text;
  current.writing = done ? null : { index, side };
  if (followed) shown = index;
  draw();
}

/** A question is answered (or given up). Returns all answers so far, to be kept, or null when nothing is new. */
export function finishAnswer({ adapter_id, index, answer }) {
  if (current?.adapter.id !== adapter_id) return null;
  current.writing = null;
  const own = current.answers[index];
  if (answer) Object.assign(own, answer, { done: true });
  const complete = current.answers.filter(({ done }) => done);
  if (followed && complete.length === current.answers.length) shown = 0;
  draw();
  return answer ? complete.map(({ prompt, base, tuned, reference }) => ({ prompt, base, tuned, reference })) : null;
}

/** The answer that was asked for last went wrong: it is asked for again only when the person chooses its question. */
export function failAnswer({ subject }) {
  if (current && subject === current.adapter.id && subject === asked?.id) current.answers[asked.index].failed = true;
}

function choose(index) {
  [shown, followed] = [index, false];
  current.answers[index].failed = false;
  draw();
  askNext(state);
}

function draw() {
  const { answers, writing } = current;
  const answer = answers[shown];
  byId("result").classList.toggle("bare", !answer);
  byId("probe-tabs").hidden = answers.length < 2;
  drawTabs(answers.length);
  setText(byId("probe-question"), answer?.prompt ?? "");
  for (const side of ["base", "tuned"]) {
    const element = byId(`validation-${side}`);
    const busy = writing?.index === shown && writing.side === side;
    element.dataset.state = busy ? "streaming" : answer?.done || answer?.[side] ? "done" : "waiting";
    setText(element, answer?.[side].trim() ?? "");
  }
  byId("reference").hidden = !answer?.reference;
  setText(byId("reference-text"), answer?.reference ?? "");
}

function drawTabs(count) {
  const tabs = byId("probe-tabs");
  if (tabs.childElementCount !== count) {
    tabs.replaceChildren(...Array.from({ length: count }, (_, index) => create("button", {
      type: "button", "aria-label": `Question ${index + 1}`, onclick: () => choose(index),
    }, String(index + 1))));
  }
  [...tabs.children].forEach((tab, index) => tab.setAttribute("aria-pressed", String(index === shown)));
}
