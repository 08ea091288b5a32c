// Errors where they belong, and short notices at the foot of the page.

import { byId, copyText, create, icon } from "./dom.js";

/** Show a Failed event (or clear it with null) in a slot of the page. `action`: {label, run}. */
export function showProblem(slotId, problem, action) {
  const slot = byId(slotId);
  slot.replaceChildren();
  slot.hidden = !problem;
  if (!problem) return;
  const lines = problem.message.split("\n").filter(Boolean);
  const box = create("div", { class: "problem", role: "alert" }, create("p", {}, lines[0]));
  if (lines.length > 1) box.append(create("ul", {}, ...lines.slice(1, 41).map((line) => create("li", {}, line))));
  if (lines.length > 41) box.append(create("p", {}, `… and ${lines.length - 41} more`));
  const buttons = create("div", { class: "problem-buttons" });
  if (action) {
    buttons.append(create("button", { type: "button", class: "secondary small", onclick: action.run }, action.label));
  }
  if (problem.details) buttons.append(copyButton("Copy details", `${problem.message}\n\n${problem.details}`));
  buttons.append(create("button", { type: "button", class: "quiet small", onclick: () => showProblem(slotId, null) }, "Dismiss"));
  box.append(buttons);
  slot.append(box);
}

/** Show what is good to know, and nothing wrong, in a slot of the page: one box, a line a remark. */
export function showRemarks(slotId, title, remarks) {
  const slot = byId(slotId);
  const dismiss = () => slot.replaceChildren();
  slot.hidden = false;
  slot.replaceChildren(create("div", { class: "problem remark", role: "status" }, create("p", {}, title),
    create("ul", {}, ...remarks.map((remark) => create("li", {}, remark))),
    create("div", { class: "problem-buttons" }, create("button", { type: "button", class: "quiet small", onclick: dismiss }, "Dismiss"))));
}

function copyButton(label, text) {
  const button = create("button", { type: "button", class: "quiet small" }, icon("copy"), create("span", {}, label));
  button.addEventListener("click", async () => {
    const copied = await copyText(text);
    button.lastChild.textContent = copied ? "Copied" : "The browser refused to copy";
    setTimeout(() => (button.lastChild.textContent = label), 2500);
  });
  return button;
}

/** A short notice that goes by itself. `action`: {label, run}. Pauses while the pointer or the focus is on it. */
export function toast(text, action, lasts_ms = 8000) {
  const element = create("div", { class: "toast" }, create("span", {}, text));
  let timer;
  const close = () => element.remove();
  const wait = () => (timer = setTimeout(close, lasts_ms));
  const hold = () => clearTimeout(timer);
  if (action) {
    const run = () => { action.run(); close(); };
    element.append(create("button", { type: "button", class: "quiet small", onclick: run }, action.label));
  }
  for (const type of ["pointerenter", "focusin"]) element.addEventListener(type, hold);
  for (const type of ["pointerleave", "focusout"]) element.addEventListener(type, wait);
  byId("toasts").append(element);
  wait();
}
