// Runs Python programs in one Pyodide under Node, with the package mounted as it stands in the repository.
// Arguments: the folder of Pyodide, numpy's wheel, the repository. Each line of standard input is an order in JSON,
// {program, blob, url, file}; `blob` and `file` are paths or null, and the program sees a JavaScript Blob, what
// bench/file_blob.mjs makes of a file of any size, and `url`. For each order one line is printed, {result} with what the
// program's main() returned, or {error}.
import { openAsBlob } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { openFileBlob } from "../../../bench/file_blob.mjs";

const [indexURL, numpyWheel, root] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${indexURL}/pyodide.mjs`).href);
globalThis.loraLabCall = (await import(pathToFileURL(`${root}/app/web/worker/calls.js`).href)).settledCall;
const pyodide = await loadPyodide({ indexURL });
await pyodide.loadPackage(numpyWheel, { messageCallback: () => {} });
pyodide.FS.mkdir("/package");
pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root }, "/package");
pyodide.runPython("import sys; sys.path.insert(0, '/package/app/py')");

for await (const line of createInterface({ input: process.stdin })) {
  const { program, blob, url, file } = JSON.parse(line);
  const globals = pyodide.toPy({ url });
  let answer;
  try {
    globals.set("blob", blob && (await openAsBlob(blob)));
    globals.set("file", file && (await openFileBlob(file)));
    pyodide.runPython(program, { globals });
    answer = { result: await pyodide.runPythonAsync("await main()", { globals }) };
  } catch (error) {
    answer = { error: error.message };
  }
  console.log(JSON.stringify(answer));
}
