// A row's tokens as chips, or as its plain text with the trained parts marked. The text that is in the page is always
// the row's own: what shows a space or a line break is drawn by preview.css over it, so that it can be copied and read.

import { create, formatCount } from "./dom.js";

// What cannot be seen, or would turn the text around: drawn as a sign. The two joiners stand inside of words and emoji.
const HIDDEN = /[\0- \x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]/;
const SIGNS = { " ": "·", "\n": "¶", "\t": "→", "\r": "CR", "\0": "NUL", "\xa0": "nbsp", "\ufeff": "BOM" };
const JOINERS = /^[\u200c\u200d\ufe0f]+$/;

/** Return a fragment of the RowShown event's tokens, with a line where the row is cut. */
export function drawChips({ texts, trained, special, kept, length }) {
  const all = document.createDocumentFragment();
  let line = create("div", { class: "chip-line" });
  for (let index = 0; index < texts.length; index++) {
    if (index === kept) {
      all.append(line, cutLine(kept));
      line = create("div", { class: "chip-line" });
    }
    const names = ["chip"];
    if (index >= kept) names.push("beyond");
    else if (trained[index]) names.push("trained");
    if (special[index]) names.push("special");
    const chip = create("span", { class: names.join(" "), "data-index": index, dir: "auto" });
    fill(chip, texts[index]);
    line.append(chip);
    if (!texts[index].includes("\n")) continue;
    all.append(line); // a line of the text is one of the chips: far away ones need no layout
    line = create("div", { class: "chip-line" });
  }
  if (line.childNodes.length) all.append(line);
  if (kept < length && kept === texts.length) all.append(cutLine(kept));
  if (texts.length < length) all.append(more(texts.length, length));
  return all;
}

/** Return a fragment with the same row as plain text. */
export function drawText({ texts, trained, special, kept, length }) {
  const all = document.createDocumentFragment();
  const text = create("div", { class: "plain", dir: "auto" });
  for (let index = 0; index < texts.length;) {
    if (index === kept) text.append(cutLine(kept));
    const kind = kindOf(index);
    let end = index + 1;
    while (end < texts.length && end !== kept && kindOf(end) === kind) end++;
    const tag = kind.includes("trained") ? "mark" : "span";
    text.append(create(tag, { class: kind || null }, ...texts.slice(index, end)));
    index = end;
  }
  all.append(text);
  if (kept < length && kept === texts.length) all.append(cutLine(kept));
  if (texts.length < length) all.append(more(texts.length, length));
  return all;

  function kindOf(index) {
    const kind = index >= kept ? "beyond" : trained[index] ? "trained" : "";
    return special[index] ? `${kind} special`.trim() : kind;
  }
}

function fill(chip, text) {
  if (JOINERS.test(text)) return chip.append(sign(text, [...text].map(named).join(" ")));
  if (!HIDDEN.test(text)) return chip.append(text);
  let seen = "";
  for (const character of text) {
    if (!HIDDEN.test(character)) {
      seen += character;
      continue;
    }
    chip.append(seen, sign(character, SIGNS[character] ?? named(character)));
    seen = "";
  }
  chip.append(seen);
}

const sign = (text, shown) => create("i", { "data-sign": shown, class: shown.length > 1 ? "named" : null }, text);

function named(character) {
  const code = character.codePointAt(0);
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

const cutLine = (kept) =>
  create("div", { class: "cut-line", "data-testid": "preview-cut" }, create("span", {}, `cut here, at ${formatCount(kept)} tokens`));

const more = (shown, length) =>
  create("p", { class: "hint" }, `The first ${formatCount(shown)} of ${formatCount(length)} tokens are shown.`);
