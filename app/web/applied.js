// Which adapter the chat answers with. The train worker keeps its files and sends them, the chat worker applies them.
//
// `state.wantedAdapter` is the one that shall be in use, `state.applied` the one that is: what the chat worker is told
// counts from then on, as it does one thing after another.

import { state, update } from "./store.js";

let train; // the links to the two workers
let chat = null; // null while no model was sent to it: it would forget an adapter that came before its model

/** `link` is the train worker's. */
export function setUpApplied(link) {
  train = link;
  train.on("adapter_files", ({ id, name, files }) => {
    if (id !== state.wantedAdapter || !chat) return;
    chat.send("apply_adapter", { id, name, files }, Object.values(files).map((bytes) => bytes.buffer));
    update({ applied: { id, name } });
  });
  train.on("adapter_list", ({ adapters }) => {
    const own = state.applied && adapters.find(({ id }) => id === state.applied.id);
    if (own && own.name !== state.applied.name) update({ applied: { ...state.applied, name: own.name } });
  });
  train.on("adapter_deleted", ({ id }) => state.wantedAdapter === id && removeAdapter());
  train.on("failed", ({ where, subject }) => {
    if (where === "adapter" && subject === state.wantedAdapter && !state.applied) removeAdapter(); // its files are gone
  });
}

/** Use an adapter, as soon as the chat has its model; the one that is in use is taken off instead. */
export function useAdapter(id) {
  if (state.wantedAdapter === id) return removeAdapter();
  if (state.gpu.state === "none") return; // there will be no chat
  update({ wantedAdapter: id });
  train.send("get_adapter", { id });
}

export function removeAdapter() {
  if (state.applied) chat?.send("remove_adapter");
  update({ wantedAdapter: null, applied: null });
}

/** A model was just sent to the chat worker, which has no adapter now: give it the one that shall be in use. */
export function applyToModel(link) {
  chat = link;
  update({ applied: null });
  if (state.wantedAdapter) train.send("get_adapter", { id: state.wantedAdapter });
}

/** The chat worker begins anew, gets another model or cannot go on: until `applyToModel` it takes no adapter. */
export function awaitModel() {
  chat = null;
  update({ applied: null });
}

/** The chat's model is on the GPU. Nothing to do, but where the chat had failed and went on after all. */
export function modelIsReady(link) {
  if (!chat) applyToModel(link);
}
