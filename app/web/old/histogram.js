// How long the rows are, in tokens: bars, and the lengths that matter as lines across them.

import { byId, create, formatCount, setText } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";

/** Draw `tokens` (TokenReport as it comes in a report), or nothing for null. */
export function drawHistogram(tokens, onLong) {
  const figure = byId("histogram");
  figure.hidden = !tokens?.histogram.length;
  if (figure.hidden) return;
  const { histogram, p50, p95, max, max_length } = tokens;
  const end = histogram.at(-1)[1];
  const highest = Math.max(...histogram.map(([, , count]) => count));
  const svg = shape("svg", { viewBox: `0 0 ${end} 100`, preserveAspectRatio: "none" });
  for (const [from, to, count] of histogram) svg.append(...bar(from, to, count, highest, max_length));
  const said = { p50: "Half up to", p95: "95 % up to", max: "Longest", cut: onLong === "drop" ? "Left out over" : "Cut at" };
  const lines = Object.entries({ p50, p95, max, cut: max_length });
  const drawn = lines.filter(([, value]) => value < end).map(([name, value]) => {
    const line = create("span", { class: `rule ${name}` });
    line.style.left = `${(100 * (value + 0.5)) / end}%`;
    return line;
  });
  byId("histogram-plot").replaceChildren(svg, ...drawn);
  byId("histogram-key").replaceChildren(...lines.map(([name, value]) => create("div", {},
    create("span", { class: `rule ${name}`, "aria-hidden": "true" }), create("dt", {}, said[name]), create("dd", {}, formatCount(value)))));
  byId("histogram-table").replaceChildren(...histogram.filter(([, , count]) => count).map(([from, to, count]) =>
    create("tr", {}, create("th", { scope: "row" }, range(from, to)), create("td", {}, formatCount(count)))));
  setText(byId("histogram-end"), `${formatCount(end)} tokens`);
  tell(`tallest bar ${count(highest)}`);
  svg.addEventListener("pointerover", ({ target }) => tell(target.dataset.said ?? `tallest bar ${count(highest)}`));
  svg.addEventListener("pointerleave", () => tell(`tallest bar ${count(highest)}`));
}

/** A bar in up to two colours (what is beyond the longest row of the settings stands out), and its place to point at. */
function bar(from, to, rows, highest, maxLength) {
  const height = rows ? Math.max(2, (100 * rows) / highest) : 0;
  const gap = (to - from) * 0.08;
  const split = Math.min(Math.max(maxLength + 1, from), to); // a row of the length itself is whole
  const parts = [[from, split, ""], [split, to, " beyond"]].filter(([left, right]) => right > left && height).map(([left, right, name]) =>
    shape("rect", { class: `bar-fill${name}`, x: left === from ? left + gap : left, width: Math.max(right - left - (left === from ? gap : 0) - (right === to ? gap : 0), 0.01), y: 100 - height, height }));
  const hit = shape("rect", { class: "bar-hit", x: from, width: to - from, y: 0, height: 100 });
  hit.dataset.said = `${range(from, to)} tokens: ${count(rows)}`;
  return [...parts, hit];
}

const tell = (text) => setText(byId("histogram-point"), text);
const count = (rows) => `${formatCount(rows)} ${rows === 1 ? "row" : "rows"}`;
const range = (from, to) => (to - from === 1 ? formatCount(from) : `${formatCount(from)}–${formatCount(to - 1)}`);

function shape(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
