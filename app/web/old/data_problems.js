// What is wrong with the data, kind by kind as Python counted it; mending, and going on with the good rows.

import { byId, create, formatCount, setText } from "./dom.js";
import { asksForColumns, isRunning, subscribe, update } from "./store.js";

const LISTED = 10; // problems of a kind that are shown at first
const OPEN_AT_ONCE = 6; // so few problems need no unfolding
let shown = null; // the dataset that is drawn

const count = (number, one, many = `${one}s`) => `${formatCount(number)} ${number === 1 ? one : many}`;

/** `mend(true)` reads the rows that can be mended as mended, `mend(false)` leaves them out again. */
export function setUpProblems({ mend }) {
  byId("consent").addEventListener("change", (event) => update({ consent: event.target.checked }));
  byId("mend-use").addEventListener("click", () => mend(true));
  byId("mend-undo").addEventListener("click", () => mend(false));
  subscribe(draw);
}

function draw({ dataset, consent }) {
  for (const id of ["consent", "mend-use", "mend-undo"]) byId(id).disabled = isRunning();
  byId("consent").checked = consent;
  if (dataset === shown) return;
  const stays = dataset && shown && shown.name === dataset.name && sameGroups(shown, dataset);
  shown = dataset;
  if (!dataset) return;
  drawConsent(dataset);
  if (stays) return; // only the cut has changed, or the tokens are counted: what a person unfolded stays unfolded
  drawErrors(dataset);
  drawMend(dataset);
  drawRemarks(dataset);
}

const sameGroups = (one, other) => one.problem_count === other.problem_count && one.use_mended === other.use_mended
  && JSON.stringify(one.report.groups) === JSON.stringify(other.report.groups);

function drawConsent({ problem_count, good_rows, can_train }) {
  byId("consent-row").hidden = problem_count === 0 || !can_train;
  setText(byId("consent-text"), `Leave the bad rows out and go on with the ${count(good_rows, "good row")}`);
}

function drawErrors({ report, problem_count, rows, good_rows }) {
  const asks = asksForColumns({ report }); // then the editor above says it all
  const groups = report.groups.filter(({ severity, kind }) => severity === "error" && !(asks && kind === "unknown-columns"));
  byId("dataset-errors").hidden = groups.length === 0;
  setText(byId("errors-title"), groups.length ? errorsTitle(report, problem_count, rows, good_rows) : "");
  byId("errors-kinds").replaceChildren(...drawKinds(groups, report, !asks));
}

function errorsTitle({ files, unknown, readings }, problem_count, rows, good_rows) {
  if (rows === 0) return files.length > 1 ? "These files hold no rows" : "This file cannot be used";
  if (!good_rows && (unknown || readings.length)) return "As it stands, no row can be used";
  if (!problem_count) return "Something is wrong with the file";
  return `${formatCount(problem_count)} of ${count(rows, "row")} cannot be used`;
}

function drawMend({ report, use_mended }) {
  const mended = report.groups.filter(({ severity }) => severity === "warning").reduce((sum, group) => sum + group.repairable, 0);
  const on = use_mended && mended > 0;
  const { mendable, improvable } = report;
  byId("mend").hidden = !on && mendable + improvable === 0;
  byId("mend").dataset.on = String(on);
  byId("mend-use").hidden = on;
  byId("mend-undo").hidden = !on;
  if (on) return setText(byId("mend-text"), `${count(mended, "row is", "rows are")} mended.`);
  const can = mendable === 1 ? "One of them can be mended: its meaning is clear." : `${formatCount(mendable)} of them can be mended: their meaning is clear.`;
  const better = `${count(improvable, "row")} can be used as ${improvable === 1 ? "it is" : "they are"}, and would be better mended: see the remarks.`;
  setText(byId("mend-text"), [mendable ? can : "", improvable ? better : ""].filter(Boolean).join(" "));
  setText(byId("mend-use"), mendable + improvable === 1 ? "Mend this row" : `Mend these ${formatCount(mendable + improvable)} rows`);
}

function drawRemarks({ report }) {
  const groups = report.groups.filter(({ severity }) => severity !== "error");
  byId("remarks").hidden = groups.length === 0;
  byId("remarks-kinds").replaceChildren(...drawKinds(groups, report, false));
}

/** Elements for the groups of a report, few of them unfolded. */
export function drawKinds(groups, report, mayOpen = true) {
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  return groups.map((group) => drawKind(group, report, mayOpen && (total <= OPEN_AT_ONCE || groups.length === 1)));
}

function drawKind(group, report, open) {
  const own = report.problems.filter(({ kind, severity }) => kind === group.kind && severity === group.severity);
  const several = report.files.length > 1;
  const box = create("details", { class: "kind", "data-kind": group.kind, "data-severity": group.severity, open });
  const lines = group.about_file ? "" : firstLines(group);
  box.append(create("summary", {},
    create("span", { class: "kind-title" }, group.title),
    group.about_file ? null : create("span", { class: "count", title: count(group.count, "problem") }, formatCount(group.count)),
    lines ? create("span", { class: "kind-lines" }, lines) : null));
  const oneHint = own.every(({ hint }) => hint === group.hint);
  const list = create("ol", { class: "kind-list" });
  let listed = 0;
  const more = create("button", { type: "button", class: "quiet small", onclick: () => list_more(50) });
  const rest = create("p", { class: "hint" });
  const list_more = (number) => {
    list.append(...own.slice(listed, listed + number).map((problem) => drawProblem(problem, group, several, oneHint)));
    listed = Math.min(own.length, listed + number);
    more.hidden = listed >= own.length;
    setText(more, `Show ${formatCount(Math.min(50, own.length - listed))} more`);
    rest.hidden = listed < own.length || group.count <= own.length;
  };
  setText(rest, own.length ? `… and ${formatCount(group.count - own.length)} more of this kind.` : group.message);
  list_more(LISTED);
  if (!own.length) rest.hidden = false;
  box.append(list, more, rest);
  if (oneHint && group.hint) box.append(create("p", { class: "kind-hint" }, sentence(group.hint)));
  return box;
}

function firstLines({ count: number, first_lines }) {
  const lines = first_lines.slice(0, 4).map(formatCount).join(", ");
  return `${first_lines.length === 1 ? "line" : "lines"} ${lines}${number > Math.min(4, first_lines.length) ? ", …" : ""}`;
}

function drawProblem({ line, column, message, hint, near, before, after, repair, source }, group, several, oneHint) {
  const place = group.about_file ? "" : column ? `Line ${formatCount(line)}, column ${formatCount(column)}` : `Line ${formatCount(line)}`;
  const where = [several || (group.about_file && source) ? source : "", place].filter(Boolean).join(", ");
  const mends = repair && after;
  return create("li", {},
    where ? create("strong", {}, where) : null,
    create("span", {}, sentence(message)),
    !oneHint && hint ? create("span", { class: "kind-hint" }, sentence(hint)) : null,
    near && !mends ? create("code", {}, near) : null,
    mends ? create("div", { class: "change" }, labelled("as it is", "code", before), labelled("mended", "code", after)) : null);
}

const labelled = (label, tag, text) => create("p", { class: tag === "code" && label === "mended" ? "after" : "before" },
  create("span", {}, label), create(tag, {}, text));
const sentence = (text) => {
  const whole = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text; // names stay as they are
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
};
