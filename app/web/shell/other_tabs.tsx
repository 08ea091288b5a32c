// Several tabs of the page: what one changes in the browser's store the others show too, and they know which of them trains.

import { effect, signal } from "@preact/signals";
import { removeAdapter } from "../chat/applied";
import { train } from "../link/workers";
import type { AdapterInfo } from "../protocol";
import type { Area } from "../store/bus";
import { wantedAdapter } from "../store/chat";
import { dataset } from "../store/data";
import { isRunning, phase, plan } from "../store/train";
import { pageText } from "../text";

type Told =
  | { readonly kind: "kept" } // what is kept has changed: look again
  | { readonly kind: "training"; readonly data: string; readonly steps: number } // this tab trains on the dataset called `data`
  | { readonly kind: "idle" } // it does so no longer
  | { readonly kind: "who" }; // a tab has been opened: who trains?
type Run = Extract<Told, { kind: "training" }>;

const RUN_LOCK = "lora-lab-run"; // of the tab that trains (lora_lab/workers/storage/tabs.py)

const other = signal<Run | null>(null); // what another tab trains
let channel: BroadcastChannel | null = null;
let kept: string | null = null; // the adapters as this tab knows them, as JSON
let tells = false; // the others have heard that this tab trains

const post = (told: Told): void => channel?.postMessage(told);
const tellRun = (): void => post({ kind: "training", data: dataset.peek()?.name ?? "", steps: plan.peek()?.total_steps ?? 0 });

/** Hear the others. Called when the page begins. */
export function setUpOtherTabs(): void {
  if (!("BroadcastChannel" in globalThis)) return;
  channel = new BroadcastChannel("lora-lab");
  channel.onmessage = ({ data }: MessageEvent<Told>) => hear(data);
  addEventListener("pagehide", () => tells && post({ kind: "idle" }));
  addEventListener("pageshow", ({ persisted }) => persisted && post({ kind: "who" }));
  effect(() => {
    const trains = phase.value === "training" || phase.value === "stopping";
    if (trains === tells) return;
    tells = trains;
    if (trains) return tellRun();
    post({ kind: "idle" });
    post({ kind: "who" }); // a third one may train, too
  });
  post({ kind: "who" });
}

function hear(told: Told): void {
  if (told.kind === "kept") train.send("look_again");
  if (told.kind === "who" && tells) tellRun();
  if (told.kind === "training") show(told);
  if (told.kind === "idle") show(null);
}

function show(run: Run | null): void {
  const begins = run !== null && other.peek() === null;
  other.value = run;
  if (begins) void watch(run);
}

/** A tab that crashes says nothing: its lock is free then. */
async function watch(run: Run): Promise<void> {
  try {
    await (navigator as Partial<Navigator>).locks?.request(RUN_LOCK, { mode: "shared" }, () => {
      if (other.peek() !== run) return;
      show(null);
      post({ kind: "who" });
      if (!isRunning.peek()) train.send("look_again"); // what it has left can be gone on with
    });
  } catch {
    // Without locks a tab that crashes is said to train until this one is loaded anew.
  }
}

/** The list of adapters came: tell the others if something is new in it, and let go of what is not there any more. */
function compare(adapters: readonly AdapterInfo[]): void {
  const now = JSON.stringify(adapters.map(({ fits, ...about }) => about)); // whether one fits is this tab's model's matter
  if (kept !== null && now !== kept) post({ kind: "kept" });
  kept = now;
  const wanted = wantedAdapter.peek();
  if (wanted && !adapters.some(({ id }) => id === wanted)) removeAdapter();
}

export const otherTabsArea: Area = { train: { adapter_list: ({ adapters }) => compare(adapters) } };

/** The line above the settings: a live region, so it is always there. */
export const OtherTab = () => (
  <p class="hint" id="other-tab" data-testid="other-tab" role="status" hidden={!other.value}>
    {other.value && pageText.otherTrains(other.value.data, other.value.steps)}
  </p>
);
