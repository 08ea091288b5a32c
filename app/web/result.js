// What came of a run: the same questions answered without the adapter and with it.

import { byId, create, setText } from "./dom.js";
import { showProblem } from "./problems.js";

let current = null; // {adapter, answers: [{prompt, base, tuned, reference}], writing: "base" | "tuned" | null, at}
let shown = 0;
let followed = true; // show the question that is being answered, until the person chooses another

/** `download(id)` is called by the download button. */
export function setUpResult({ download }) {
  byId("export-adapter").addEventListener("click", () => current && download(current.adapter.id));
}

/** Show an adapter's card: with empty answers to be filled, or with stored ones. */
export function showResult(adapter, answers, note) {
  current = { adapter, answers: answers.map((answer) => ({ base: "", tuned: "", ...answer })), writing: null, at: 0 };
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

/** A ComparePiece came. */
export function addPiece({ adapter_id, index, side, text, done }) {
  if (current?.adapter.id !== adapter_id || !current.answers[index]) return;
  current.answers[index][side] += text;
  Object.assign(current, { writing: done ? null : side, at: index });
  if (followed) shown = index;
  draw();
}

/** All is answered: go back to the first question. */
export function finishResult(adapterId) {
  if (current?.adapter.id !== adapterId) return;
  current.writing = null;
  if (followed) shown = 0;
  draw();
}

function draw() {
  const { answers, writing, at } = current;
  const answer = answers[shown];
  byId("result").classList.toggle("bare", !answer);
  byId("probe-tabs").hidden = answers.length < 2;
  drawTabs(answers.length);
  setText(byId("probe-question"), answer ? `“${answer.prompt}”` : "");
  for (const side of ["base", "tuned"]) {
    const element = byId(`validation-${side}`);
    const busy = writing === side && at === shown;
    element.dataset.state = busy ? "streaming" : answer?.[side] ? "done" : "waiting";
    setText(element, answer?.[side].trim() ?? "");
  }
  byId("reference").hidden = !answer?.reference;
  setText(byId("reference-text"), answer?.reference ?? "");
}

function drawTabs(count) {
  const tabs = byId("probe-tabs");
  if (tabs.childElementCount !== count) {
    tabs.replaceChildren(...Array.from({ length: count }, (_, index) => create("button", {
      type: "button", onclick: () => { [shown, followed] = [index, false]; draw(); },
    }, `Question ${index + 1}`)));
  }
  [...tabs.children].forEach((tab, index) => tab.setAttribute("aria-pressed", String(index === shown)));
}
