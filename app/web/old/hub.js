// Models of the Hugging Face hub: what a repository holds, what a run of one would take, and its download.
//
// The worker asks the hub, and only when it is told to from here.

import { byId, create, formatBytes, formatTime, setText } from "./dom.js";
import { takeModel } from "./model_dialog.js";
import { toast } from "./problems.js";
import { isRunning } from "./store.js";

let train, actions;
let listed = null; // HubListed
let chosen = null; // id of the model that is looked into
let problem = null; // {id, message} of that model
const checks = new Map(); // id -> HubChecked
let fetching = null; // FetchProgress, {id} before the first

/**
 * actions: settings() returns those of the form, null where they cannot be used; persist() asks for storage that stays.
 * A site without the hub has no field, and may still keep models.
 */
export function setUpHub(link, given) {
  [train, actions] = [link, given];
  train.on("ready", beginAnew);
  train.on("fetch_progress", (event) => showFetching(event));
  train.on("fetch_ended", ended);
  train.on("kept_models", ({ models }) => {
    if (!listed) return;
    const whole = new Set(models.filter((one) => one.whole).map(({ id }) => id));
    listed = { ...listed, models: listed.models.map((one) => ({ ...one, kept: whole.has(one.id) })) };
    draw();
  });
  if (!byId("hub-form")) return;
  byId("model-change").addEventListener("click", () => {
    if (!checks.has(chosen) || checks.get(chosen).verdict === "refused" || fetching) return;
    check(chosen); // the settings may be others now; the hub is not asked again for that
    draw();
  });
  byId("hub-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look(byId("hub-name").value);
  });
  byId("hub-starters").addEventListener("click", (event) => {
    const button = event.target.closest("[data-hub-name]");
    if (button) look((byId("hub-name").value = button.dataset.hubName));
  });
  train.on("hub_listed", (event) => {
    listed = event;
    checks.clear();
    waitForHub(false);
    byId("hub-starters").open = false;
    choose(event.chosen || null);
    byId("hub-listing").scrollIntoView({ block: "nearest" });
  });
  train.on("hub_checked", (event) => {
    checks.set(event.id, event);
    draw();
  });
}

/** After another start of the worker nothing is fetched any more, and it knows of nothing that was listed. */
function beginAnew() {
  listed = chosen = problem = null;
  showFetching(null);
  if (byId("hub-form")) waitForHub(false);
  draw();
}

function look(name) {
  if (!name.trim()) return byId("hub-name").focus();
  showHubProblem("");
  listed = chosen = problem = null;
  draw();
  waitForHub(true);
  train.send("look_at_repository", { name });
}

function waitForHub(waits) {
  byId("hub-look").disabled = waits;
  setText(byId("hub-look"), waits ? "Looking…" : "Look");
}

function showHubProblem(message) {
  setText(byId("hub-problem"), message);
  byId("hub-name").setAttribute("aria-invalid", String(message !== ""));
  byId("hub-form").classList.toggle("wrong", message !== "");
}

/** Something at the hub has failed: it is told beside the model that it is about, else at the field. */
export function hubFails({ subject, message }) {
  if (fetching?.id === subject) showFetching(null);
  if (!byId("model-dialog").open) toast(message, null, 20000);
  if (subject && listed?.models.some(({ id }) => id === subject)) {
    [chosen, problem] = [subject, { id: subject, message }];
    return draw();
  }
  if (subject && !byId("kept-section").hidden) return setText(byId("kept-problem"), message);
  if (!byId("hub-form")) return toast(message);
  waitForHub(false);
  showHubProblem(message);
}

function choose(id) {
  [chosen, problem] = [id, null];
  if (id && !listed.models.find((one) => one.id === id).refused && checks.get(id)?.verdict !== "refused") check(id);
  draw();
}

function check(id) {
  checks.delete(id);
  train.send("check_hub_model", { id, settings: actions.settings() });
}

function fetchModel(id) {
  problem = null;
  actions.persist();
  showFetching({ id });
  train.send("fetch_hub_model", { id });
}

function showFetching(event) {
  const before = fetching;
  fetching = event;
  const part = event?.total_bytes ? event.done_bytes / event.total_bytes : null;
  setText(byId("model-change"), part == null ? "Use another model" : `Use another model · ${Math.floor(100 * part)} %`);
  if (before?.id !== event?.id) return draw();
  const box = document.querySelector("#hub-fetch");
  if (box) fillFetching(box);
  else draw();
}

function ended({ id, title, whole }) {
  showFetching(null);
  if (!whole) return;
  if (isRunning()) return toast(`${title} is here. It can be opened when the run is over.`);
  if (byId("model-dialog").open) takeModel({ kept: id });
  else toast(`${title} is here.`, { label: "Open it", run: () => takeModel({ kept: id }) }, 20000);
}

// ---------------------------------------------------------------------------------------------------------- drawing

function draw() {
  if (byId("hub-listing")) drawListing();
  const other = fetching && !document.querySelector("#hub-models #hub-fetch");
  document.querySelector("#kept-section #hub-fetch")?.remove();
  if (other) byId("kept-section").append(drawFetching()); // it was gone on with, or another repository is looked at
}

function drawListing() {
  byId("hub-listing").hidden = !listed;
  if (!listed) return byId("hub-models").replaceChildren();
  setText(byId("hub-repository"), listed.repository);
  setText(byId("hub-about"), [listed.licence, `commit ${listed.revision.slice(0, 7)}`].filter(Boolean).join(" · "));
  byId("hub-note").hidden = !listed.note;
  setText(byId("hub-note"), listed.note);
  const focused = document.activeElement?.closest?.("#hub-models li")?.dataset.id;
  byId("hub-models").replaceChildren(...listed.models.map(drawModel));
  if (focused) [...byId("hub-models").children].find((item) => item.dataset.id === focused)?.querySelector(".model-pick")?.focus();
}

function drawModel(model) {
  const { id, title, form, size_bytes, kept } = model;
  const about = [formatBytes(size_bytes), form, kept ? "kept in this browser" : ""].filter(Boolean).join(" · ");
  const refused = model.refused || (checks.get(id)?.verdict === "refused" ? checks.get(id).words : "");
  const words = [create("span", { class: "model-title" }, title), create("span", { class: "model-about" }, about)];
  const item = create("li", { "data-testid": "hub-model", "data-id": id, "data-refused": String(refused !== "") });
  if (refused) item.append(create("div", { class: "model-row refused" }, create("div", { class: "model-words" }, ...words,
    create("span", { class: "model-refused" }, refused))));
  else {
    const open = chosen === id;
    item.dataset.chosen = String(open);
    item.append(create("button", {
      type: "button", class: "model-pick", "aria-expanded": String(open), onclick: () => choose(open ? null : id),
    }, ...words));
    if (open) item.append(drawChosen(model));
  }
  return item;
}

/** What is known of the chosen model, and what can be done with it. */
function drawChosen({ id, size_bytes, kept }) {
  const box = create("div", { class: "model-detail" });
  const known = checks.get(id);
  if (known) {
    box.append(create("p", { class: "model-verdict", "data-verdict": known.verdict, "data-testid": "hub-verdict" },
      create("span", { class: "lamp", "aria-hidden": "true" }), create("span", {}, known.words)),
    create("p", { class: "hint" }, known.about));
  } else if (!problem) box.append(create("p", { class: "hint", role: "status" }, "Reading its header, to see whether a run fits this GPU…"));
  if (problem?.id === id) box.append(create("p", { class: "field-error", "data-testid": "hub-model-problem", role: "alert" }, problem.message));
  if (fetching?.id === id) box.append(drawFetching());
  else {
    const act = (label, kind, attributes) => create("button", { type: "button", class: `${kind} small`, ...attributes }, label);
    const buttons = create("div", { class: "problem-buttons" });
    if (kept) buttons.append(act("Open", "primary", { "data-testid": "hub-open", onclick: () => takeModel({ kept: id }) }));
    else if (known) {
      const fits = known.verdict !== "too large";
      buttons.append(act(fits ? `Download ${formatBytes(size_bytes)}` : "Download it all the same", fits ? "primary" : "secondary", {
        "data-testid": "hub-fetch", disabled: fetching != null, title: fetching ? "One at a time" : null, onclick: () => fetchModel(id),
      }));
    }
    if (problem?.id === id && !known) buttons.append(act("Try again", "secondary", { onclick: () => choose(id) }));
    box.append(buttons);
  }
  return box;
}

function drawFetching() {
  const box = create("div", { class: "fetching", id: "hub-fetch", "data-testid": "hub-progress" },
    create("progress", { max: "1", "aria-label": "Download" }),
    create("div", { class: "fetching-row" }, create("span", { class: "hint" }),
      create("button", { type: "button", class: "secondary small", "data-testid": "hub-stop", onclick: () => train.send("stop_fetching") }, "Stop")));
  fillFetching(box);
  return box;
}

function fillFetching(box) {
  const { done_bytes, total_bytes, rate_bytes_per_s, left_ms, waits } = fetching;
  const bar = box.querySelector("progress");
  if (total_bytes) bar.value = done_bytes / total_bytes;
  const words = !total_bytes ? "Asking for it…" : [
    `${formatBytes(done_bytes)} of ${formatBytes(total_bytes)}`,
    waits ? "the connection broke off, trying again" : rate_bytes_per_s ? `${formatBytes(rate_bytes_per_s)}/s` : "",
    !waits && left_ms > 1500 ? `${formatTime(left_ms)} left` : "",
  ].filter(Boolean).join(", ");
  setText(box.querySelector(".hint"), words);
}
