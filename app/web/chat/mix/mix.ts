// Adapters that answer together with the one in use, each at its strength. To the chat worker they add up to one.
//
// The one in use is applied.ts's. Where others answer too, the chat worker is told of all of them with their strengths: when
// one joins or leaves, and before a reply where a strength is another one since.

import { chat } from "../../link/workers";
import type { Area } from "../../store/bus";
import { adapters, applied, isAdapterOn, others, strength, wantedAdapter, type AdapterUse } from "../../store/chat";
import { removeAdapter, useAdapter } from "../applied";
import { partsOf, whenHere } from "./files";

let told = ""; // what the chat worker was told last; "": the one in use, alone
let confirmed: readonly string[] = []; // ids that it has taken

/** Have an adapter answer too. */
export function addToMix(id: string): void {
  const info = adapters.peek()?.find((one) => one.id === id);
  if (!info || id === wantedAdapter.peek() || others.peek().some((one) => one.id === id)) return;
  others.value = [...others.peek(), { id, name: info.name, strength: 1, isHere: false }];
  isAdapterOn.value = true;
  bring();
}

export function leaveMix(id: string): void {
  others.value = others.peek().filter((one) => one.id !== id);
  tellMix();
}

export function setStrength(id: string, value: number): void {
  others.value = others.peek().map((one) => (one.id === id ? { ...one, strength: value } : one));
}

/** Have these answer together, as far as they are kept and fit the model; none of them: the base model. */
export function useTogether(uses: readonly AdapterUse[]): void {
  const [first, ...more] = uses.filter(({ id }) => adapters.peek()?.some((one) => one.id === id && one.fits !== false));
  isAdapterOn.value = Boolean(first);
  if (!first) return;
  if (wantedAdapter.peek() !== first.id) {
    if (wantedAdapter.peek()) removeAdapter();
    useAdapter(first.id);
  }
  strength.value = first.strength;
  others.value = more.map((one) => ({ ...one, isHere: false }));
  bring();
}

/** Ask for the files of those that are not here. */
function bring(): void {
  if (!applied.peek()) return; // when it is
  for (const { id, isHere } of others.peek()) {
    if (isHere) continue;
    whenHere([id], () => {
      others.value = others.peek().map((one) => (one.id === id ? { ...one, isHere: true } : one));
      tellMix();
    }, () => leaveMix(id));
  }
}

/** Tell the chat worker who answers, where it knows otherwise. */
export function tellMix(): void {
  const first = applied.peek();
  if (!first) return;
  const more = others.peek().filter(({ isHere }) => isHere);
  // Alone its strength goes with each reply.
  const uses = [{ ...first, strength: more.length ? strength.peek() : 1 }, ...more];
  const wanted = more.length ? JSON.stringify(uses.map((one) => [one.id, one.strength])) : "";
  if (wanted === told) return;
  const isSent = (): void => {
    told = wanted;
    const { parts, transfer } = partsOf(uses);
    chat.send("apply_adapters", { adapters: parts }, transfer);
  };
  whenHere(uses.map(({ id }) => id), isSent);
}

/** Stands behind appliedArea and filesArea. */
export const mixArea: Area = {
  train: {
    adapter_files: ({ id }) => {
      if (id !== applied.peek()?.id || told === "" && others.peek().every(({ isHere }) => isHere)) return;
      told = ""; // it was applied, alone
      confirmed = [id];
      bring();
      tellMix();
    },
    adapter_list: ({ adapters: all }) => {
      const named = others.peek().map((one) => ({ ...one, name: all.find(({ id }) => id === one.id)?.name ?? one.name }));
      if (named.some(({ name }, place) => name !== others.peek()[place]?.name)) others.value = named;
    },
    adapter_deleted: ({ id }) => {
      if (others.peek().some((one) => one.id === id)) leaveMix(id);
    },
  },
  chat: {
    adapters_applied: ({ adapters: uses }) => {
      confirmed = uses.map(({ id }) => id);
    },
    failed: ({ where }) => {
      if (where !== "adapter" || !others.peek().length) return;
      others.value = others.peek().filter(({ id }) => confirmed.includes(id)); // those before stay
      told = "?";
    },
  },
  own: {
    model_came: () => gone(),
    chat_gone: () => gone(),
  },
};

/** The chat worker knows of none: they are brought again when the one in use is. */
function gone(): void {
  told = "";
  confirmed = [];
  others.value = others.peek().map((one) => ({ ...one, isHere: false }));
}
