// A worker: starts Pyodide, installs the program, hands over to lora_lab.workers.<kind>_worker. It decides nothing.
//
//   new Worker(new URL("./worker.js?kind=train", import.meta.url), { type: "module" })     kind: train | chat
//
// The page sends nothing before Python's own `ready`. Until then the worker speaks for itself:
//   { type: "boot", phase, done, total }   phase: "runtime" | "packages" | "program"; `done` of `total` phases are over
//   { type: "fatal", message }             the worker cannot start, or Python ended with an error nobody caught

const KINDS = ["train", "chat"];
const PHASES = ["runtime", "packages", "program"];
const SITE = new URL("../", import.meta.url);
const kind = new URL(self.location.href).searchParams.get("kind");

const boot = (done) => self.postMessage({ type: "boot", phase: PHASES[done] ?? "ready", done, total: PHASES.length });

async function start() {
  if (!KINDS.includes(kind)) throw new Error(`worker.js?kind=${kind}: wanted one of ${KINDS.join(", ")}`);
  boot(0);
  const [{ loadPyodide }, wheels, gpu, tokenizers] = await Promise.all([
    import(new URL("pyodide/pyodide.mjs", SITE)),
    fetchJson("wheels/index.json"),
    import("./gpu.js"),
    import("../vendor/tokenizers/tokenizers.min.mjs"),
  ]);
  globalThis.loraLabGpu = gpu;
  globalThis.loraLabTokenizers = tokenizers;
  const pyodide = await loadPyodide({ indexURL: new URL("pyodide/", SITE).href });
  boot(1);
  await pyodide.loadPackage(["numpy", "micropip"], { messageCallback: () => {} });
  boot(2);
  const micropip = pyodide.pyimport("micropip");
  const addresses = wheels.wheels.map((name) => new URL(`wheels/${name}`, SITE).href);
  // The wheels are the whole set already: nothing may be looked up anywhere else.
  await micropip.install.callKwargs(addresses, { deps: false });
  micropip.destroy();
  boot(3);
  await pyodide.runPythonAsync(`from lora_lab.workers.${kind}_worker import main\nawait main()`);
}

async function fetchJson(path) {
  const response = await fetch(new URL(path, SITE));
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status} ${response.statusText}`);
  return response.json();
}

start().catch((error) => {
  console.error(error);
  self.postMessage({ type: "fatal", message: String(error?.message ?? error) });
});
