// The dialog for another model: the built-in one, those that are kept, files of one's own. The hub's part is in hub.js.

import { byId, create, formatBytes, icon, setText } from "./dom.js";
import { dropZone } from "./files.js";
import { isRunning, subscribe } from "./store.js";

let train, openModel;

/** `offerModel(files)` looks at files, `open({kept})` opens a kept model, `openSiteModel()` the page's first one. */
export function setUpModelDialog(link, { offerModel, open, openSiteModel }) {
  [train, openModel] = [link, open];
  const dialog = byId("model-dialog");
  byId("model-change").addEventListener("click", () => dialog.showModal());
  dropZone(byId("model-drop"), byId("model-input"), offerModel);
  byId("model-folder").addEventListener("change", (event) => {
    const input = event.target;
    offerModel([...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, blob: file })));
    input.value = "";
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // a click beside it
  });
  byId("model-built-in")?.addEventListener("click", () => {
    dialog.close();
    openSiteModel();
  });
  train.on("kept_models", drawKept);
  subscribe(({ model, modelProblem }) => {
    const box = byId("model-in-use");
    if (!box) return;
    box.hidden = !modelProblem && (!model || model.built_in);
    setText(byId("model-in-use-name"), model?.title ?? "none");
  });
}

/** Close the dialog and open a model. */
export function takeModel(choice) {
  byId("model-dialog").close();
  openModel(choice);
}

function drawKept({ models }) {
  byId("kept-section").hidden = !models.length;
  byId("kept-models").replaceChildren(...models.map(drawOne));
  setText(byId("kept-problem"), "");
}

function drawOne({ id, title, repository, licence, form, size_bytes, done_bytes, whole, in_use, coming }) {
  const size = whole || coming ? formatBytes(size_bytes) : `${formatBytes(done_bytes)} of ${formatBytes(size_bytes)} are here`;
  const button = (label, attributes) => create("button", { type: "button", class: "secondary small", ...attributes }, label);
  const tag = (text) => create("span", { class: "tag" }, text);
  const go = in_use ? tag("in use") : coming ? tag("coming")
    : whole ? button("Open", { "data-action": "open", onclick: () => takeModel({ kept: id }), disabled: isRunning() })
    : button("Continue", { "data-action": "continue", onclick: () => train.send("fetch_hub_model", { id }) });
  return create("li", { "data-testid": "kept-model", "data-id": id, "data-whole": String(whole) },
    create("div", { class: "model-row" },
      create("div", { class: "model-words" },
        create("span", { class: "model-title" }, title),
        create("span", { class: "model-about" }, [size, form, licence, repository].filter(Boolean).join(" · "))),
      go,
      create("button", {
        type: "button", class: "quiet icon-only", "data-action": "remove", "aria-label": `Remove ${title}`, disabled: in_use,
        title: in_use ? "In use: open another model first" : "Remove", onclick: () => train.send("remove_kept_model", { id }),
      }, icon("bin"))));
}
