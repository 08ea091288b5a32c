// Runs a Python script of the project in Pyodide under Node, with Dawn (the WebGPU of Chromium) as navigator.gpu: the
// browser's half of the seam without a browser.
//
//   node bench/node_host.mjs SCRIPT.py [arguments...]
//
// LORA_LAB_DIST names a built site (for Pyodide and its wheels), LORA_LAB_NODE_MODULES a folder that holds `webgpu`. A
// script that leaves work behind puts it into RUNNING; its result, if it is a number, is the exit code.

import { createRequire, syncBuiltinESMExports } from "node:module";
import fs, { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { openFileBlob } from "./file_blob.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const dist = path.resolve(process.env.LORA_LAB_DIST ?? path.join(root, "dist"));
const modules = path.resolve(process.env.LORA_LAB_NODE_MODULES ?? path.join(root, "node_modules"));
const [script, ...args] = process.argv.slice(2);

const { create, globals } = createRequire(path.join(modules, "_"))("webgpu");
Object.assign(globalThis, globals);
// Timestamps as the GPU gives them; browsers round them to 100 us.
const toggles = ["disable-dawn-features=timestamp_quantization", ...(process.env.LORA_LAB_DAWN?.split(",") ?? [])];
Object.defineProperty(globalThis, "navigator", {
  value: { gpu: create(toggles), userAgent: "node", language: "en", languages: ["en"], hardwareConcurrency: 2 },
});

const ours = (name) => import(pathToFileURL(path.join(root, "app/web/worker", name)));
globalThis.loraLabCall = (await ours("calls.js")).settledCall;
globalThis.loraLabGpu = await ours("gpu.js");
globalThis.openFileBlob = openFileBlob; // for models: through the mounted folders no file above 2 GiB can be read
globalThis.loraLabTokenizers = await import(pathToFileURL(path.join(dist, "vendor/tokenizers/tokenizers.min.mjs")))
  .catch(() => undefined);
const { loadPyodide } = await import(pathToFileURL(path.join(dist, "pyodide/pyodide.mjs")));
const pyodide = await loadPyodide({ indexURL: path.join(dist, "pyodide/") });
await pyodide.loadPackage(["numpy"], { messageCallback: () => {} });
const wheels = JSON.parse(readFileSync(path.join(dist, "wheels/index.json"))).wheels;
for (const wheel of wheels.filter((name) => !name.startsWith("lora_lab"))) {
  pyodide.unpackArchive(new Uint8Array(readFileSync(path.join(dist, "wheels", wheel))), "wheel");
}
// A link is what it leads to (a model in Hugging Face's cache is all links): Pyodide would look for that in its own root.
const { lstatSync } = fs;
fs.lstatSync = (name, options) => {
  try {
    return fs.statSync(name, options);
  } catch {
    return lstatSync(name, options); // it leads nowhere, or there is nothing
  }
};
syncBuiltinESMExports();
for (const [inside, outside] of [["/project", root], ["/host", "/"]]) {
  pyodide.FS.mkdirTree(inside);
  pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root: outside }, inside);
}
pyodide.globals.set("ARGUMENTS", pyodide.toPy(args));
pyodide.globals.set("HOST_FOLDER", process.cwd());
try {
  await pyodide.runPythonAsync("import sys; sys.path[:0] = ['/project', '/project/app/py']\n" + readFileSync(script, "utf8"));
  const code = await pyodide.globals.get("RUNNING");
  process.exit(typeof code === "number" ? code : 0);
} catch (error) {
  console.error(error.message ?? error);
  process.exit(1);
}
