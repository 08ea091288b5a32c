// The ways in which the rows can be read, each with its first row, to choose from; and the columns that are not used.

import { byId, create, formatCount, setText } from "./dom.js";
import { isRunning, subscribe } from "./store.js";

const SHOWN_CHARACTERS = 280, SHOWN_TURNS = 6, SHOWN_COLUMNS = 12;
let shown = null; // the dataset that is drawn
let choose, isOpen; // given to setUpReadings

/** `use(mapping)` reads the rows so; `isChanging()`: the person wants to see them again though one is chosen. */
export function setUpReadings({ use, isChanging }) {
  [choose, isOpen] = [use, isChanging];
  subscribe(draw);
}

/** Are there readings to choose from, beside the choice of columns? */
export const offersReadings = ({ readings, unknown }) => readings.length > (unknown ? 1 : 0);

function draw({ dataset }) {
  if (!dataset) {
    shown = null;
    return;
  }
  const { report } = dataset;
  byId("readings").hidden = !offersReadings(report) || Boolean(report.mapping && !isOpen());
  for (const button of byId("readings-list").querySelectorAll("button")) button.disabled = isRunning();
  if (dataset === shown) return;
  shown = dataset;
  setText(byId("readings-title"), report.readings.length > 1 ? "How are the rows to be read?" : "Are the rows to be read like this?");
  byId("readings").dataset.asks = String(report.asks.length > 0);
  setText(byId("readings-why"), report.asks.map(sentence).join(" "));
  byId("readings-list").replaceChildren(...report.readings.map((reading) => drawReading(reading, report)));
  drawUnused(report);
}

function drawReading({ mapping, title, row, unused }, report) {
  const now = same(mapping, report.mapping ?? { as: "known" }) && (report.good > 0 || Boolean(report.mapping)) && !report.asks.length;
  return create("li", { class: "reading-way", "data-now": String(now) },
    create("p", { class: "reading-title" }, sentence(title)),
    drawRow(row),
    unused.length ? create("p", { class: "hint" }, `Leaves out ${unused.map(columnLabel).join(", ")}.`) : null,
    create("button", { type: "button", class: `${now ? "quiet" : "secondary"} small`, onclick: () => choose(mapping), disabled: isRunning() },
      now ? "Keep it so" : "Read them so"));
}

const same = (one, other) => JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());

function drawUnused({ unused }) {
  const loud = unused.filter(({ quiet }) => !quiet), quiet = unused.filter((column) => column.quiet);
  byId("unused").hidden = unused.length === 0;
  setText(byId("unused-title"), loud.length === 1 ? "One column is not used" : loud.length ? `${formatCount(loud.length)} columns are not used` : "");
  byId("unused-title").hidden = !loud.length;
  byId("unused-list").replaceChildren(...loud.slice(0, SHOWN_COLUMNS).map(drawColumn));
  const more = loud.length > SHOWN_COLUMNS ? `… and ${formatCount(loud.length - SHOWN_COLUMNS)} more. ` : "";
  const names = quiet.map(({ column }) => columnLabel(column)).slice(0, SHOWN_COLUMNS).join(", ");
  setText(byId("unused-quiet"), more + (quiet.length ? `Not used either, numbers or repeats: ${names}${quiet.length > SHOWN_COLUMNS ? ", …" : ""}.` : ""));
}

function drawColumn({ column, rows, meaning, example, asks }) {
  return create("div", { "data-asks": String(asks) },
    create("dt", {}, create("code", {}, columnLabel(column)), create("span", { class: "count" }, `${formatCount(rows)} ${rows === 1 ? "row" : "rows"}`)),
    create("dd", {}, meaning ? `${sentence(meaning)} ` : "", create("q", { dir: "auto" }, example)));
}

/** A row as it is read: its turns, its text, or why it cannot be read so. */
export function drawRow({ messages, text, problem }) {
  if (problem) return create("p", { class: "mapping-bad" }, problem);
  const turns = messages ?? [{ role: "text", content: text }];
  const more = turns.length > SHOWN_TURNS ? create("p", { class: "hint" }, `… and ${formatCount(turns.length - SHOWN_TURNS)} more turns`) : null;
  return create("div", { class: "turns" }, ...turns.slice(0, SHOWN_TURNS).map(({ role, content }) => create("div", { class: `turn ${role}` },
    create("span", { class: "turn-role" }, role), create("p", {}, short(content)))), more);
}

const short = (text) => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text);

/** A column's name so that it can stand in a list: short, without characters that turn the text around it. */
export const columnLabel = (name) => {
  const plain = name.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\ufffd");
  return plain.length > 40 ? `${plain.slice(0, 39)}…` : plain || "(no name)";
};

const sentence = (text) => {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
};
