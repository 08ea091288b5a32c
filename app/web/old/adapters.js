// The shelf of adapters: use, rename, delete with undo, download, add from files.

import { byId, create, formatBytes, formatDate, icon, setText } from "./dom.js";
import { dropZone } from "./files.js";
import { isRunning, state, subscribe } from "./store.js";

let actions;
let renaming = null; // id of the adapter whose name is being written

/** actions: use(id), rename(id, name), remove(id), download(id), show(adapter), add(files). */
export function setUpAdapters(given) {
  actions = given;
  dropZone(byId("adapters"), byId("adapter-input"), actions.add);
  subscribe(draw);
}

function draw({ adapters, applied, wantedAdapter, worker }) {
  const list = byId("adapter-list"), empty = byId("adapter-empty");
  list.dataset.state = adapters ? "ready" : "loading";
  empty.hidden = Boolean(adapters?.length);
  setText(empty, adapters ? "None yet. What you train here is kept in this browser and listed here. An adapter "
    + "of PEFT, mlx-lm or llama.cpp (its files, the folder, a zip or a GGUF) can be dropped in too." : worker.phase === "fatal" ? "" : "Looking…");
  byId("adapter-input").disabled = isRunning();
  if (renaming && adapters?.some(({ id }) => id === renaming)) return; // do not pull the field from under the typing
  renaming = null;
  const focused = document.activeElement?.closest?.("#adapter-list [data-action]");
  const place = focused && [focused.closest("li").dataset.id, focused.dataset.action];
  list.replaceChildren(...(adapters ?? []).map((adapter) => drawAdapter(adapter, wantedAdapter === adapter.id, applied?.id === adapter.id)));
  if (place) list.querySelector(`li[data-id="${place[0]}"] [data-action="${place[1]}"]`)?.focus();
}

function drawAdapter(adapter, wanted, inUse) {
  const { id, name, fits } = adapter;
  const unusable = fits === false;
  const use = create("button", {
    type: "button", class: "adapter-use", "data-action": "use", "aria-pressed": String(wanted), disabled: unusable || isRunning(),
    title: unusable ? `Made for another model: ${adapter.base_model}` : null, onclick: () => actions.use(id),
  }, create("span", { class: "radio", "aria-hidden": "true" }), create("span", { class: "adapter-name" }, name),
  inUse ? create("span", { class: "tag" }, "in use") : wanted ? create("span", { class: "tag off" }, "waits for the chat") : unusable ? create("span", { class: "tag off" }, "other model") : null);
  const tool = (action, label, picture, run) => create("button", {
    type: "button", class: "quiet icon-only", "data-action": action, "aria-label": `${label} ${name}`, title: label, onclick: run,
  }, icon(picture));
  const item = create("li", { "data-id": id, "data-testid": "adapter-item", "data-used": String(wanted) }, use,
    create("p", { class: "adapter-about" }, about(adapter)),
    create("div", { class: "adapter-tools" },
      adapter.loss_curve.length || adapter.sample_answers.length ? create("button", {
        type: "button", class: "quiet small", "data-action": "show", onclick: () => actions.show(adapter),
      }, "Show its run") : null,
      tool("rename", "Rename", "pen", () => rename(item, adapter)),
      tool("download", "Download", "download", () => actions.download(id)),
      tool("delete", "Delete", "bin", () => actions.remove(id))));
  return item;
}

function about(adapter) {
  const parts = [formatDate(adapter.created_at)];
  if (adapter.imported) parts.push("added from a file");
  else parts.push(`${adapter.dataset}, ${adapter.rows} rows`, `${adapter.steps} steps`);
  if (adapter.final_loss != null) parts.push(`loss ${adapter.final_loss.toFixed(2)}`);
  if (adapter.chat_format) parts.push(`chat format: ${adapter.chat_format}`);
  parts.push(`rank ${adapter.rank}`, formatBytes(adapter.size_bytes));
  return parts.filter(Boolean).join(" · ");
}

function rename(item, { id, name }) {
  renaming = id;
  const input = create("input", { type: "text", value: name, maxlength: 80, "aria-label": `New name for ${name}`, "data-testid": "adapter-rename" });
  let over = false;
  const finish = (keep) => {
    if (over) return;
    over = true;
    renaming = null;
    const chosen = input.value.trim();
    if (keep && chosen && chosen !== name) actions.rename(id, chosen);
    draw(state);
    byId("adapter-list").querySelector(`li[data-id="${id}"] [data-action=rename]`)?.focus();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault(); // the focus goes to a button, which the same key press would push
    finish(event.key === "Enter");
  });
  input.addEventListener("blur", () => finish(true));
  item.querySelector(".adapter-use").replaceWith(input);
  input.focus();
  input.select();
}
