// What a start takes, phase by phase, for bench/startup.py and for whoever looks into a slow one: window.loraLabStartup.
//
//   { ready_ms, chat_ready_ms, phases: [{ who, name, start_ms, end_ms, beside }] }     all in ms since the navigation began
//
// `who` is page, train or chat. Each phase is measured where it happens. The phase `page` and those of the train worker
// follow each other until `ready_ms`, when a dataset can be read and training begun; `beside` marks those of them that
// go on meanwhile, as do the page's own scripts.

import { begunMs } from "./begin";
import type { Kind } from "./link";

const BESIDE = ["gpu", "page's scripts"];

interface Phase {
  who: "page" | Kind;
  name: string;
  start_ms: number;
  end_ms: number;
  beside: boolean;
}
interface Startup {
  ready_ms: number | null;
  chat_ready_ms: number | null;
  phases: Phase[];
}
const record: Startup = { ready_ms: null, chat_ready_ms: null, phases: [] };
(globalThis as { loraLabStartup?: Startup }).loraLabStartup = record;

/** Note a phase of the page itself, in ms since the navigation began. */
export function pagePhase(name: string, start_ms: number, end_ms = performance.now()): void {
  note("page", name, start_ms, end_ms);
}

/** Note a phase that a worker tells of, in ms of the system's clock. */
export function workerPhase(kind: Kind, { name, start, end }: { name: string; start: number; end: number }): void {
  const [start_ms, end_ms] = [start - performance.timeOrigin, end - performance.timeOrigin];
  // A worker knows when its own clock began; the first one was asked for a little earlier.
  const first = name === "worker script" && kind === "train" && record.ready_ms === null;
  note(kind, name, first ? begunMs : start_ms, end_ms);
}

function note(who: Phase["who"], name: string, start_ms: number, end_ms: number): void {
  record.phases.push({ who, name, start_ms, end_ms, beside: BESIDE.includes(name) });
}

/** Note that the page is ready to train ("ready_ms") or to chat ("chat_ready_ms"); only the first time counts. */
export function reached(what: "ready_ms" | "chat_ready_ms"): void {
  record[what] ??= performance.now();
}
