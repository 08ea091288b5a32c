// Which adapters' files the chat worker has. The train worker keeps all of them; the chat worker holds those it was sent last.
//
// A command that names an adapter brings its files where the chat worker has them not. Until a command goes they wait here.

import { train } from "../../link/workers";
import type { AdapterPartGiven } from "../../protocol";
import type { Area } from "../../store/bus";
import type { AdapterUse } from "../../store/chat";

type Files = Readonly<Record<string, Uint8Array>>;
interface Wish {
  readonly ids: readonly string[];
  readonly run: () => void;
  readonly fail: () => void;
}

const held = new Set<string>(); // by the chat worker
const here = new Map<string, Files>();
const awaited = new Set<string>();
let wishes: readonly Wish[] = [];

const isThere = (id: string): boolean => held.has(id) || here.has(id);

/** The chat worker was sent an adapter's files. */
export const noteHeld = (id: string): unknown => held.add(id);

/** The chat worker holds none any more. */
export const forgetHeld = (): void => held.clear();

/** Run something once adapters can be named in a command to the chat worker; `fail`: one of them is not kept any more. */
export function whenHere(ids: readonly string[], run: () => void, fail: () => void = () => {}): void {
  const missing = ids.filter((id) => !isThere(id));
  if (!missing.length) return run();
  wishes = [...wishes, { ids, run, fail }];
  for (const id of missing) {
    if (awaited.has(id)) continue;
    awaited.add(id);
    train.send("get_adapter", { id });
  }
}

/** Adapters as parts of a command that is sent at once, with the files that the chat worker has not. */
export function partsOf(uses: readonly AdapterUse[]): { parts: AdapterPartGiven[]; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = [];
  const parts = uses.map(({ id, name, strength }) => {
    const files = held.has(id) ? undefined : here.get(id);
    if (!files) return { id, name, strength };
    transfer.push(...Object.values(files).map((bytes) => bytes.buffer as ArrayBuffer));
    here.delete(id);
    held.add(id);
    return { id, name, strength, files };
  });
  return { parts, transfer };
}

function settle(): void {
  const ready = wishes.filter(({ ids }) => ids.every(isThere));
  wishes = wishes.filter((one) => !ready.includes(one));
  for (const { run } of ready) run();
}

function giveUp(id: string): void {
  awaited.delete(id);
  const lost = wishes.filter(({ ids }) => ids.includes(id));
  wishes = wishes.filter((one) => !lost.includes(one));
  for (const { fail } of lost) fail();
}

/** Stands behind appliedArea: what that one sends on is with the chat worker. */
export const filesArea: Area = {
  train: {
    adapter_files: ({ id, files }) => {
      if (awaited.delete(id) && !held.has(id)) here.set(id, files);
      settle();
    },
    adapter_deleted: ({ id }) => {
      here.delete(id);
    },
    failed: ({ where, subject }) => {
      if (where === "adapter" && subject) giveUp(subject);
    },
  },
  chat: {
    failed: ({ where }) => {
      if (where === "adapter" || where === "chat") held.clear(); // it may have let some go: the next command brings them
    },
  },
  own: {
    train_gone: () => {
      for (const id of [...awaited]) giveUp(id);
    },
  },
};
