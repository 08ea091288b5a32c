// The first thing that runs: starts the train worker while the rest of the page is still on its way. Imports nothing.

// A worker that is started by its address has a policy only where the server sends one with it; one that is started from
// a blob has the page's. So the blob is a line that fetches the worker. What follows the # is for people and for tests.
const address = (kind) => {
  const url = new URL(`worker/worker.js?kind=${kind}`, import.meta.url).href;
  const failed = '(error) => postMessage({ type: "fatal", message: String(error?.message ?? error) })';
  const line = new Blob([`import(${JSON.stringify(url)}).catch(${failed});`], { type: "text/javascript" });
  return `${URL.createObjectURL(line)}#kind=${kind}`;
};
const createScriptURL = (kind) => (kind === "offline" ? new URL("../sw.js", import.meta.url).href : address(kind));
// Where the browser has Trusted Types, a worker's address comes from here or is refused: nobody can make this policy again.
const addresses = window.trustedTypes?.createPolicy("lora-lab", { createScriptURL }) ?? { createScriptURL };

/** The address of the service worker. */
export const offlineScript = () => addresses.createScriptURL("offline");

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
  return new Worker(addresses.createScriptURL(kind), { type: "module", name: `lora-lab ${kind}` });
}

/** Return the early worker and `heard`, which holds each event of it until its handlers are replaced; null the second time. */
export function takeEarly() {
  if (!early.worker) return null;
  const taken = { ...early };
  early.worker = null;
  return taken;
}
