// What the adapter has changed about a reply: asked of the chat worker, told part by part, shown under the reply.

import { batch } from "@preact/signals";
import { chat } from "../../link/workers";
import type { Area } from "../../store/bus";
import { replying, shownWording, turns, writer, type Turn } from "../../store/chat";
import { looked, type Looked } from "../../store/comparing";
import { partsOf, whenHere } from "../mix/files";

let newest = 0; // request

/** Look at the reply of a turn; where it is looked at, close it. */
export function look(turn: Turn): void {
  const isOpen = looked.peek()?.key === turn.key && looked.peek()?.wording === turn.chosen;
  close();
  if (isOpen) return;
  const wording = shownWording(turn);
  const by = wording.adapters.length ? wording.adapters : writer.peek(); // of the base model's: what the adapter would have said
  if (!by.length) return;
  newest += 1;
  const request = newest;
  looked.value = { key: turn.key, wording: turn.chosen, request, by, tokens: [], total: 0, state: "coming" };
  whenHere(by.map(({ id }) => id), () => {
    if (looked.peek()?.request === request) ask(request, turn, by);
  }, () => change(request, { state: "ended" }));
}

function ask(request: number, turn: Turn, by: Looked["by"]): void {
  const all = turns.peek();
  const before = all.slice(0, all.findIndex(({ key }) => key === turn.key));
  const { content, tokenIds, asked } = shownWording(turn);
  const messages = before.map((one) => ({ role: one.role, content: shownWording(one).content }));
  const { parts, transfer } = partsOf(by);
  chat.send("show_changes", {
    request,
    messages: asked?.system ? [{ role: "system", content: asked.system }, ...messages] : messages,
    token_ids: tokenIds ?? [],
    text: content,
    adapters: parts,
    max_new_tokens: asked?.maxNewTokens ?? 0,
    ...(asked && { chat_format: asked.chatFormat }),
  }, transfer);
}

function change(request: number, changes: Partial<Looked>): void {
  const now = looked.peek();
  if (now?.request === request) looked.value = { ...now, ...changes };
}

/** Whatever waits for the chat worker need not wait for it. */
export function stopLooking(): void {
  if (looked.peek()?.state === "coming") chat.send("stop_reply");
}

function close(): void {
  if (replying.peek() === null) stopLooking();
  looked.value = null;
}

export const changesArea: Area = {
  chat: {
    changes_part: ({ request, tokens, total }) => {
      const now = looked.peek();
      if (now?.request === request) change(request, { tokens: [...now.tokens, ...tokens], total });
    },
    changes_ended: ({ request, is_whole }) => change(request, { state: is_whole ? "whole" : "ended" }),
  },
  own: {
    replies_end: () => batch(() => {
      stopLooking();
      if (looked.peek()) change(looked.peek()!.request, looked.peek()!.state === "coming" ? { state: "ended" } : {});
    }),
    chat_gone: () => {
      if (looked.peek()?.state === "coming") change(looked.peek()!.request, { state: "ended" });
    },
  },
};
