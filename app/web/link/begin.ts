// Starts workers, so that they have the page's policy; the first of them before anything else of the page (early.ts).

/** When the first worker was started, in ms since the navigation began. */
export let begunMs = 0;

interface Early {
  worker: Worker;
  heard: (MessageEvent | ErrorEvent)[];
}
let early: Early | null = null;

// A worker that is started by its address has a policy only where the server sends one with it; one that is started from
// a blob has the page's. So the blob is a line that fetches the worker. What follows the # is for people and for tests.
const address = (kind: string): string => {
  const url = new URL(`worker/worker.js?kind=${kind}`, import.meta.url).href;
  const failed = '(error) => postMessage({ type: "fatal", message: String(error?.message ?? error) })';
  const line = new Blob([`import(${JSON.stringify(url)}).catch(${failed});`], { type: "text/javascript" });
  return `${URL.createObjectURL(line)}#kind=${kind}`;
};

/** Where the service worker lies: at the top of the site, which it serves. */
const serviceWorker = (): string => new URL("../sw.js", import.meta.url).href;
const OFFLINE = "offline";
const createScriptURL = (kind: string): string => (kind === OFFLINE ? serviceWorker() : address(kind));

interface Policy {
  createScriptURL(kind: string): string;
}
interface TrustedTypes {
  createPolicy(name: string, rules: Policy): Policy;
}
let made: Policy | null = null;

// Where the browser has Trusted Types, a worker's address comes from here or is refused: nobody can make this policy again.
function addresses(): Policy {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  made ??= trustedTypes?.createPolicy("lora-lab", { createScriptURL }) ?? { createScriptURL };
  return made;
}

/** Start a worker of this kind. */
export const startWorker = (kind: "train" | "chat"): Worker =>
  new Worker(addresses().createScriptURL(kind), { type: "module", name: `lora-lab ${kind}` });

/** The address of the service worker. */
export const offlineScript = (): string => addresses().createScriptURL(OFFLINE);

/** Start the train worker while the rest of the page is still on its way, and keep what it says. */
export function startEarly(): void {
  begunMs = performance.now();
  const started: Early = { worker: startWorker("train"), heard: [] };
  started.worker.onmessage = (event) => started.heard.push(event);
  started.worker.onerror = (event) => {
    event.preventDefault(); // whoever takes the worker is told
    started.heard.push(event);
  };
  early = started;
}

/** Return the early worker and `heard`, which holds each event of it until its handlers are replaced; null the second time. */
export function takeEarly(): Early | null {
  const taken = early;
  early = null;
  return taken;
}
