// What the imports of a start cost, module by module, from the frozen start of a built site:
//
//   node bench/startup_imports.mjs [DIST] [WORKER]        WORKER: train (default) or chat
//
// The time of a module is its own, without that of the modules it imports. Run it twice: the first run reads cold files.

import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

import { unpack } from "../app/web/worker/python.js";

const dist = path.resolve(process.argv[2] ?? "dist");
const kind = process.argv[3] ?? "train";
const names = JSON.parse(readFileSync(path.join(dist, "start/index.json")));
const part = (name) => new Uint8Array(gunzipSync(readFileSync(path.join(dist, "start", name))));
const { loadPyodide } = await import(pathToFileURL(path.join(dist, "pyodide/pyodide.mjs")));

let begun = performance.now();
const told = (what) => {
  console.log(`${what.padEnd(44)} ${(performance.now() - begun).toFixed(1).padStart(8)} ms`);
  begun = performance.now();
};
const [memory, packages] = [part(names.snapshot), part(names.packages)];
told("(unzip)");
const pyodide = await loadPyodide({ indexURL: path.join(dist, "pyodide") + path.sep, _loadSnapshot: memory });
told("(runtime)");
unpack(pyodide, packages);
told("(packages)");
pyodide.runPython(`
import builtins, importlib._bootstrap, time

times, children = {}, []
run = importlib._bootstrap._load_unlocked

def timed(spec):
    begun = time.perf_counter()
    children.append(0.0)
    try:
        return run(spec)
    finally:
        taken = time.perf_counter() - begun
        times[spec.name] = taken - children.pop()
        if children:
            children[-1] += taken

importlib._bootstrap._load_unlocked = timed
import lora_lab.workers.${kind}_worker
importlib._bootstrap._load_unlocked = run
for name, taken in sorted(times.items(), key=lambda item: -item[1])[:25]:
    print(f"{name:44} {1000 * taken:8.1f} ms")
print(f"{len(times)} modules, {1000 * sum(times.values()):.0f} ms")
`);
process.exit(0);
