// The reply settings: ties the fields that jinja2 made to the store, and says in a line what they hold.

import { effect } from "@preact/signals";
import { byId } from "../dom";
import { formatCount } from "../format";
import { applied, isAdapterOn, replyFields, SAMPLING, strength, system, wrongFields, writer, type ReplyField } from "../store/chat";
import { chatText } from "../text";
import { refused } from "./conversation";

/** Tie the fields. Called once, when the page begins. */
export function setUpReplyFields(): void {
  const fold = byId<HTMLDetailsElement>("reply-settings");
  for (const name of SAMPLING) tie(fold.querySelector<HTMLInputElement>(`input[name=${name}]`) ?? missing(name), replyFields[name]);
  const words = byId<HTMLTextAreaElement>("system-prompt");
  system.value = words.value; // some browsers bring back what stood there
  words.addEventListener("input", () => (system.value = words.value));
  effect(() => {
    if (words.value !== system.value) words.value = system.value;
  });
  tieStrength();
  effect(() => {
    if (!refused.value) return;
    fold.open = true;
    fold.querySelector<HTMLInputElement>(".wrong input")?.focus();
  });
  fold.addEventListener("toggle", () => fold.open && fold.scrollIntoView({ block: "nearest" }));
}

function missing(name: string): never {
  throw new Error(`the reply settings have no field ${name}; app/web/templates/chat.html should`);
}

/** Which values a field takes, it says itself: its bounds, and Python's words for them, come from lora_lab/settings.py. */
function tie(input: HTMLInputElement, field: ReplyField): void {
  const box = input.closest<HTMLElement>(".field")!;
  const line = box.querySelector(".field-error")!;
  field.label = box.querySelector("label")?.firstChild?.textContent?.trim() ?? input.name;
  field.wanted = input.dataset.wanted ?? "";
  field.first = input.defaultValue;
  const read = (): void => {
    field.text.value = input.value;
    field.isWrong.value = !input.validity.valid;
  };
  input.addEventListener("input", read);
  read();
  effect(() => {
    if (input.value !== field.text.value && !input.validity.badInput) {
      input.value = field.text.value;
      field.isWrong.value = !input.validity.valid;
    }
    const said = field.isWrong.value ? field.wanted : "";
    if (line.textContent !== said) line.textContent = said; // a live region speaks at each change
    box.classList.toggle("wrong", field.isWrong.value);
    input.setAttribute("aria-invalid", String(field.isWrong.value));
  });
}

function tieStrength(): void {
  const row = byId("strength-row");
  const slider = byId<HTMLInputElement>("chat-strength");
  strength.value = Number(slider.value);
  slider.addEventListener("input", () => (strength.value = Number(slider.value)));
  effect(() => {
    slider.value = String(strength.value);
    byId("chat-strength-value").textContent = strength.value.toFixed(2);
    row.hidden = !applied.value;
    row.classList.toggle("off", !isAdapterOn.value);
    byId("adapter-bar").dataset.on = String(writer.value.length > 0);
  });
}

/** What the settings hold, while they are folded. */
export function ReplyLine() {
  const wrong = wrongFields.value.length;
  if (wrong) return <span class="field-error">{chatText.settingsWrong(wrong)}</span>;
  const { temperature, max_new_tokens } = replyFields;
  const value = (field: ReplyField): string => field.text.value || field.first;
  return <span class="term">{chatText.settingsLine(value(temperature), formatCount(Number(value(max_new_tokens))))}</span>;
}

/** The switch between the adapter and the base model. */
export function AdapterSwitch() {
  return (
    <label class="switch">
      <input type="checkbox" role="switch" data-testid="chat-adapter" id="chat-adapter" disabled={!applied.value} checked={writer.value.length > 0}
        onChange={(event) => (isAdapterOn.value = event.currentTarget.checked)} />
      <span class="track" aria-hidden="true" />
      <span class="switch-text"><span id="chat-adapter-name">{applied.value?.name ?? chatText.noAdapter}</span></span>
    </label>
  );
}
