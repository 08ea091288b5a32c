// Several tabs of the page: what one changes in the browser's store the others show too, and they know which of them trains.
//
//   { kind: "kept" }                       what is kept has changed: look again
//   { kind: "training", data, steps }      this tab trains `steps` steps on the dataset called `data`
//   { kind: "idle" }                       it does so no longer
//   { kind: "who" }                        a tab has been opened: who trains?

import { removeAdapter } from "./applied.js";
import { byId, formatCount, setText } from "./dom.js";
import { hideResult } from "./result.js";
import { isRunning, state, subscribe } from "./store.js";

const RUN_LOCK = "lora-lab-run"; // of the tab that trains (lora_lab/workers/storage/tabs.py)

let channel, train;
let kept = null; // the adapters as this tab knows them, as JSON
let tells = false; // the others have heard that this tab trains
let other = null; // what another tab trains

/** `link` is the train worker's. */
export function setUpTabs(link) {
  if (!globalThis.BroadcastChannel) return;
  train = link;
  channel = new BroadcastChannel("lora-lab");
  channel.onmessage = ({ data }) => hear(data);
  train.on("adapter_list", compare);
  addEventListener("pagehide", () => tells && channel.postMessage({ kind: "idle" }));
  addEventListener("pageshow", ({ persisted }) => persisted && channel.postMessage({ kind: "who" }));
  subscribe(tellRun);
  channel.postMessage({ kind: "who" });
}

/** The list of adapters came: tell the others if something is new in it, and let go of what is not there any more. */
function compare({ adapters }) {
  const now = JSON.stringify(adapters.map(({ fits, ...about }) => about)); // whether one fits is this tab's model's matter
  if (kept !== null && now !== kept) channel.postMessage({ kind: "kept" });
  kept = now;
  const { wantedAdapter } = state;
  if (!wantedAdapter || adapters.some(({ id }) => id === wantedAdapter)) return;
  hideResult(wantedAdapter);
  removeAdapter();
}

function hear({ kind, data, steps }) {
  if (kind === "kept") train.send("look_again");
  if (kind === "who" && tells) tell();
  if (kind === "training") show({ data, steps });
  if (kind === "idle") show(null);
}

function tellRun() {
  const trains = state.phase === "training" || state.phase === "stopping";
  if (trains === tells) return;
  tells = trains;
  if (trains) return tell();
  channel.postMessage({ kind: "idle" });
  channel.postMessage({ kind: "who" }); // a third one may train, too
}

const tell = () => channel.postMessage({ kind: "training", data: state.dataset?.name ?? "", steps: state.plan?.total_steps ?? 0 });

function show(run) {
  const begins = run && !other;
  other = run;
  const what = [run?.data, run?.steps && `${formatCount(run.steps)} steps`].filter(Boolean).join(", ");
  byId("other-tab").hidden = !run;
  setText(byId("other-tab"), run ? `Another tab is training${what ? ` (${what})` : ""}. A run here would share the GPU with it, and could not be resumed.` : "");
  if (begins) watch(run);
}

/** A tab that crashes says nothing: its lock is free then. */
function watch(run) {
  navigator.locks?.request(RUN_LOCK, { mode: "shared" }, () => {
    if (other !== run) return;
    show(null);
    channel.postMessage({ kind: "who" });
    if (!isRunning()) train.send("look_again"); // what it has left can be gone on with
  }).catch(() => {});
}
