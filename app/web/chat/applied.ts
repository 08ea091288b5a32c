// Which adapter the chat answers with. The train worker keeps its files and sends them, the chat worker applies them.
//
// `wantedAdapter` is the one that shall be in use, `applied` the one that is: what the chat worker is told counts from then
// on, as it does one thing after another.

import { chat, train } from "../link/workers";
import type { Area } from "../store/bus";
import { applied, isAdapterOn, others, wantedAdapter } from "../store/chat";
import { gpu } from "../store/page";
import { forgetHeld, noteHeld } from "./mix/files";

let hasModel = false; // the chat worker was sent a model: before that it would forget an adapter
let leftBehind: string | null = null; // what was in use with the model before
let returns: string | null = null; // what shall be in use with the model that is opened now

/** Use an adapter, as soon as the chat has its model; the one that is in use is taken off instead. */
export function useAdapter(id: string): void {
  if (wantedAdapter.peek() === id) return removeAdapter();
  if (gpu.peek().state === "none") return; // there will be no chat
  wantedAdapter.value = id;
  others.value = [];
  isAdapterOn.value = true;
  train.send("get_adapter", { id });
}

export function removeAdapter(): void {
  if (applied.peek() && hasModel) chat.send("remove_adapter");
  wantedAdapter.value = null;
  others.value = [];
  applied.value = null;
}

/** A model was just sent to the chat worker, which has no adapter now: give it the one that shall be in use. */
export function applyToModel(): void {
  hasModel = true;
  forgetHeld();
  applied.value = null;
  const id = wantedAdapter.peek();
  if (id) train.send("get_adapter", { id });
}

/** The chat begins anew, gets another model or cannot go on: until `applyToModel` it takes no adapter. */
export function awaitModel(): void {
  hasModel = false;
  forgetHeld();
  applied.value = null;
}

/** The model before is opened again, for the chat could not take this one: with the adapter that was in use then. */
export function takeAlong(): void {
  returns = leftBehind;
}

export const appliedArea: Area = {
  train: {
    adapter_files: ({ id, name, files }) => {
      if (id !== wantedAdapter.peek() || !hasModel) return;
      chat.send("apply_adapter", { id, name, files }, Object.values(files).map((bytes) => bytes.buffer as ArrayBuffer));
      noteHeld(id);
      applied.value = { id, name };
    },
    adapter_list: ({ adapters }) => {
      const now = applied.peek();
      const own = now && adapters.find(({ id }) => id === now.id);
      if (own && own.name !== now.name) applied.value = { ...now, name: own.name };
    },
    adapter_imported: ({ adapter }) => useAdapter(adapter.id),
    training_done: ({ adapter }) => useAdapter(adapter.id),
    adapter_deleted: ({ id }) => {
      if (wantedAdapter.peek() === id) removeAdapter();
    },
    failed: ({ where, subject }) => {
      if (where === "adapter" && subject === wantedAdapter.peek() && !applied.peek()) removeAdapter(); // its files are gone
    },
  },
  chat: {
    // Where the chat had failed and went on after all.
    model_ready: () => {
      if (!hasModel) applyToModel();
    },
    failed: ({ where, subject }) => {
      if (where === "adapter" && subject === applied.peek()?.id) removeAdapter(); // it could not be applied
    },
  },
  own: {
    model_came: ({ first }) => {
      if (!first) {
        leftBehind = wantedAdapter.peek();
        removeAdapter(); // what is in use is the last model's; with the first one an adapter may wait for it
        wantedAdapter.value = returns;
      }
      returns = null;
      awaitModel();
    },
    chat_gone: awaitModel,
  },
};
