// Which column is what, chosen by hand or as one of the offered readings. Remembered by the columns' names.

import { columnLabel, drawRow, offersReadings, setUpReadings } from "./data_readings.js";
import { byId, create, formatCount, setText } from "./dom.js";
import { readRemembered, remember } from "./remembered.js";
import { asksForColumns, isRunning, subscribe } from "./store.js";

const KEY = "lora-lab.columns";
const KEPT = 30; // sets of columns that are remembered
const ROLES = {
  pair: ["prompt", "context", "reply", "system", "history", "label"], conversation: ["conversation", "system", "label"], text: ["text"],
};
const NEEDED = ["prompt", "reply", "conversation", "text"];
const ALL_ROLES = [...new Set(Object.values(ROLES).flat())];
let shown = null; // the dataset that is drawn
let columns = []; // its columns; an option's value is the place in here
let request = 0;
let timer;
let open = false; // the editor, not only the line that says how the columns are read
let train, isFromMemory; // given to setUpMapping

/** The mapping that the person chose for these columns before, or null; not one that this file's rows give no ground for. */
export function remembered({ columns, readings, unknown }) {
  const names = Object.keys(columns);
  const mapping = readRemembered(KEY)[keyOf(names)];
  const fits = mapping && typeof mapping === "object" && columnsOf(mapping).every(([, name]) => names.includes(name));
  const suits = () => unknown > 0 || readings.some((reading) => roles(reading.mapping) === roles(mapping));
  return fits && Object.keys(mapping).length && suits() ? mapping : null;
}

/** The mapping's roles that are columns: not the least rating, nor that the known names are read. */
const columnsOf = (mapping) => Object.entries(mapping).filter(([role]) => role !== "as" && role !== "at_least");
const roles = (mapping) => JSON.stringify(Object.entries(mapping).filter(([role]) => role !== "at_least").sort());
const keyOf = (names) => JSON.stringify([...names].sort());

const keep = (names, mapping) => remember(KEY, keyOf(names), mapping, KEPT);

/** `use(mapping, how)` reads the data again so; null: without one. `wasRemembered()`: nobody chose it just now. */
export function setUpMapping(link, { use, wasRemembered }) {
  [train, isFromMemory] = [link, wasRemembered];
  for (const box of document.querySelectorAll("[name=mapping-kind]")) {
    box.addEventListener("change", () => {
      drawKind();
      ask(0);
    });
  }
  for (const role of ALL_ROLES) byId(`map-${role}`).addEventListener("change", () => ask(150));
  byId("map-at_least").addEventListener("input", () => ask(300));
  const choose = (mapping) => {
    open = false;
    keep(columns, mapping);
    use(mapping);
  };
  byId("mapping").addEventListener("submit", (event) => {
    event.preventDefault();
    choose(chosen());
  });
  setUpReadings({ use: choose, isChanging: () => open });
  byId("readings-other").addEventListener("click", () => {
    fill(shown.report);
    unfold(true, `map-${ROLES[kind()][0]}`);
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
      open = asksForColumns(dataset) && !offersReadings(dataset.report);
      if (columns.length) fill(dataset.report);
    }
  }
  const { mapping, good, groups } = dataset.report;
  const offers = offersReadings(dataset.report);
  // A row with a prompt alone has columns too, but choosing others would not help it.
  const some = columns.length > 0 && (mapping || asksForColumns(dataset) || groups.some(({ kind: found }) => found === "unknown-columns"));
  byId("mapping").hidden = !open || !(some || offers);
  byId("mapping-cancel").hidden = !mapping && good === 0 && !offers;
  byId("readings-other").hidden = open;
  byId("mapped").hidden = !some || open || (offers && !mapping);
  if (!some) return;
  const auto = isFromMemory();
  setText(byId("mapped-text"), mapping ? `Read as ${describe(mapping)}${auto ? ", as last time" : ""}.`
    : "Some rows have columns of other names.");
  byId("mapped-undo").hidden = !mapping || !auto;
  byId("mapped-forget").hidden = !mapping;
  setText(byId("mapped-change"), mapping ? "Change" : "Choose columns");
}

const describe = (mapping) => (mapping.as ? "it stands" : columnsOf(mapping).map(([role, name]) =>
  `${role} = ${columnLabel(name)}${role === "label" && mapping.at_least ? `, ${mapping.at_least} or better` : ""}`).join(", "));

function fill({ mapping, suggested_mapping, readings, rows, good, unknown }) {
  const likely = suggested_mapping ?? readings.map((reading) => reading.mapping).find((found) => !found.as) ?? {};
  const start = mapping && !mapping.as ? mapping : likely;
  setText(byId("mapping-hint"), !unknown || good === 0 ? "Choose, and see below how the first rows are read."
    : `${formatCount(unknown)} of ${formatCount(rows)} rows have other names. What you choose holds for all rows.`);
  for (const role of ALL_ROLES) {
    const first = NEEDED.includes(role) ? "choose…" : "none";
    byId(`map-${role}`).replaceChildren(create("option", { value: "" }, first),
      ...columns.map((name, index) => create("option", { value: String(index) }, columnLabel(name))));
    const place = columns.indexOf(start[role]);
    byId(`map-${role}`).value = place < 0 ? "" : String(place);
  }
  byId("map-at_least").value = start.at_least ?? "";
  document.querySelector(`[name=mapping-kind][value=${["text", "conversation"].find((role) => start[role]) ?? "pair"}]`).checked = true;
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
  const mapping = Object.fromEntries(pairs.map(([role, value]) => [role, columns[Number(value)]]));
  const least = byId("map-at_least").value.trim();
  return mapping.label !== undefined && least ? { ...mapping, at_least: least } : mapping;
}

function isComplete() {
  const mapping = chosen();
  return ROLES[kind()].every((role) => !NEEDED.includes(role) || mapping[role] !== undefined);
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
