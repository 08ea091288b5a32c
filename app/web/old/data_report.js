// Step 1's numbers: what Python says is in the dataset that is open.

import { showLine } from "./data_preview.js";
import { byId, create, formatCount, setText } from "./dom.js";
import { drawHistogram } from "./histogram.js";
import { subscribe } from "./store.js";

const SHOWN_PAIRS = 8, SHOWN_PROMPTS = 4;
const formatNames = {
  conversational: "conversations (messages)", "prompt-completion": "prompt and completion", text: "plain text",
  alpaca: "Alpaca (instruction, output)", sharegpt: "ShareGPT (from, value)", preference: "preference data: only good answers are trained",
};
const roleNames = { system: "system messages", user: "user messages", assistant: "assistant answers" };
let shown = null; // the dataset that is drawn

/** Draw the report of each dataset that comes. */
export function setUpReport() {
  subscribe(draw);
}

function draw({ dataset, model, reading }) {
  const bare = dataset?.report.good && !dataset.report.tokens; // Python's None comes as undefined
  byId("no-tokens").hidden = !bare || Boolean(reading && model);
  byId("count-tokens").hidden = !model;
  setText(byId("no-tokens-text"), model ? "The tokens are not counted: without them there is nothing to train on."
    : "Tokens are counted by the model itself: lengths, the share that is trained and the rows as the model reads them come as soon as one is open.");
  if (dataset === shown) return;
  shown = dataset;
  if (!dataset) return;
  const { report, facts } = dataset;
  byId("dataset-summary").hidden = dataset.rows === 0; // then what is wrong says it all
  byId("dataset-summary").replaceChildren(...facts.map(({ label, value, hint }) =>
    create("div", { title: hint || null }, create("dt", {}, label), create("dd", {}, value))));
  drawHistogram(report.tokens, dataset.on_long);
  const parts = [...contents(dataset)];
  byId("data-more").hidden = parts.length === 0;
  byId("data-more-body").replaceChildren(...parts);
}

/** The folded part: headings, each with what stands below it. */
function* contents({ report, validation }) {
  const { content, tokens, formats } = report;
  if (!Object.keys(formats).length) return;
  yield heading("What the rows are");
  yield counts(Object.entries(formats).map(([name, count]) => [formatNames[name] ?? name, rowCount(count)]));
  if (Object.keys(content.turns).length) {
    yield heading("Turns");
    yield counts([
      ...Object.entries(content.turns).map(([role, count]) => [roleNames[role] ?? role, formatCount(count)]),
      ["most in one row", formatCount(content.turns_per_row_max)],
    ]);
  }
  yield heading("Same rows");
  yield* repeats(content.exact_duplicates, "is an exact copy of", "are exact copies of", "No row stands in the data twice.");
  yield* repeats(content.near_duplicates, "is nearly the same as", "are nearly the same as", null);
  if (validation) {
    yield heading("Also in the validation file");
    yield paragraph(validation.overlap
      ? `${rowCount(validation.overlap)} of the training data ${validation.overlap === 1 ? "stands" : "stand"} in ${validation.name} too and ${validation.overlap === 1 ? "is" : "are"} left out of training.`
      : `No row of the training data stands in ${validation.name}.`);
    if (validation.overlap) yield pairs(validation.overlap_lines, validation.overlap, "is there line", false);
  }
  yield heading("System prompts");
  yield* systemPrompts(content);
  if (Object.keys(content.scripts).length) {
    yield heading("Writing");
    yield counts(Object.entries(content.scripts).map(([script, count]) => [script, rowCount(count)]));
  }
  if (!tokens) return;
  yield heading("Tokens");
  yield counts([
    ["in all", formatCount(tokens.total)], ["cut off", formatCount(tokens.tokens_cut)],
    ["trained", `${formatCount(tokens.trained)} of ${formatCount(tokens.kept)}`],
  ]);
  yield heading("Padding and packing");
  yield paragraph(padding(tokens));
}

const heading = (text) => create("h4", {}, text);
const paragraph = (text) => create("p", {}, text);
const rowCount = (count) => `${formatCount(count)} ${count === 1 ? "row" : "rows"}`;
const percent = (share) => (share > 0 && share < 0.005 ? "under 1 %" : `${Math.round(100 * share)} %`);

const counts = (entries) => create("dl", { class: "counts" },
  ...entries.map(([name, value]) => create("div", {}, create("dt", {}, name), create("dd", {}, value))));

function* repeats({ count, examples }, one, many, none) {
  if (!count) {
    if (none) yield paragraph(none);
    return;
  }
  yield paragraph(count === 1 ? `1 row ${one} an earlier one.` : `${formatCount(count)} rows ${many} earlier ones.`);
  yield pairs(examples, count, "repeats", true);
}

/** Pairs of lines. The first of each, and with `both` the second, leads to its row. */
function pairs(lines, count, word, both) {
  const items = lines.slice(0, SHOWN_PAIRS).map(([line, other]) =>
    create("li", {}, lineButton(line), ` ${word} `, both ? lineButton(other) : formatCount(other)));
  if (count > items.length) items.push(create("li", {}, `… and ${formatCount(count - items.length)} more`));
  return create("ul", { class: "pairs" }, ...items);
}

const lineButton = (line) =>
  create("button", { type: "button", class: "quiet", onclick: () => showLine(line), "aria-label": `Show the row of line ${line}` }, `line ${formatCount(line)}`);

function* systemPrompts({ system_prompts, system_prompt_count }) {
  if (!system_prompt_count) return yield paragraph("None. The model's own template may add one; the preview shows it.");
  const number = system_prompt_count === 1 ? "One" : `${formatCount(system_prompt_count)} different ones`;
  yield paragraph(system_prompt_count > SHOWN_PROMPTS ? `${number}, the most frequent first:` : `${number}:`);
  yield create("ul", { class: "system-prompts" }, ...system_prompts.slice(0, SHOWN_PROMPTS).map(([text, count]) =>
    create("li", {}, create("span", { class: "count" }, rowCount(count)), create("q", { dir: "auto" }, text))));
}

function padding({ padding_share, packing_saves }) {
  const waste = `With 8 rows side by side, ${percent(padding_share)} of what is computed would be padding.`;
  if (packing_saves < 0.005) return `${waste} Packing short rows together would save nothing more.`;
  return `${waste} Packing short rows together leaves out ${percent(packing_saves)} of the work; it changes no result.`;
}
