// The first thing that runs: starts the train worker while the rest of the page is still on its way. Imports nothing.

/** When the first worker was started, in ms since the navigation began. */
export const begunMs = performance.now();
const early = { worker: startWorker("train"), heard: [] };
early.worker.onmessage = (event) => early.heard.push(event);
early.worker.onerror = (event) => {
  event.preventDefault(); // whoever takes the worker is told
  early.heard.push(event);
};

/** Start a worker of this kind ("train" or "chat"). */
export function startWorker(kind) {
  const url = new URL("worker/worker.js", import.meta.url);
  url.searchParams.set("kind", kind);
  return new Worker(url, { type: "module", name: `lora-lab ${kind}` });
}

/** Return the early worker and `heard`, which holds each event of it until its handlers are replaced; null the second time. */
export function takeEarly() {
  if (!early.worker) return null;
  const taken = { ...early };
  early.worker = null;
  return taken;
}
