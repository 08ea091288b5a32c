// Columns of other names: which is the prompt, the reply, the system prompt or the text. Remembered by the columns' names.

import { byId, create, formatCount, setText } from "./dom.js";
import { isRunning, subscribe } from "./store.js";

const KEY = "lora-lab.columns";
const KEPT = 30; // sets of columns that are remembered
const ROLES = { pair: ["prompt", "reply", "system"], text: ["text"] };
let shown = null; // the dataset that is drawn
let columns = []; // its columns; an option's value is the place in here
let request = 0;
let timer;
let open = false; // the editor, not only the line that says how the columns are read
let train, isFromMemory; // given to setUpMapping

/** The mapping that the person chose for these columns before, or null. */
export function remembered(names) {
  const mapping = readAll()[keyOf(names)];
  const fits = mapping && typeof mapping === "object" && Object.values(mapping).every((name) => names.includes(name));
  return fits && Object.keys(mapping).length ? mapping : null;
}

const keyOf = (names) => JSON.stringify([...names].sort());

function readAll() {
  try {
    const all = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return all && typeof all === "object" ? all : {};
  } catch {
    return {}; // no storage here, or something else wrote there
  }
}

function keep(names, mapping) {
  const { [keyOf(names)]: _, ...others } = readAll();
  const entries = Object.entries(others).slice(-(KEPT - 1));
  if (mapping) entries.push([keyOf(names), mapping]);
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(entries)));
  } catch {} // not remembered then: nothing else depends on it
}

/** `use(mapping, how)` reads the data again so; null: without one. `wasRemembered()`: nobody chose it just now. */
export function setUpMapping(link, { use, wasRemembered }) {
  [train, isFromMemory] = [link, wasRemembered];
  for (const box of document.querySelectorAll("[name=mapping-kind]")) {
    box.addEventListener("change", () => {
      drawKind();
      ask(0);
    });
  }
  for (const role of Object.values(ROLES).flat()) byId(`map-${role}`).addEventListener("change", () => ask(150));
  byId("mapping").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(columns, chosen());
    use(chosen());
  });
  byId("mapped-change").addEventListener("click", () => {
    fill(shown.report);
    unfold(true, `map-${ROLES[kind()][0]}`);
  });
  byId("mapping-cancel").addEventListener("click", () => unfold(false, "mapped-change"));
  byId("mapped-undo").addEventListener("click", () => use(null));
  byId("mapped-forget").addEventListener("click", () => {
    keep(columns, null);
    use(null);
  });
  train.on("mapping_previewed", drawPreview);
  subscribe(draw);
}

function unfold(wanted, focus) {
  open = wanted;
  draw({ dataset: shown });
  byId(focus).focus();
}

function draw({ dataset }) {
  for (const id of ["mapped-undo", "mapped-forget"]) byId(id).disabled = isRunning();
  allowUse();
  if (!dataset) {
    clearTimeout(timer); // there is nothing to preview
    shown = null;
    return;
  }
  if (dataset !== shown) {
    const fresh = shown === null || keyOf(Object.keys(dataset.report.columns)) !== keyOf(columns);
    shown = dataset;
    columns = Object.keys(dataset.report.columns);
    if (fresh) {
      open = dataset.report.good === 0 && !dataset.report.mapping;
      if (columns.length) fill(dataset.report);
    }
  }
  const { mapping, good, groups } = dataset.report;
  // A row with a prompt alone has columns too, but choosing others would not help it.
  const some = columns.length > 0 && (mapping || good === 0 || groups.some(({ kind: found }) => found === "unknown-columns"));
  byId("mapping").hidden = !some || !open;
  byId("mapping-cancel").hidden = !mapping && good === 0;
  byId("mapped").hidden = !some || open;
  if (!some) return;
  const auto = isFromMemory();
  setText(byId("mapped-text"), mapping ? `Read as ${describe(mapping)}${auto ? ", as last time" : ""}.`
    : "Some rows have columns of other names.");
  byId("mapped-undo").hidden = !mapping || !auto;
  byId("mapped-forget").hidden = !mapping;
  setText(byId("mapped-change"), mapping ? "Change" : "Choose columns");
}

const describe = (mapping) => Object.entries(mapping).filter(([, name]) => name)
  .map(([role, name]) => `${role} = ${label(name)}`).join(", ");

/** A column's name so that it can stand in a list: short, without characters that turn the text around it. */
const label = (name) => {
  const plain = name.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\ufffd");
  return plain.length > 40 ? `${plain.slice(0, 39)}…` : plain || "(no name)";
};

function fill({ mapping, suggested_mapping, rows, good, columns: counts }) {
  const start = mapping ?? suggested_mapping ?? {};
  setText(byId("mapping-hint"), mapping || good === 0 ? "These column names are new here. Choose, and see below how the first rows are read."
    : `${formatCount(Math.max(...Object.values(counts)))} of ${formatCount(rows)} rows have other names. What you choose holds for all rows.`);
  for (const role of Object.values(ROLES).flat()) {
    const first = role === "system" ? "none" : "choose…";
    byId(`map-${role}`).replaceChildren(create("option", { value: "" }, first),
      ...columns.map((name, index) => create("option", { value: String(index) }, label(name))));
    const place = columns.indexOf(start[role]);
    byId(`map-${role}`).value = place < 0 ? "" : String(place);
  }
  document.querySelector(`[name=mapping-kind][value=${start.text ? "text" : "pair"}]`).checked = true;
  byId("mapping-preview").replaceChildren();
  drawKind();
  ask(0);
}

const kind = () => document.querySelector("[name=mapping-kind]:checked").value;

function drawKind() {
  for (const element of document.querySelectorAll(".mapping-column")) element.hidden = !ROLES[kind()].includes(element.dataset.role);
}

function chosen() {
  const pairs = ROLES[kind()].map((role) => [role, byId(`map-${role}`).value]).filter(([, value]) => value !== "");
  return Object.fromEntries(pairs.map(([role, value]) => [role, columns[Number(value)]]));
}

function isComplete() {
  const mapping = chosen();
  return ROLES[kind()].every((role) => role === "system" || mapping[role] !== undefined);
}

function allowUse() {
  byId("mapping-use").disabled = !isComplete() || isRunning();
  return isComplete();
}

/** Ask what the chosen mapping makes of the first rows, once the person pauses. */
function ask(wait_ms) {
  clearTimeout(timer);
  const mapping = chosen();
  setText(byId("mapping-problem"), "");
  if (!allowUse()) return byId("mapping-preview").replaceChildren();
  timer = setTimeout(() => train.send("preview_mapping", { mapping, request: ++request }), wait_ms);
}

function drawPreview({ request: answered, rows, problem }) {
  if (answered !== request) return; // of an earlier choice
  setText(byId("mapping-problem"), problem);
  byId("mapping-preview").replaceChildren(...rows.slice(0, 2).map(drawRow));
}

function drawRow({ messages, text, problem }) {
  if (problem) return create("p", { class: "mapping-bad" }, problem);
  const turns = messages ?? [{ role: "text", content: text }];
  return create("div", { class: "turns" }, ...turns.map(({ role, content }) => create("div", { class: `turn ${role}` },
    create("span", { class: "turn-role" }, role), create("p", {}, content.length > 280 ? `${content.slice(0, 280)}…` : content))));
}
