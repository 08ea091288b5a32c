// The conversation: what is asked, answered, asked again and taken away. Python writes the replies.

import { batch, signal } from "@preact/signals";
import { chat } from "../link/workers";
import type { ReplyDone } from "../protocol";
import { tell, type Area } from "../store/bus";
import {
  canSend, cleared, comparing, cut, draft, probesOf, readSampling, replying, shownWording, system, turns, writer, writing, wrongFields, type Turn,
  type Wording,
} from "../store/chat";
import { model } from "../store/page";
import { showProblem, toast } from "../store/problems";
import { chosenFormat } from "../store/settings";
import { chatText, common } from "../text";
import { stopLooking } from "./changes/changes";
import { tellMix } from "./mix/mix";

/** How often something was asked: the log goes to its end then, and the settings open where they keep it from being sent. */
export const asked = signal(0);
export const refused = signal(0);

const UNDO_MS = 20000;
let newestKey = 0;
let newestTurn = 0; // what the worker calls a reply
let before: { turns: readonly Turn[]; cut: number; question: string } | null = null; // as it was when the reply was asked for
let heard = ""; // of the reply; shown once a frame

const turn = (role: Turn["role"], wordings: readonly Wording[]): Turn => ({ key: (newestKey += 1), role, wordings, chosen: wordings.length - 1 });
const said = (content: string): Turn => turn("user", [{ content, adapters: [] }]);

/** Show another conversation in this one's place. */
export function show(shown: readonly Omit<Turn, "key">[]): void {
  stop();
  abandon();
  batch(() => {
    showProblem("chat-problem", null);
    cleared.value = null;
    turns.value = shown.map((one) => ({ ...one, key: (newestKey += 1) }));
    cut.value = 0; // the worker says how much it no longer reads
    asked.value += 1;
  });
}

/** Ask what stands in the field, or another question. */
export function ask(raw: string = draft.peek()): void {
  const text = raw.trim();
  if (!text) return;
  const rest = raw === draft.peek() ? "" : draft.peek();
  send((answer) => [...turns.peek(), said(text), turn("assistant", [answer])], cut.peek(), { question: text, rest });
}

/** Have the last question answered again. The answers before stay to be looked at. */
export function askAgain(): void {
  const last = turns.peek().at(-1);
  if (last?.role !== "assistant") return;
  send((answer) => [...turns.peek().slice(0, -1), { ...last, wordings: [...last.wordings, answer], chosen: last.wordings.length }], cut.peek());
}

/** Send a message again with other words. What stands below it makes way, and can be brought back. */
export function edit(key: number, raw: string): void {
  const text = raw.trim();
  const now = turns.peek();
  const place = now.findIndex((one) => one.key === key);
  if (!text || place < 0) return;
  const earlier = { turns: now, cut: cut.peek() };
  const kept = now.slice(0, place);
  const from = cut.peek() > place ? 0 : cut.peek();
  const isSent = send((answer) => [...kept, said(text), turn("assistant", [answer])], from, { question: text });
  const later = now.length - place - 1;
  if (isSent && later > 0) toast(chatText.laterGone(later), { label: common.undo, run: () => putBack(earlier) }, UNDO_MS);
}

/** Have the conversation as it was. What it has become since can be had again in the same way. */
function putBack(earlier: { turns: readonly Turn[]; cut: number }): void {
  stop();
  abandon();
  const now = { turns: turns.peek(), cut: cut.peek() };
  batch(() => {
    turns.value = earlier.turns;
    cut.value = earlier.cut;
  });
  toast(chatText.asBefore, { label: common.undo, run: () => putBack(now) }, UNDO_MS);
}

/**
 * Ask for an answer: `build` puts it where it belongs. Returns whether that was possible.
 *
 * `question` is what a person has written for it, `rest` what stands in the field afterwards.
 */
function send(
  build: (answer: Wording) => readonly Turn[], from: number, { question = "", rest = draft.peek() }: { question?: string; rest?: string } = {},
): boolean {
  if (!canSend.peek()) return false;
  const sampling = readSampling();
  if (!sampling) {
    refused.value += 1;
    showProblem("chat-problem", { message: chatText.badSettings(wrongFields.peek().map(({ label }) => label).join(", ")) });
    return false;
  }
  if (comparing.peek()) chat.send("stop_reply"); // the card's question is asked again afterwards
  stopLooking();
  const given = system.peek().trim();
  const chat_format = chosenFormat();
  const by = writer.peek();
  const next = build({
    content: "", adapters: by, model: model.peek()?.title, seed: sampling.seed, isWriting: true,
    asked: { system: given, maxNewTokens: sampling.max_new_tokens ?? 0, chatFormat: chat_format },
  });
  before = { turns: turns.peek(), cut: cut.peek(), question };
  newestTurn += 1;
  batch(() => {
    showProblem("chat-problem", null);
    cleared.value = null;
    turns.value = next;
    cut.value = from;
    draft.value = rest;
    writing.value = heard = "";
    replying.value = newestTurn;
    asked.value += 1;
  });
  const messages = next.slice(from, -1).map((one) => ({ role: one.role, content: shownWording(one).content }));
  tellMix();
  chat.send("reply", {
    turn: newestTurn,
    messages: given ? [{ role: "system", content: given }, ...messages] : messages,
    sampling,
    use_adapter: by.length > 0,
    strength: by.length === 1 ? by[0]!.strength : 1, // of several each one's is told with them
    chat_format,
  });
  return true;
}

/** End the reply. What is written of it stays. */
export function stop(): void {
  if (replying.peek() !== null) chat.send("stop_reply");
}

/** Show another answer to the same question; what follows reads that one. */
export function choose(key: number, chosen: number): void {
  turns.value = turns.peek().map((one) => (one.key === key ? { ...one, chosen } : one));
}

/** Take the conversation away. It is kept as a Blob, which takes none of the page's heap, until something else is asked. */
export function clear(): void {
  if (replying.peek() !== null) return;
  batch(() => {
    cleared.value = { count: turns.peek().length, cut: cut.peek(), packed: new Blob([JSON.stringify(turns.peek())]) };
    turns.value = [];
    cut.value = 0;
    showProblem("chat-problem", null);
  });
}

export async function bringBack(): Promise<void> {
  const gone = cleared.peek();
  if (!gone) return;
  const unpacked = JSON.parse(await gone.packed.text()) as Turn[];
  if (cleared.peek() !== gone) return; // something was asked meanwhile
  batch(() => {
    cleared.value = null;
    turns.value = unpacked;
    cut.value = gone.cut;
  });
}

/** The last turn is written: put its wording in place. */
function finish(changes: Partial<Wording>): void {
  const last = turns.peek().at(-1);
  if (!last) return;
  const wordings = last.wordings.map((one) => (one.isWriting ? { ...one, isWriting: undefined, ...changes } : one));
  turns.value = [...turns.peek().slice(0, -1), { ...last, wordings }];
  replying.value = null;
  writing.value = heard = "";
  before = null;
}

function done({ text, token_ids, adapters, dropped_messages, new_tokens, tokens_per_s, finish_reason }: ReplyDone): void {
  finish({ content: text.trim(), tokenIds: token_ids, ...(adapters?.length > 1 && { adapters }), end: { new_tokens, tokens_per_s, finish_reason } });
  cut.value += dropped_messages;
}

/** Nothing more comes of the reply: what there is of it stays. */
function abandon(): void {
  if (replying.peek() !== null) finish({ content: heard });
}

/** A reply failed: the conversation is as it was before it was asked for, and what was written for it stands in the field. */
function takeBack(): void {
  if (replying.peek() === null || !before) return;
  turns.value = before.turns;
  cut.value = before.cut;
  if (!draft.peek()) draft.value = before.question;
  replying.value = null;
  writing.value = heard = "";
  before = null;
}

/** What draws markdown, once it is here; until then a reply is plain text. */
export const markup = signal<typeof import("./markup") | null>(null);

/** Fetched when there is a model that could write: the page's first sight does not wait for it. */
async function loadMarkup(): Promise<void> {
  try {
    markup.value ??= await import("./markup");
  } catch {} // it could not be fetched: replies stay plain text, until another model comes
}

let frame = 0;
const nextFrame = globalThis.requestAnimationFrame ?? ((show: () => void) => setTimeout(show));

export const conversationArea: Area = {
  train: {
    training_done: ({ adapter, probes }) => {
      probesOf.value = { adapterId: adapter.id, questions: probes.map(({ prompt }) => prompt) };
    },
  },
  chat: {
    reply_piece: (event) => {
      if (event.turn !== replying.peek()) return;
      heard += event.text;
      frame ||= Number(nextFrame(() => {
        frame = 0;
        writing.value = heard;
      }));
    },
    reply_done: (event) => {
      if (event.turn === replying.peek()) done(event);
    },
    failed: (event) => {
      if (event.where !== "chat") return;
      takeBack();
      showProblem("chat-problem", event);
    },
  },
  own: {
    model_came: ({ first }) => {
      void loadMarkup();
      if (!first) tell("replies_end", {});
    },
    replies_end: () => {
      if (replying.peek() !== null || comparing.peek()) chat.send("stop_reply");
      abandon();
    },
    chat_gone: abandon,
  },
};
