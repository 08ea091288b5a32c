// Runs bench/suite.py in Pyodide in this worker. Said first: { type: "ready" }. Heard then: { quick, tiny }. Said:
// { type: "say", text }, { type: "rows", json, cells }, and at the end { type: "done", json } or { type: "failed", text }.

const SITE = new URL("../", import.meta.url);
const say = (text) => self.postMessage({ type: "say", text });

async function read(path, form = "json") {
  const response = await fetch(new URL(path, SITE));
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status} ${response.statusText}`);
  return response[form]();
}

async function run({ quick, tiny }) {
  const [{ loadPyodide }, { settledCall }, gpu, { wheels }, code] = await Promise.all([
    import(new URL("pyodide/pyodide.mjs", SITE)), import(new URL("assets/worker/calls.js", SITE)),
    import(new URL("assets/worker/gpu.js", SITE)), read("wheels/index.json"),
    read("bench/python.zip", "arrayBuffer"),
  ]);
  globalThis.loraLabCall = settledCall;
  globalThis.loraLabGpu = gpu;
  const pyodide = await loadPyodide({ indexURL: new URL("pyodide/", SITE).href });
  await pyodide.loadPackage(["numpy"], { messageCallback: () => {} });
  for (const wheel of wheels) pyodide.unpackArchive(await read(`wheels/${wheel}`, "arrayBuffer"), "wheel");
  pyodide.unpackArchive(code, "zip", { extractDir: "/benchmark" });
  pyodide.runPython("import sys; sys.path.insert(0, '/benchmark')");
  const main = pyodide.pyimport("bench.browser").main;
  const rows = (json, cells) => self.postMessage({ type: "rows", json, cells });
  const { commit } = await read("bench/about.json");
  self.postMessage({ type: "done", json: await main(quick, tiny, navigator.userAgent, commit, say, rows) });
}

self.onmessage = ({ data }) => run(data).catch((error) => {
  console.error(error);
  self.postMessage({ type: "failed", text: String(error?.message ?? error).trim().split("\n").at(-1) });
});
self.postMessage({ type: "ready" });
