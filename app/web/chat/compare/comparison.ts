// A question that is answered twice, by whom the two sides say, with the same seed: asked, written piece by piece, stopped.

import { batch, signal } from "@preact/signals";
import { chat } from "../../link/workers";
import type { Area } from "../../store/bus";
import {
  adapters, canSend, comparing, draft, readSampling, replying, system, writer, wrongFields, type AdapterUse,
} from "../../store/chat";
import {
  chosenSides, comparisons, isComparing, sides, TOGETHER, type Comparison, type ComparedSide, type Side, type SideName,
} from "../../store/comparing";
import { showProblem } from "../../store/problems";
import { chosenFormat } from "../../store/settings";
import { chatText, compareText } from "../../text";
import { stopLooking } from "../changes/changes";
import { refused, stop } from "../conversation";
import { partsOf, whenHere } from "../mix/files";

/** How often something was asked: the view goes to it then. */
export const askedTwice = signal(0);

const MOST = 50; // comparisons that are kept on the page
let unsent: number | null = null; // it waits for adapters' files
let newest = 0; // what the worker calls it, below 0: those above are replies

export function chooseSide(name: SideName, changes: Partial<Side>): void {
  chosenSides.value = { ...chosenSides.peek(), [name]: { ...sides.peek()[name], ...changes } };
}

/** Who writes a side, by name. */
export function usesOf({ who, strength }: Side): readonly AdapterUse[] {
  if (who === TOGETHER) return writer.peek();
  const one = adapters.peek()?.find(({ id }) => id === who);
  return one ? [{ id: one.id, name: one.name, strength }] : [];
}

/** Have what stands in the field answered by both sides. */
export function askTwice(raw: string = draft.peek()): void {
  const question = raw.trim();
  if (!question || !canSend.peek()) return;
  const sampling = readSampling();
  if (!sampling) {
    refused.value += 1;
    showProblem("chat-problem", { message: chatText.badSettings(wrongFields.peek().map(({ label }) => label).join(", ")) });
    return;
  }
  const { left, right } = sides.peek();
  const by = { left: usesOf(left), right: usesOf(right) };
  const given = system.peek().trim();
  const chat_format = chosenFormat();
  newest -= 1;
  const turn = newest;
  const none = (one: readonly AdapterUse[]): ComparedSide => ({ by: one, text: "" });
  batch(() => {
    showProblem("chat-problem", null);
    if (raw === draft.peek()) draft.value = "";
    replying.value = turn;
    comparisons.value = [
      ...comparisons.peek(),
      { turn, question, seed: sampling.seed ?? 0, left: none(by.left), right: none(by.right), isWriting: true },
    ].slice(-MOST);
    askedTwice.value += 1;
  });
  if (comparing.peek()) chat.send("stop_reply"); // the card's question is asked again afterwards
  stopLooking();
  unsent = turn;
  const ids = [...new Set([...by.left, ...by.right].map(({ id }) => id))];
  const send = (): void => {
    if (unsent !== turn || replying.peek() !== turn) return; // stopped meanwhile
    unsent = null;
    const one = partsOf(by.left);
    const other = partsOf(by.right); // an adapter of both sides brings its files once
    const asked = { role: "user", content: question };
    chat.send("compare_replies", {
      turn,
      messages: given ? [{ role: "system", content: given }, asked] : [asked],
      sampling,
      left: one.parts,
      right: other.parts,
      chat_format,
    }, [...one.transfer, ...other.transfer]);
  };
  whenHere(ids, send, () => {
    showProblem("chat-problem", { message: compareText.gone });
    end(turn);
  });
}

/** Show comparisons in the conversation's place, or the conversation again. */
export function toggleComparing(): void {
  isComparing.value = !isComparing.peek();
}

/** End what is written, also where it is not asked for yet. */
export function stopAny(): void {
  if (unsent !== null && unsent === replying.peek()) end(unsent);
  else stop();
}

function change(turn: number, of: (one: Comparison) => Comparison): void {
  comparisons.value = comparisons.peek().map((one) => (one.turn === turn ? of(one) : one));
}

function end(turn: number): void {
  change(turn, (one) => ({ ...one, isWriting: false }));
  if (replying.peek() === turn) replying.value = null;
}

const said = new Map<SideName, string>(); // what has come and is not shown yet: once a frame
let frame = 0;
const nextFrame = globalThis.requestAnimationFrame ?? ((show: () => void) => setTimeout(show));

function show(turn: number): void {
  frame = 0;
  change(turn, (one) => {
    const more = (name: SideName): ComparedSide => ({ ...one[name], text: one[name].text + (said.get(name) ?? "") });
    return { ...one, left: more("left"), right: more("right") };
  });
  said.clear();
}

/** Nothing more comes: what there is of it stays. */
function abandon(): void {
  said.clear();
  for (const { turn } of comparisons.peek().filter(({ isWriting }) => isWriting)) end(turn);
}

export const comparisonArea: Area = {
  chat: {
    compared_piece: ({ turn, side, text }) => {
      if (turn !== replying.peek()) return;
      said.set(side, (said.get(side) ?? "") + text);
      frame ||= Number(nextFrame(() => show(turn)));
    },
    compared_reply: ({ turn, side, adapters: by, text, token_ids, tokens_per_s, finish_reason }) => {
      said.delete(side);
      change(turn, (one) => ({ ...one, [side]: { by, text: text.trim(), end: { tokens: token_ids.length, tokens_per_s, finish_reason } } }));
    },
    comparison_ended: ({ turn }) => {
      show(turn);
      end(turn);
    },
  },
  own: {
    replies_end: abandon,
    chat_gone: abandon,
  },
};
