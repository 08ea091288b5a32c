// The chat worker's model: when it is loaded, when its memory is lent to a run, what becomes of it when that fails.

import { chat } from "../link/workers";
import type { Failed } from "../protocol";
import { reached } from "../link/startup";
import { receive, tell, type Area } from "../store/bus";
import { chatBytes, chatModel, comparing } from "../store/chat";
import { gpu, hasGpu, model } from "../store/page";
import { showProblem, toast, type Shown } from "../store/problems";
import { checks } from "../store/settings";
import { isRunning } from "../store/train";
import { goBack, modelIsProven } from "../shell/opening";
import { chatDies } from "../shell/revive";
import { common } from "../text";
import { applyToModel, takeAlong } from "./applied";

let waits = false; // it got ready in the middle of a run and has not been given the model

/** Start the chat worker when there is a GPU, and a model: not before, as both workers would only slow each other. */
function canBegin(): void {
  if (!chat.begun && hasGpu.peek() && model.peek()) chat.begin(receive);
}

/** Give the chat worker the model that is open. */
function open(): void {
  const opened = model.peek();
  if (!chat.ready || !opened) return;
  waits = isRunning.peek() && checks.free_chat.peek();
  if (waits) {
    chatModel.value = "released"; // the run has the GPU's memory: after it
    return;
  }
  chatModel.value = "loading";
  chat.send("open_model", { files: opened.files, title: opened.title });
  applyToModel();
}

/** A run begins: lend it the memory, if the person wants that. */
function lend(): void {
  if (!checks.free_chat.peek() || !chat.begun) return;
  if (!["none", "failed"].includes(chatModel.peek())) chatModel.value = "released";
  chat.send("release_model");
}

/** A run is over. */
function takeBack(): void {
  if (chatModel.peek() !== "released") return;
  if (waits) return queueMicrotask(open); // when the others have heard that the run is over
  chatModel.value = "loading";
  chat.send("wake_model");
}

function fails(event: Shown): void {
  tell("chat_gone", {});
  chatModel.value = "failed";
  const run = (): void => {
    showProblem("chat-problem", null);
    chatModel.value = "loading";
    chat.restart();
  };
  showProblem("chat-problem", event, { label: common.tryAgain, run });
}

/** One cause, one box: where the train worker's GPU is lost too, it says so and offers what helps both. */
function gpuIsLost(event: Shown): void {
  fails(event);
  if (gpu.peek().state === "lost") showProblem("chat-problem", null);
}

/** The train worker has opened the same files: what fails here is about this worker's GPU. */
function modelFails(event: Failed): void {
  if (goBack(event)) takeAlong();
  else fails(event);
}

export const engineArea: Area = {
  train: {
    gpu: ({ state }) => {
      if (state === "found") canBegin();
      if (state === "lost") showProblem("chat-problem", null);
    },
    training_state: ({ state }) => {
      if (["idle", "done", "error"].includes(state)) takeBack();
    },
  },
  chat: {
    ready: open,
    fatal: (event) => chatDies({ ...event, type: "fatal" }, fails),
    died: (event) => chatDies({ ...event, type: "died" }, fails),
    gpu: (event) => {
      if (event.state === "lost") gpuIsLost(event);
      if (event.state !== "found" || !event.losses) return;
      toast(event.message);
      if (chatModel.peek() !== "released" || isRunning.peek()) return;
      chatModel.value = "loading";
      chat.send("wake_model");
    },
    model_ready: ({ memory_bytes }) => {
      chatModel.value = "ready";
      chatBytes.value = memory_bytes;
      modelIsProven();
      reached("chat_ready_ms");
    },
    model_released: () => {
      chatModel.value = "released";
    },
    failed: (event) => {
      if (event.where === "model") modelFails(event);
    },
  },
  own: {
    model_came: () => {
      chatModel.value = "none";
      canBegin();
      open();
    },
    run_begins: lend,
    chat_gone: () => {
      comparing.value = false;
    },
  },
};
