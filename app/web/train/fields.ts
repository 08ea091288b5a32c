// Ties the settings' fields, which jinja2 made at build time, to the store: what is typed goes there, what stands there is shown.

import { effect } from "@preact/signals";
import { byId } from "../dom";
import { dataset } from "../store/data";
import { model } from "../store/page";
import { checks, fieldProblems, fields, offered, suited, targets, touch, view, type CheckName, type Field } from "../store/settings";
import { readLook } from "../store/shell";
import { isRunning } from "../store/train";
import { trainText } from "../text";
import { planSoon, planNow } from "./plan";
import { startNow } from "./run";

type Input = HTMLInputElement | HTMLSelectElement;

/** Tie the form. Called once, when the page begins. */
export function setUpFields(): void {
  const form = byId<HTMLFormElement>("settings");
  const named = <E extends Element>(name: string): E => form.querySelector<E>(`[name=${name}]`) ?? missing(name);
  for (const [name, field] of Object.entries(fields)) tieText(named<Input>(name), field);
  for (const name of Object.keys(checks) as CheckName[]) tieCheck(named<HTMLInputElement>(name), name);
  tieTargets([...form.querySelectorAll<HTMLInputElement>("[name=targets]")]);
  tieChatFormat(named<HTMLSelectElement>("chat_format"));
  tieValidation(byId<HTMLInputElement>("set-validation"), byId("set-validation-hint"));
  form.addEventListener("input", (event) => {
    const { name } = event.target as Input;
    if (!name) return;
    touch(name);
    planSoon();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    startNow();
  });
  effect(() => {
    form.dataset.view = view.value;
    byId<HTMLFieldSetElement>("settings-fields").disabled = isRunning.value;
  });
  effect(() => showProblems(form));
  effect(() => {
    if (fieldProblems.value.length && view.peek() === "line") view.value = "open"; // what is wrong must be seen
  });
  const number = (name: "steps" | "rank" | "alpha"): number => Number(fields[name].text.peek());
  suited.value = { steps: number("steps"), rank: number("rank"), alpha: number("alpha") };
  view.value = readLook().settings ?? "line";
  planNow();
}

function missing(name: string): never {
  throw new Error(`the settings' form has no field ${name}; app/web/templates/train.html should`);
}

function tieText(input: Input, field: Field): void {
  field.text.value = input.value;
  field.isWhole = input instanceof HTMLInputElement && input.step === "1";
  field.mayBeEmpty = "mayBeEmpty" in input.dataset;
  input.addEventListener("input", () => {
    field.text.value = input.value;
    field.isBroken.value = input.validity.badInput;
  });
  effect(() => {
    if (input.value !== field.text.value && !field.isBroken.value) input.value = field.text.value;
  });
}

function tieCheck(input: HTMLInputElement, name: CheckName): void {
  checks[name].value = input.checked;
  input.addEventListener("change", () => (checks[name].value = input.checked));
  effect(() => {
    input.checked = checks[name].value;
  });
}

/** The layers: those that the open model has, all of them chosen at first. */
function tieTargets(boxes: readonly HTMLInputElement[]): void {
  const shown = boxes.filter((box) => !box.closest("label")?.hidden);
  offered.value = shown.map(({ value }) => value);
  targets.value = new Set(shown.filter(({ checked }) => checked).map(({ value }) => value));
  for (const box of boxes) {
    box.addEventListener("change", () => {
      const chosen = new Set(targets.peek());
      if (box.checked) chosen.add(box.value);
      else chosen.delete(box.value);
      targets.value = chosen;
    });
  }
  effect(() => {
    for (const box of boxes) {
      box.closest("label")!.hidden = !offered.value.includes(box.value);
      box.checked = targets.value.has(box.value);
    }
  });
}

/** The chat format: only for a model without a template, with what Python offers for it. */
function tieChatFormat(select: HTMLSelectElement): void {
  effect(() => {
    const offers = model.value?.chat_formats ?? [];
    select.closest<HTMLElement>(".field")!.hidden = !offers.length;
    for (const option of select.options) {
      const offer = offers.find(({ value }) => value === option.value);
      option.hidden = option.disabled = !offer && offers.length > 0;
      option.textContent = offer?.title ?? option.value;
    }
    select.value = fields.chat_format.text.value;
  });
}

/** The share that is held back: not where a file of rows to check on is used instead. */
function tieValidation(input: HTMLInputElement, hint: HTMLElement): void {
  const heldBack = hint.textContent;
  effect(() => {
    const isUsed = Boolean(dataset.value?.validation);
    input.readOnly = isUsed;
    input.closest(".field")?.classList.toggle("unused", isUsed);
    hint.textContent = isUsed ? trainText.validationFileUsed : heldBack;
  });
}

/** Show which settings cannot be used, each below its field. */
function showProblems(form: HTMLFormElement): void {
  for (const element of form.querySelectorAll<HTMLElement>("[data-field]")) {
    const own = fieldProblems.value.filter(({ field }) => field === element.dataset.field);
    const line = element.querySelector(".field-error");
    const said = own.map(({ message }) => message).join(" ");
    if (line && line.textContent !== said) line.textContent = said; // a live region speaks at each change
    element.classList.toggle("wrong", own.length > 0);
    for (const input of element.querySelectorAll("input, select")) input.setAttribute("aria-invalid", String(own.length > 0));
    const fold = element.closest("details");
    if (own.length && fold) fold.open = true;
  }
}
