// What came of a run: the same questions answered without the adapter and with it, one after the other by the chat worker.

import { signal } from "@preact/signals";
import { scrollTo } from "../dom";
import { chat, train } from "../link/workers";
import type { AdapterInfo, ChatMessage, SampleAnswer } from "../protocol";
import type { Area } from "../store/bus";
import { applied, chatModel, comparing, others, replying } from "../store/chat";
import { gpu } from "../store/page";
import { showProblem } from "../store/problems";
import { chosenFormat } from "../store/settings";
import { curveOf, isRunning, lastStep } from "../store/train";
import { trainText } from "../text";
import { showCurve } from "./curve";

/** A question of the card. `messages` are what is asked; a stored answer has none. */
export interface Answer extends SampleAnswer {
  readonly messages?: readonly ChatMessage[];
  readonly isDone: boolean;
  readonly hasFailed: boolean; // it is asked again only when the person chooses it
}
export interface Card {
  readonly adapter: AdapterInfo;
  readonly note: string;
  readonly answers: readonly Answer[];
  readonly shown: number;
  readonly isFollowed: boolean; // show the question that is being answered, until the person chooses another
  readonly writing: { readonly index: number; readonly side: "base" | "tuned" } | null;
}

export const card = signal<Card | null>(null);
let asked: { id: string; index: number } | null = null; // the question that was handed over last

/** Show an adapter's card. */
function show(adapter: AdapterInfo, note: string, answers: readonly Answer[]): void {
  card.value = { adapter, note, answers, shown: 0, isFollowed: true, writing: null };
  showProblem("compare-problem", null);
  askNext();
}

/** Show the run that an adapter came from: its curve, its answers. */
export function showRun(adapter: AdapterInfo): void {
  if (isRunning.peek()) return;
  // The curve, its numbers and whose they are: all of one run.
  showCurve(adapter.loss_curve, adapter.validation_curve, adapter.steps);
  lastStep.value = { step: adapter.steps, total_steps: adapter.steps, loss: adapter.loss_curve.at(-1)?.[1] ?? adapter.final_loss };
  curveOf.value = { id: adapter.id, name: adapter.name };
  show(adapter, adapter.name, adapter.sample_answers.map((one) => ({ ...one, isDone: true, hasFailed: false })));
  scrollTo("train");
}

export function download(): void {
  const id = card.peek()?.adapter.id;
  if (id) train.send("export_adapter", { id });
}

const change = (changes: Partial<Card>): void => {
  const now = card.peek();
  if (now) card.value = { ...now, ...changes };
};

const changeAnswer = (index: number, changes: Partial<Answer>): void => {
  const now = card.peek();
  if (now) change({ answers: now.answers.map((one, other) => (other === index ? { ...one, ...changes } : one)) });
};

/** The person chooses a question. */
export function choose(index: number): void {
  change({ shown: index, isFollowed: false });
  changeAnswer(index, { hasFailed: false });
  askNext();
}

/** Have the next open question answered: the one shown, or on a real GPU any. It waits for the adapter to be in use. */
export function askNext(): void {
  const now = card.peek();
  if (!now || comparing.peek() || applied.peek()?.id !== now.adapter.id || others.peek().length || replying.peek() !== null || isRunning.peek()) return;
  if (!["ready", "released"].includes(chatModel.peek())) return;
  const isOpen = (one: Answer | undefined): boolean => Boolean(one && !one.isDone && !one.hasFailed && one.messages);
  let index = now.shown;
  if (!isOpen(now.answers[index]) && !gpu.peek().is_software) index = now.answers.findIndex(isOpen);
  const answer = now.answers[index];
  if (!answer?.messages || !isOpen(answer)) return;
  const { prompt, messages, reference } = answer;
  comparing.value = true;
  asked = { id: now.adapter.id, index };
  changeAnswer(index, { base: "", tuned: "" });
  chat.send("compare", { adapter_id: now.adapter.id, index, probe: { prompt, messages, reference }, chat_format: chosenFormat() });
}

export const resultArea: Area = {
  train: {
    training_done: ({ adapter, probes, stopped }) => {
      const answers = probes.map((probe) => ({ ...probe, base: "", tuned: "", isDone: false, hasFailed: false }));
      show(adapter, stopped ? trainText.stoppedEarly(adapter.name) : adapter.name, answers);
    },
    adapter_list: ({ adapters }) => {
      const own = adapters.find(({ id }) => id === card.peek()?.adapter.id);
      if (own && own.name !== card.peek()?.adapter.name) change({ adapter: own, note: own.name });
    },
    adapter_deleted: ({ id }) => {
      if (card.peek()?.adapter.id === id) card.value = null;
    },
  },
  chat: {
    compare_piece: ({ adapter_id, index, side, text, done }) => {
      const now = card.peek();
      const answer = now?.answers[index];
      if (!now || !answer || now.adapter.id !== adapter_id) return;
      changeAnswer(index, { [side]: answer[side] + text });
      change({ writing: done ? null : { index, side }, shown: now.isFollowed ? index : now.shown });
    },
    compare_done: ({ adapter_id, index, answer }) => {
      comparing.value = false;
      if (card.peek()?.adapter.id !== adapter_id) return;
      change({ writing: null });
      if (answer) changeAnswer(index, { ...answer, isDone: true });
      const now = card.peek()!;
      const complete = now.answers.filter(({ isDone }) => isDone);
      if (now.isFollowed && complete.length === now.answers.length) change({ shown: 0 });
      const answers = complete.map(({ prompt, base, tuned, reference }) => ({ prompt, base, tuned, reference }));
      if (answer) train.send("save_sample_answers", { id: adapter_id, answers });
    },
    failed: (event) => {
      if (event.where !== "compare") return;
      const isOwn = event.subject === card.peek()?.adapter.id && event.subject === asked?.id;
      if (asked && isOwn) changeAnswer(asked.index, { hasFailed: true });
      showProblem("compare-problem", event);
    },
  },
  own: {
    run_begins: () => {
      card.value = null;
    },
  },
};
