// What a start takes, phase by phase, for bench/startup.py and for whoever looks into a slow one: window.loraLabStartup.
//
//   { ready_ms, chat_ready_ms, phases: [{ who, name, start_ms, end_ms }] }     all in ms since the navigation began
//
// `who` is page, train or chat. Each phase is measured where it happens; the train worker's phases follow each other,
// except those in BESIDE, which go on meanwhile. `ready_ms` is when a dataset could be read and training begun.

export const BESIDE = ["gpu", "storage"];

const record = { ready_ms: null, chat_ready_ms: null, phases: [] };
window.loraLabStartup = record;

/** Note a phase of the page itself that ends now; without `start_ms` it began with the navigation. */
export function pagePhase(name, start_ms = 0) {
  record.phases.push({ who: "page", name, start_ms, end_ms: performance.now() });
}

/** Note the phases that a worker tells of: `{ type: "phase", name, start, end }`, in ms of the system's clock. */
export function listenToPhases(link) {
  link.on("phase", ({ name, start, end }) => record.phases.push({
    who: link.kind, name, start_ms: start - performance.timeOrigin, end_ms: end - performance.timeOrigin,
  }));
}

/** Note that the page is ready to train ("ready_ms") or to chat ("chat_ready_ms"); only the first time counts. */
export function reached(what) {
  record[what] ??= performance.now();
}
