// A run as it is watched: its answers, its validations, its memory and its time, what came of it and which adapter is kept.

import { useAdapter } from "../chat/applied";
import { train } from "../link/workers";
import type { Area } from "../store/bus";
import { wantedAdapter } from "../store/chat";
import { phase } from "../store/train";
import {
  begunAt, editing, endsAt, forgetRun, left, memoryInUse, ownPrompts, prompts, takeAnswer, takeValidation, tookMs, validations, verdict,
} from "../store/watch";
import { tellEnd } from "./notice";

/** Ask these while the model learns; none: rows held back are chosen again. */
export function setPrompts(texts: readonly string[]): void {
  ownPrompts.value = texts.map((text) => text.trim()).filter((text) => text !== "");
  editing.value = false;
  train.send("set_sample_prompts", { prompts: ownPrompts.peek() });
}

/** Have the chat answer with the best or the last adapter of the run. */
export function useKept(id: string): void {
  if (wantedAdapter.peek() !== id) useAdapter(id);
}

function end(): void {
  const begun = begunAt.peek();
  if (tookMs.peek() === null && begun !== null) tookMs.value = Date.now() - begun;
  endsAt.value = null;
}

export const watchArea: Area = {
  train: {
    ready: () => {
      if (ownPrompts.peek().length) train.send("set_sample_prompts", { prompts: ownPrompts.peek() });
    },
    training_state: ({ state }) => {
      if (state === "training" && (begunAt.peek() === null || tookMs.peek() !== null)) {
        begunAt.value = Date.now();
        tookMs.value = null;
      }
      if (state === "idle" || state === "done" || state === "error") end(); // idle: it pauses
      if (state === "done" || state === "error") tellEnd(state);
    },
    training_step: ({ left_ms }) => {
      endsAt.value = Date.now() + left_ms;
    },
    sample_prompts: (event) => {
      prompts.value = { all: event.prompts, chosen: event.chosen };
    },
    sample_answered: takeAnswer,
    validation_loss: takeValidation,
    memory_in_use: (event) => {
      memoryInUse.value = event;
    },
    training_resumed: ({ validation_curve, accuracy_curve }) => {
      const accuracies = new Map(accuracy_curve);
      validations.value = validation_curve.map(([step, loss]) => (
        { step, loss, perplexity: Math.exp(loss), accuracy: accuracies.get(step) ?? null }));
    },
    training_verdict: (event) => {
      verdict.value = event.verdict;
    },
    training_done: ({ adapter, other, kept, kept_step, best_step, stopped_early, verdict: found, sample_share }) => {
      left.value = { adapter, other, kept, kept_step, best_step, stopped_early, sample_share };
      verdict.value = found;
    },
    failed: ({ where }) => {
      if (where === "training") end();
    },
  },
  own: {
    run_begins: forgetRun,
    train_gone: () => {
      if (phase.peek() !== "idle") end();
    },
    train_anew: () => {
      prompts.value = null;
      memoryInUse.value = null;
    },
  },
};
