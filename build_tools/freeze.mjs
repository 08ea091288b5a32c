// Under Node: what a browser would do at each start of Python is done once, at build time.
//
//   node build_tools/freeze.mjs PYODIDE_FOLDER OUT_FOLDER WHEEL...
//
// Writes into OUT_FOLDER, both gzipped:
//   snapshot.bin   Pyodide's memory after its start and the import of PRELOADED
//   packages.bin   numpy and the wheels, installed by micropip, compiled to bytecode: a u32 length, JSON
//                  [[path in site-packages, size_bytes], ...] of that length, then the files one after another
//
// The same inputs give the same bytes (tests/unit/build_tools/test_same_bytes.py); gzip's are those of this Node's zlib.

import { ENVIRONMENT } from "./steady.mjs"; // first: whatever comes after it finds its clock

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { unpack } from "../app/web/worker/python.js";

const [folder, out, ...wheels] = process.argv.slice(2).map((name) => path.resolve(name));
const { loadPyodide } = await import(pathToFileURL(path.join(folder, "pyodide.mjs")));
const options = { indexURL: folder + path.sep, env: ENVIRONMENT };
const quiet = { messageCallback: () => {} };
// Of the standard library what numpy and the program import; jinja2 needs 0.2 s for its regular expressions. Nothing of
// the program itself, which changes more often than the rest, and nothing with compiled parts: a snapshot holds none.
const PRELOADED = [
  "__future__", "array", "ast", "asyncio", "base64", "bisect", "codecs", "collections.abc", "contextlib", "contextvars",
  "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch", "fractions", "functools", "hashlib",
  "heapq", "html", "importlib.metadata", "importlib.resources", "inspect", "io", "itertools", "json", "keyword",
  "linecache", "locale", "math", "numbers", "operator", "os", "pathlib", "pickle", "platform", "posixpath", "pprint",
  "random", "re", "secrets", "shutil", "statistics", "string", "struct", "tempfile", "textwrap", "threading", "time",
  "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid", "warnings", "weakref", "zipfile", "zlib",
  "jinja2", "jinja2.ext", "jinja2.sandbox",
];
const TEMPLATE_ENGINE = /^(jinja2|markupsafe)-/;

const put = (name, bytes) => writeFileSync(path.join(out, name), gzipSync(bytes, { level: 9 }));
const bytesOf = (file) => new Uint8Array(readFileSync(file));

async function snapshot() {
  const pyodide = await loadPyodide({ ...options, _makeSnapshot: true });
  for (const wheel of wheels.filter((name) => TEMPLATE_ENGINE.test(path.basename(name)))) {
    pyodide.FS.writeFile("/tmp/wheel.zip", bytesOf(wheel));
    pyodide.runPython("import shutil; shutil.unpack_archive('/tmp/wheel.zip', '/lib/python3.12/site-packages')");
  }
  pyodide.runPython(`
import importlib, sys
importlib.invalidate_caches()
for name in ${JSON.stringify(PRELOADED)}:
    if importlib.util.find_spec(name.split(".")[0]) is not None:  # Pyodide leaves a few parts of the library out
        importlib.import_module(name)
del importlib, sys
import gc
gc.collect()
del gc, shutil
`);
  return pyodide.makeMemorySnapshot();
}

async function packages() {
  const pyodide = await loadPyodide(options);
  await pyodide.loadPackage(["numpy", "micropip"], quiet);
  const addresses = wheels.map((wheel) => {
    pyodide.FS.writeFile(`/tmp/${path.basename(wheel)}`, bytesOf(wheel));
    return `emfs:/tmp/${path.basename(wheel)}`;
  });
  const micropip = pyodide.pyimport("micropip");
  await micropip.install.callKwargs(addresses, { deps: false });
  pyodide.globals.set("LEFT_OUT", pyodide.toPy(["micropip", "packaging"]));
  const names = pyodide.runPython(`
import py_compile, sysconfig
from pathlib import Path
from pyodide.ffi import to_js

site = Path(sysconfig.get_path("purelib")).resolve()
UNUSED = {"tests", "f2py", "distutils", "_pyinstaller", "__pycache__"}
names = []
for path in sorted(site.rglob("*")):
    inside = path.relative_to(site)
    package = inside.parts[0].split("-")[0]
    unused = UNUSED & set(inside.parts) or package in LEFT_OUT or path.suffix in {".pyi", ".a", ".h"}
    if not path.is_file() or unused:
        continue
    if path.suffix == ".py":
        own = package == "lora_lab"  # with its sources: an error's details show them
        target = path.parent / "__pycache__" / (path.stem + ".cpython-312.pyc") if own else path.with_suffix(".pyc")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(path), str(target), str(path), doraise=True, invalidation_mode=mode)
        names += [target.relative_to(site).as_posix()] + ([inside.as_posix()] if own else [])
    else:
        names.append(inside.as_posix())
to_js(names)
`);
  const root = pyodide.runPython("str(site)");
  const files = names.map((name) => [name, pyodide.FS.readFile(`${root}/${name}`)]);
  const header = new TextEncoder().encode(JSON.stringify(files.map(([name, bytes]) => [name, bytes.length])));
  const length = new Uint8Array(new Uint32Array([header.length]).buffer);
  return Buffer.concat([length, header, ...files.map(([, bytes]) => bytes)]);
}

// What the page will do with the two files, so that one that does not work stops the build and not a person.
async function proveThem(memory, packed) {
  const pyodide = await loadPyodide({ ...options, _loadSnapshot: memory });
  unpack(pyodide, packed);
  pyodide.runPython("import lora_lab.workers.train_worker, lora_lab.workers.chat_worker, numpy.linalg, numpy.random");
}

mkdirSync(out, { recursive: true });
const memory = await snapshot();
const packed = await packages();
await proveThem(memory, new Uint8Array(packed));
put("snapshot.bin", memory);
put("packages.bin", packed);
process.exit(0);
