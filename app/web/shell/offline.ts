// Whether the page works without a network, and whether a newer version waits. The work is the service worker's
// (offline/service_worker.js). Where a browser has none (a page from a file or by http from the local network, a private
// window), or refuses this one, nothing is shown and everything goes on as it would without.

import { computed, effect, signal } from "@preact/signals";
import { offlineScript } from "../link/begin";
import { site } from "../site";
import type { Area } from "../store/bus";
import { chatModel } from "../store/chat";
import { gpu, model, worker } from "../store/page";
import { isRunning } from "../store/train";

const CHECK_AGAIN_MS = 60 * 60 * 1000;
const BEGIN_ANYWAY_MS = 30000; // of a page that does not get ready: the next version may mend that

/** "keeping": its files are coming; "kept": the page, and the model that it begins with, are here to the last byte; "update": a newer version waits. */
type Known = { readonly state: "none" | "keeping" | "kept" | "update"; readonly others: number };

const known = signal<Known>({ state: "none", others: 0 });
/** What is shown: a run is not disturbed by an offer. `others`: tabs that keep the newer version from beginning. */
export const offline = computed(() => ({ ...known.value, isHeld: known.value.state === "update" && isRunning.value }));

let registration: ServiceWorkerRegistration | undefined;
let looked = performance.now();

/** Have the files kept, once the person has what they wait for. Called when the page begins. */
export function setUpOffline(): void {
  const isUp = computed(() => worker.value.phase === "fatal"
    || (model.value !== null && (gpu.value.state === "none" || ["ready", "released", "failed"].includes(chatModel.value))));
  let begun = false;
  const once = (): void => {
    if (!begun) void begin();
    begun = true;
  };
  effect(() => {
    if (isUp.value) once();
  });
  setTimeout(once, BEGIN_ANYWAY_MS);
}

async function begin(): Promise<void> {
  const container = (navigator as Partial<Navigator>).serviceWorker;
  if (!container) return;
  try {
    registration = await container.register(offlineScript(), { updateViaCache: "none" }) as ServiceWorkerRegistration | undefined;
  } catch (error) {
    return console.info("This page will not open without a network:", error instanceof Error ? error.message : error);
  }
  if (!registration) return;
  registration.addEventListener("updatefound", () => follow(registration?.installing));
  follow(registration.installing);
  document.addEventListener("visibilitychange", checkAgain);
  await look();
}

const follow = (one: ServiceWorker | null | undefined): void => one?.addEventListener("statechange", () => void look());

/** Find out anew how things stand. */
async function look(): Promise<void> {
  if (!registration) return;
  const { installing, waiting, active } = registration;
  if (active && waiting) return change("update");
  if (!active) return change(installing || waiting ? "keeping" : "none");
  const { whole, models } = await ask<{ whole: boolean; models: string[] }>(active, { type: "state" });
  if (registration.waiting) return change("update");
  const begins = new URL(location.href).searchParams.get("model") ?? site.models.default;
  change(whole && (!begins || models.includes(begins)) ? "kept" : "none");
}

function change(state: Known["state"], others = 0): void {
  known.value = { state, others };
}

/** Ask the server for a newer version, now and then, in a page that stays open for days. */
function checkAgain(): void {
  if (document.visibilityState !== "visible" || performance.now() - looked < CHECK_AGAIN_MS) return;
  looked = performance.now();
  registration?.update().catch(() => {}); // no network, or the server is gone
}

/** Have the version that waits begin, and load the page anew; not while another tab shows the one before. */
export async function takeOver(): Promise<void> {
  const waiting = registration?.waiting;
  if (!waiting) return location.reload();
  const begun = new Promise<void>((resolve) => {
    waiting.addEventListener("statechange", () => waiting.state === "activated" && resolve());
  });
  const { others } = await ask<{ others: number }>(waiting, { type: "take_over" });
  if (others) return change("update", others);
  await begun;
  location.reload();
}

function ask<Answer>(one: ServiceWorker, question: { type: string }): Promise<Answer> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data as Answer);
    one.postMessage(question, [port2]);
  });
}

export const offlineArea: Area = { train: { storage: () => void look() } };
