// What a start takes, phase by phase, for bench/startup.py and for whoever looks into a slow one: window.loraLabStartup.
//
//   { ready_ms, chat_ready_ms, phases: [{ who, name, start_ms, end_ms, beside }] }     all in ms since the navigation began
//
// `who` is page, train or chat. Each phase is measured where it happens. The phase `page` and those of the train worker
// follow each other until `ready_ms`, when a dataset can be read and training begun; `beside` marks those of them that
// go on meanwhile, as do the page's own scripts.

import { begunMs } from "./begin.js";

const BESIDE = ["gpu", "page's scripts"];

const record = { ready_ms: null, chat_ready_ms: null, phases: [] };
window.loraLabStartup = record;

/** Note a phase of the page itself, in ms since the navigation began. */
export function pagePhase(name, start_ms, end_ms = performance.now()) {
  note({ who: "page", name, start_ms, end_ms });
}

/** Note the phases that a worker tells of: `{ type: "phase", name, start, end }`, in ms of the system's clock. */
export function listenToPhases(worker) {
  worker.on("phase", ({ name, start, end }) => {
    const [start_ms, end_ms] = [start - performance.timeOrigin, end - performance.timeOrigin];
    // A worker knows when its own clock began; the first one was asked for a little earlier.
    const first = name === "worker script" && worker.kind === "train" && record.ready_ms === null;
    note({ who: worker.kind, name, start_ms: first ? begunMs : start_ms, end_ms });
  });
}

function note(phase) {
  record.phases.push({ ...phase, beside: BESIDE.includes(phase.name) });
}

/** Note that the page is ready to train ("ready_ms") or to chat ("chat_ready_ms"); only the first time counts. */
export function reached(what) {
  record[what] ??= performance.now();
}
