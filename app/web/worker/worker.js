// A worker: starts Python with the program in it, hands over to lora_lab.workers.<kind>_worker. It decides nothing.
//
//   worker.js?kind=train     kind: train | chat; from a blob, so that the page's policy holds here (app/web/begin.js)
//
// The page sends nothing before Python's own `ready`. Until then the worker speaks for itself:
//   { type: "boot", phase, done, total }   phase: "runtime" | "packages" | "program"; `done` of `total` phases are over
//   { type: "fatal", message }             the worker cannot start, or Python ended with an error nobody caught
//   { type: "phase", name, start, end }    how long a part of the start took (app/web/startup.js)

import * as tokenizers from "../../vendor/tokenizers/tokenizers.min.mjs";
import { settledCall } from "./calls.js";
import * as gpu from "./gpu.js";
import { startPython } from "./python.js";

// Where the browser has Trusted Types: the names that the page's policy allows are taken, so that nothing in here can
// call an address trusted and start another worker by it, which would have no policy.
for (const name of ["lora-lab", "dompurify"]) self.trustedTypes?.createPolicy(name, {});

const KINDS = ["train", "chat"];
const PHASES = ["runtime", "packages", "program"];
const kind = new URL(import.meta.url).searchParams.get("kind");

const boot = (done) => self.postMessage({ type: "boot", phase: PHASES[done] ?? "ready", done, total: PHASES.length });

/** Tell the page of a part of the start that began at `start` (performance.now()) and ends now. Python calls it too. */
globalThis.loraLabPhase = (name, start) => self.postMessage({
  type: "phase", name, start: performance.timeOrigin + start, end: performance.timeOrigin + performance.now(),
});
globalThis.loraLabSite = new URL("../../", import.meta.url).href; // this worker's own address is a blob's
globalThis.loraLabCall = settledCall;
globalThis.loraLabGpu = gpu;
globalThis.loraLabTokenizers = tokenizers;

const fatalWords = (error) => String(error?.message ?? error);

async function start() {
  if (!KINDS.includes(kind)) throw new Error(`worker.js?kind=${kind}: wanted one of ${KINDS.join(", ")}`);
  loraLabPhase("worker script", 0);
  boot(0);
  const pyodide = await startPython(boot, loraLabPhase);
  globalThis.loraLabPython = pyodide; // for whoever looks into a worker from the console
  // What Python does not survive, e.g. a stack that is full: nothing of this worker answers any more.
  pyodide._api.on_fatal = (error) => self.postMessage({ type: "fatal", message: fatalWords(error), details: error?.stack ?? "" });
  const begun = performance.now();
  await pyodide.runPythonAsync(`from lora_lab.workers.${kind}_worker import main`);
  loraLabPhase("imports", begun);
  boot(3);
  await pyodide.runPythonAsync("await main()");
}

start().catch((error) => {
  console.error(error);
  self.postMessage({ type: "fatal", message: fatalWords(error) });
});
