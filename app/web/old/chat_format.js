// How conversations are written for a model that brings no chat template: one of the formats that Python offers.

import { byId, create, setText } from "./dom.js";
import { state } from "./store.js";

const AUTO = "auto"; // the model's own template, or what suits it

export function setUpChatFormat() {
  byId("set-chat-format").addEventListener("input", draw);
  offerFormats({ chat_formats: [] });
}

/** A model is open: offer what there is to choose, with the one chosen that suits it. One with a template has no choice. */
export function offerFormats({ chat_formats: offers, chat_format: suited }) {
  const select = byId("set-chat-format");
  select.closest(".field").hidden = !offers.length;
  for (const option of select.options) {
    const offer = offers.find(({ value }) => value === option.value);
    option.hidden = option.disabled = !offer && offers.length > 0;
    setText(option, offer?.title ?? option.value);
  }
  select.value = suited ?? AUTO;
  byId("chat-format-lines").replaceChildren(...offers.map(({ value, title, help, note }) => create("li", { "data-value": value },
    create("strong", {}, title), `: ${help.slice(0, 1).toLowerCase()}${help.slice(1)}${note ? `; ${note}` : ""}.`)));
  draw();
}

/** The format for messages to the workers. */
export const chosenFormat = () => (state.model?.chat_formats.length ? byId("set-chat-format").value : AUTO);

/** The counting for another format was stopped: go back to the one that holds. */
export function takeBackFormat(held) {
  const select = byId("set-chat-format");
  const value = held === AUTO ? state.model?.chat_format : held;
  if (!state.model?.chat_formats.length || select.value === value) return;
  select.value = value;
  select.dispatchEvent(new Event("input", { bubbles: true }));
}

function draw() {
  const chosen = byId("set-chat-format").value;
  for (const line of byId("chat-format-lines").children) line.classList.toggle("chosen", line.dataset.value === chosen);
}
