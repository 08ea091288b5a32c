// Where what happens becomes state: each area says which event of which worker it hears, and changes its signals then.
//
// An area's table stands in its store (store/page.ts, data.ts, train.ts, chat.ts); main.tsx joins them. All that one event
// changes is shown at once. What one area tells the others is an own event, posted with `tell`.

import { batch } from "@preact/signals";
import type { Heard, HeardEvent, Kind } from "../link/link";
import type { ModelOpened } from "../protocol";

/** What areas tell each other. */
export interface OwnEvents {
  /** A model takes the last one's place. `first`: there was none before. */
  model_came: { model: ModelOpened; first: boolean };
  /** Another model could not be opened; the one before is still there. */
  model_stayed: Record<never, never>;
  /** A run is about to begin: whoever uses the GPU makes way. */
  run_begins: Record<never, never>;
  /** The chat leaves what it writes: its model goes, or a run wants the GPU. */
  replies_end: Record<never, never>;
  /** The chat's worker or its GPU is gone: nothing that it was asked for will be answered. */
  chat_gone: Record<never, never>;
  /** The train worker is gone. `reading`: it was reading data, which must not be read again by itself. */
  train_gone: { reading: boolean };
  /** A fresh train worker takes its place: it has no model and no data yet. */
  train_anew: Record<never, never>;
}

type Handlers<E> = { readonly [K in keyof E]?: (event: E[K]) => void };

/** What an area hears: of the train worker, of the chat worker, of the other areas. */
export interface Area {
  readonly train?: Handlers<Heard>;
  readonly chat?: Handlers<Heard>;
  readonly own?: Handlers<OwnEvents>;
}

let areas: readonly Area[] = [];

/** The areas that hear, in this order. */
export function join(all: readonly Area[]): void {
  areas = all;
}

/** A worker has said something. */
export function receive(event: HeardEvent, from: Kind): void {
  batch(() => {
    for (const area of areas) (area[from]?.[event.type] as ((event: HeardEvent) => void) | undefined)?.(event);
  });
}

/** Tell the other areas. */
export function tell<K extends keyof OwnEvents>(type: K, event: OwnEvents[K]): void {
  batch(() => {
    for (const area of areas) area.own?.[type]?.(event);
  });
}
