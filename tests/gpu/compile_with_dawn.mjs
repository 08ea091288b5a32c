// Compiles kernels with Tint, the WGSL compiler of Chromium, through app/web/gpu.js as the page does it.
//
//   node compile_with_dawn.mjs GPU_JS NODE_MODULES < kernels.json      kernels: [{ source, entry, label, layout }]
//
// Dawn's null backend needs no graphics driver and grants only what every WebGPU device does. The last line printed is a
// JSON list of what is wrong, one string a kernel; Dawn itself may print warnings before it.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [gpuJs, nodeModules] = process.argv.slice(2).map((name) => path.resolve(name));
const { create, globals } = createRequire(path.join(nodeModules, "_"))("webgpu");
Object.assign(globalThis, globals);
Object.defineProperty(globalThis, "navigator", { value: { gpu: create(["backend=null"]) } });

const { openDevice } = await import(pathToFileURL(gpuJs));
const gpu = await openDevice();
const problems = [];
for (const kernel of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    await gpu.compile([kernel], () => {});
  } catch (error) {
    problems.push(error.message);
  }
}
const error = await gpu.takeError();
if (error) problems.push(error);
process.stdout.write(`\n${JSON.stringify(problems)}\n`, () => process.exit(0));
