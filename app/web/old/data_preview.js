// Step 1's preview: rows as the model sees them, token by token; walked through by buttons and keys.

import { drawChips, drawText } from "./chips.js";
import { byId, create, formatCount, setText } from "./dom.js";
import { markFound } from "./found.js";
import { subscribe } from "./store.js";

const MANY_TOKENS = 800;
let train = null; // the train worker's link
let dataset = null; // that the rows are of
let row = null; // RowShown
let target = 0; // the row that the person is on the way to
let request = 0; // late answers to earlier questions are told by it
let sent = null; // the question that is on its way
let next = null; // the one to ask then
let token = -1; // the one that is told about
let searched = ""; // the words that led to the row

/** Show rows of the dataset that is open. `link` is the train worker's. */
export function setUpPreview(link) {
  train = link;
  train.on("row_shown", onRow);
  train.on("failed", ({ where }) => { if (where === "dataset") sent = next = null; });
  const preview = byId("preview");
  preview.addEventListener("keydown", onKey);
  for (const button of preview.querySelectorAll("[data-jump]")) {
    button.addEventListener("click", () => jump(button.dataset.jump));
  }
  byId("preview-tokens").addEventListener("click", () => showAs("tokens"));
  byId("preview-text").addEventListener("click", () => showAs("text"));
  byId("preview-enlarge").addEventListener("click", enlarge);
  byId("preview-dialog").addEventListener("close", shrink);
  byId("preview-number").addEventListener("keydown", onNumberKey);
  byId("preview-number").addEventListener("focus", (event) => event.target.select());
  byId("preview-number").addEventListener("blur", drawPlace);
  byId("preview-search").addEventListener("keydown", onSearchKey);
  const chips = byId("preview-chips");
  chips.addEventListener("pointerover", (event) => tellToken(indexOf(event.target)));
  chips.addEventListener("pointerleave", () => tellToken(focusedToken()));
  chips.addEventListener("focusin", (event) => tellToken(indexOf(event.target)));
  chips.addEventListener("focusout", () => tellToken(-1));
  chips.addEventListener("click", (event) => focusToken(indexOf(event.target)));
  subscribe(draw);
}

/** Go to the row that begins on a line of a file, and show it. */
export function showLine(line, source = "") {
  byId("preview").scrollIntoView({ block: "nearest" });
  byId("preview-chips").focus({ preventScroll: true });
  ask({ line, source });
}

function draw(state) {
  if (state.dataset === dataset) return;
  const same = state.dataset && dataset && state.dataset.title === dataset.title && row;
  dataset = state.dataset;
  const unanswered = next ?? sent;
  sent = next = null;
  // Rows of columns that nobody knows are shown by the mapping's editor instead.
  byId("preview").hidden = !dataset?.report.tokens || !Object.keys(dataset.report.formats).length;
  if (byId("preview").hidden) return forget();
  // What was asked of it before, or where it was: cut or masked in another way, and it may have been left out by that.
  if (same) ask(unanswered ?? { line: row.line, source: row.source, index: row.index });
  else {
    forget();
    ask({ index: 0 });
  }
}

function forget() {
  row = null;
  target = 0;
  searched = "";
  byId("preview-search").value = "";
  byId("preview-chips").replaceChildren();
  setText(byId("preview-message"), "");
  if (byId("preview-dialog").open) byId("preview-dialog").close();
}

// ---------------------------------------------------------------------------------------------------- asking, drawing

/** Ask for a row. One question at a time is on its way: a held key asks for where it has come to by then. */
function ask(question) {
  if (sent) next = question;
  else {
    request += 1;
    sent = question;
    train.send("show_row", { ...question, request });
  }
}

function jump(kind) {
  if (kind === "next" || kind === "previous") return walk(kind === "next" ? 1 : -1);
  ask({ index: target, jump: kind });
}

function walk(step) {
  if (!row?.count) return;
  target = (target + step + row.count) % row.count;
  ask({ index: target });
}

function onRow(event) {
  if (event.request !== request || !sent) return;
  const asked = sent;
  sent = null;
  if (event.why && asked.line != null && asked.index != null) ask({ index: asked.index }); // left out: the row in its place
  else if (event.why) sayWhyNot(event);
  else show(event, asked.search ?? "");
  if (!next || sent) return;
  const question = next;
  next = null;
  ask(question);
}

function sayWhyNot({ why }) {
  setText(byId("preview-message"), why);
  if (row) target = row.index;
}

function show(event, words) {
  const sameRow = row?.index === event.index;
  row = event;
  searched = words;
  if (!next) target = row.index;
  setText(byId("preview-message"), "");
  drawRow(sameRow);
  drawPlace();
  byId("preview-notes").replaceChildren(...row.notes.map((note) => create("li", {}, note)));
  byId("preview-cut-key").hidden = row.kept >= row.length;
  const count = row.trained.filter((trained) => trained).length;
  setText(byId("preview-said"), `Row ${row.index + 1} of ${row.count}, ${place()}, ${row.length} tokens, ${count} trained`);
}

function drawRow(keepScroll = false) {
  const chips = byId("preview-chips");
  const hadFocus = chips.contains(document.activeElement);
  const scrolled = chips.scrollTop;
  token = -1;
  setText(byId("preview-token"), "");
  chips.replaceChildren(byId("preview").dataset.view === "tokens" ? drawChips(row) : drawText(row));
  chips.classList.toggle("many", row.texts.length > MANY_TOKENS);
  chips.scrollTop = keepScroll ? scrolled : 0;
  if (hadFocus && !chips.contains(document.activeElement)) chips.focus({ preventScroll: true });
  markFound(chips, searched);
}

function drawPlace() {
  if (!row) return;
  // A late answer does not write over the number that somebody is typing; leaving the field comes here again.
  if (document.activeElement !== byId("preview-number")) byId("preview-number").value = row.index + 1;
  setText(byId("preview-count"), `of ${formatCount(row.count)}`);
  setText(byId("preview-place"), place());
}

const place = () => `line ${formatCount(row.line)}${row.source ? ` of ${row.source}` : ""}`;

function showAs(view) {
  byId("preview").dataset.view = view;
  byId("preview-tokens").setAttribute("aria-pressed", String(view === "tokens"));
  byId("preview-text").setAttribute("aria-pressed", String(view === "text"));
  if (row) drawRow();
}

// --------------------------------------------------------------------------------------------------- a single token

const indexOf = (element) => Number(element.closest?.(".chip")?.dataset.index ?? -1);
const focusedToken = () => indexOf(document.activeElement ?? document.body);

function tellToken(index) {
  if (index === token || !row) return;
  token = index;
  const line = byId("preview-token");
  if (index < 0) return line.replaceChildren();
  const said = [`id ${row.token_ids[index]}`, `token ${formatCount(index + 1)} of ${formatCount(row.length)}`];
  if (row.special[index]) said.push("special");
  if (row.texts[index] === "") said.push("the beginning of a character that the next token ends");
  said.push(index >= row.kept ? "cut off" : row.trained[index] ? "trained" : "only read");
  line.replaceChildren(create("strong", {}, JSON.stringify(row.texts[index])), ` ${said.join(" · ")}`);
}

function focusToken(index) {
  const chip = byId("preview-chips").querySelector(`[data-index="${index}"]`);
  if (!chip) return;
  byId("preview-chips").querySelector(".chip[tabindex]")?.removeAttribute("tabindex");
  chip.tabIndex = -1;
  chip.focus();
}

// ------------------------------------------------------------------------------------------------------------- keys

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const keys = {
    ArrowRight: () => walk(1), j: () => walk(1), ArrowLeft: () => walk(-1), k: () => walk(-1),
    Home: () => goTo(0), End: () => goTo((row?.count ?? 1) - 1), r: () => jump("random"),
    g: () => byId("preview-number").focus(), "/": () => byId("preview-search").focus(),
  };
  const tokens = { ArrowRight: () => focusToken(focusedToken() + 1), ArrowLeft: () => focusToken(focusedToken() - 1) };
  const act = event.shiftKey && event.key !== "/" ? tokens[event.key] : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function goTo(index) {
  target = index;
  ask({ index });
}

function onNumberKey(event) {
  if (event.key === "Escape") return leaveField(event);
  if (event.key !== "Enter") return;
  const number = Number(event.target.value.trim());
  leaveField(event);
  if (!row) return;
  if (!Number.isInteger(number) || number < 1 || number > row.count) {
    return setText(byId("preview-message"), `There are rows 1 to ${formatCount(row.count)}.`);
  }
  goTo(number - 1);
}

function onSearchKey(event) {
  const words = event.target.value.trim();
  if (event.key === "Escape" && !words) return leaveField(event);
  if (event.key === "Escape") { // it empties the field, and does not close the large view
    event.preventDefault();
    event.target.value = "";
  }
  if (event.key !== "Enter") return;
  event.preventDefault();
  if (!words) return leaveField(event);
  ask({ index: target, search: words, jump: event.shiftKey ? "previous" : null });
}

/** From a field back to the row. */
function leaveField(event) {
  event.preventDefault();
  event.stopPropagation();
  byId("preview-chips").focus({ preventScroll: true });
}

// ------------------------------------------------------------------------------------------------------- large view

function enlarge() {
  const dialog = byId("preview-dialog");
  if (dialog.open) return dialog.close();
  dialog.append(byId("preview"));
  nameEnlarge("Show small");
  dialog.showModal();
  byId("preview-chips").focus();
}

function shrink() {
  byId("preview-home").append(byId("preview"));
  nameEnlarge("Show large");
  byId("preview-enlarge").focus();
}

function nameEnlarge(label) {
  byId("preview-enlarge").setAttribute("aria-label", label);
  byId("preview-enlarge").title = label;
}
