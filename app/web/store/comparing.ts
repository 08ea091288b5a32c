// What the page knows of replies side by side, and of what an adapter has changed about a reply.

import { computed, signal } from "@preact/signals";
import type { ChangedToken, ComparedReply } from "../protocol";
import { adapters, applied, writer, type AdapterUse } from "./chat";

export type SideName = "left" | "right";
export const SIDES: readonly SideName[] = ["left", "right"];

/** Who writes a side. `who` is an adapter's id, "" the base model, TOGETHER those that answer in the chat. */
export interface Side {
  readonly who: string;
  readonly strength: number;
}
export const TOGETHER = "*";

export const isComparing = signal(false); // what is sent is answered twice
export const chosenSides = signal<{ readonly [S in SideName]: Side | null }>({ left: null, right: null }); // null: nobody chose

/** Who writes each side now. */
export const sides = computed((): { readonly [S in SideName]: Side } => {
  const fits = (side: Side | null): side is Side => side !== null
    && (side.who === "" || (side.who === TOGETHER ? writer.value.length > 1 : (adapters.value ?? []).some(({ id, fits }) => id === side.who && fits !== false)));
  const { left, right } = chosenSides.value;
  const first = writer.value.length > 1 ? TOGETHER : applied.value?.id ?? adapters.value?.find((one) => one.fits !== false)?.id ?? "";
  return { left: fits(left) ? left : { who: "", strength: 1 }, right: fits(right) ? right : { who: first, strength: 1 } };
});

/** One of two replies, as far as it is written. */
export interface ComparedSide {
  readonly by: readonly AdapterUse[]; // none: the base model
  readonly text: string;
  readonly end?: Pick<ComparedReply, "tokens_per_s" | "finish_reason"> & { readonly tokens: number };
}

/** A question that was answered twice. */
export interface Comparison {
  readonly turn: number;
  readonly question: string;
  readonly seed: number;
  readonly left: ComparedSide;
  readonly right: ComparedSide;
  readonly isWriting: boolean;
}
export const comparisons = signal<readonly Comparison[]>([]);

/** What is looked at: wording number `wording` of the turn `key`. */
export interface Looked {
  readonly key: number;
  readonly wording: number;
  readonly request: number;
  readonly by: readonly AdapterUse[];
  readonly tokens: readonly ChangedToken[];
  readonly total: number;
  readonly state: "coming" | "whole" | "ended";
}
export const looked = signal<Looked | null>(null);
