// Continues tokens greedily with a real llama.cpp, on the CPU. Arguments: the folder node_modules. Standard input: a
// JSON list of {model, lora, tokens, count}; standard output: for each the list of tokens, or {"error": its words}.
// Keys and values are kept in f32, as ours are.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const { getLlama } = await import(pathToFileURL(join(process.argv[2], "node-llama-cpp/dist/index.js")));

async function complete(llama, { model: modelPath, lora, tokens, count }) {
  const model = await llama.loadModel({ modelPath, gpuLayers: 0, useMmap: false });
  try {
    const context = await model.createContext({
      contextSize: 256, batchSize: 256, threads: 1, ...(lora ? { lora } : {}),
      experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
    });
    const found = [];
    for await (const token of context.getSequence().evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
      found.push(token);
      if (found.length >= count) break;
    }
    return found;
  } finally {
    await model.dispose();
  }
}

const jobs = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, maxThreads: 1, logLevel: "error" });
const results = [];
for (const job of jobs) {
  results.push(await complete(llama, job).catch((error) => ({ error: String(error) })));
}
console.log(JSON.stringify(results));
process.exit(0);
