// Every kind of rejection, and of throwing, awaited by Python through lora_lab/javascript.py in Pyodide under Node.
// Arguments: the folder of Pyodide, the folder `app`. Prints what Python made of each as JSON.
import { pathToFileURL } from "node:url";

const [indexURL, app] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${indexURL}/pyodide.mjs`).href);
const { settledCall } = await import(pathToFileURL(`${app}/web/worker/calls.js`).href);
process.on("unhandledRejection", () => {}); // of the control

// As newer browsers have it: neither an Error nor a DOMException of old.
class QuotaExceededError {
  name = "QuotaExceededError";
  message = "full up";
  get [Symbol.toStringTag]() { return "QuotaExceededError"; }
}
const reasons = { quota: new QuotaExceededError(), nothing: undefined, null: null, text: "text", number: 7, error: new TypeError("plain") };
globalThis.loraLabCall = settledCall;
globalThis.rejecting = Object.fromEntries(Object.entries(reasons).map(([name, reason]) => [name, () => Promise.reject(reason)]));
globalThis.throwing = Object.fromEntries(Object.entries(reasons).map(([name, reason]) => [name, () => { throw reason; }]));
globalThis.five = { get: async () => 5 };

const pyodide = await loadPyodide({ indexURL });
pyodide.FS.mkdir("/package");
pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root: `${app}/py` }, "/package");
console.log(await pyodide.runPythonAsync(`
import asyncio, json, sys, types
package = types.ModuleType("lora_lab")
package.__path__ = ["/package/lora_lab"]
sys.modules["lora_lab"] = package
import js
from lora_lab.javascript import JsError, call

async def told(target):
    found = {}
    for name in ("quota", "nothing", "null", "text", "number", "error"):
        try:
            await asyncio.wait_for(call(target, name), 10)
        except JsError as error:
            found[name] = [error.name, error.message]
        except BaseException as error:
            found[name] = repr(error)
    return found

async def plain():
    await js.rejecting.quota()

answers = {"thrown": await told(js.throwing), "rejected": await told(js.rejecting), "value": await call(js.five, "get")}
waiting = asyncio.ensure_future(plain())
await asyncio.sleep(1)
answers["plain await of a QuotaExceededError"] = "ended" if waiting.done() else "never ended"
json.dumps(answers)
`));
process.exit(0);
