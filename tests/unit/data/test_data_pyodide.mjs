// Runs one Python program in Pyodide under Node as the worker would: the package, numpy, jinja2 and markupsafe and
// nothing else, and @huggingface/tokenizers on globalThis.loraLabTokenizers.
// Arguments: Pyodide's folder, the tokenizers' module, the folder of the package, the wheels. Standard input: JSON
// {program, input}; the program sees `input` (a string) and defines main(). Prints {result} or {error}.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [indexURL, tokenizers, root, ...wheels] = process.argv.slice(2);
const { program, input } = JSON.parse(readFileSync(0, "utf8"));
globalThis.loraLabTokenizers = await import(pathToFileURL(tokenizers).href);
const { loadPyodide } = await import(pathToFileURL(`${indexURL}/pyodide.mjs`).href);
const pyodide = await loadPyodide({ indexURL });
for (const wheel of wheels) await pyodide.loadPackage(wheel, { messageCallback: () => {}, checkIntegrity: false });
pyodide.FS.mkdir("/package");
pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root }, "/package");
pyodide.runPython("import sys; sys.path.insert(0, '/package')");
const globals = pyodide.toPy({ input });

// A macrotask of JavaScript's own; it runs only while Python lets the event loop have its turn.
globalThis.ticks = 0;
const clock = setInterval(() => (globalThis.ticks += 1), 1);
let answer;
try {
  pyodide.runPython(program, { globals });
  answer = { result: JSON.parse(await pyodide.runPythonAsync("await main()", { globals })) };
} catch (error) {
  answer = { error: error.message };
}
clearInterval(clock);
process.stdout.write(`\n${JSON.stringify(answer)}\n`);
