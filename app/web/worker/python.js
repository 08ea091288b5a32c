// Starts Python in a worker: Pyodide with numpy, jinja2 and the program, ready to be imported.
//
// The site holds Python as it stands after its start (start/snapshot-*.bin) and all packages as bytecode in one file
// (start/packages-*.bin; build_tools/freeze.mjs makes both), which takes a fraction of the time. Where a browser does
// not get along with them, the same is done the long way, from the wheels.

const SITE = new URL("../../", import.meta.url);
const PYODIDE = new URL("pyodide/", SITE).href;
const QUIET = { messageCallback: () => {} };

/** Return Pyodide. `boot(done)` hears how many of the three phases are over, `phase(name, start)` how long a part took. */
export async function startPython(boot, phase) {
  let begun = performance.now();
  const done = (name) => {
    phase(name, begun);
    begun = performance.now();
  };
  // Everything is asked for at once: Pyodide itself would ask for its parts one after another.
  const names = fetchJson("start/index.json");
  const frozen = [names.then(({ snapshot }) => fetchUnzipped(snapshot)), names.then(({ packages }) => fetchUnzipped(packages))];
  for (const part of frozen) part.catch(() => {}); // looked at below
  const [{ loadPyodide }] = await Promise.all([
    import(new URL("pyodide.mjs", PYODIDE)),
    import(new URL("pyodide.asm.js", PYODIDE)), // Pyodide looks for what it defines before it loads it itself
  ]);
  done("scripts");
  try {
    const pyodide = await loadPyodide({ indexURL: PYODIDE, _loadSnapshot: frozen[0] });
    done("runtime");
    boot(1);
    unpack(pyodide, await frozen[1]);
    done("packages");
    boot(2);
    return pyodide;
  } catch (error) {
    console.warn("Python is started the long way:", error);
    return startTheLongWay(loadPyodide, boot, done);
  }
}

async function startTheLongWay(loadPyodide, boot, done) {
  const wheels = await fetchJson("wheels/index.json");
  const pyodide = await loadPyodide({ indexURL: PYODIDE });
  done("runtime");
  boot(1);
  await pyodide.loadPackage(["numpy", "micropip"], QUIET);
  const micropip = pyodide.pyimport("micropip");
  const addresses = wheels.wheels.map((name) => new URL(`wheels/${name}`, SITE).href);
  // The wheels are the whole set already: nothing may be looked up anywhere else.
  await micropip.install.callKwargs(addresses, { deps: false });
  micropip.destroy();
  done("packages");
  boot(2);
  return pyodide;
}

/** Put the files of packages.bin where Python looks for packages. The file system keeps views of `bytes`, no copies. */
export function unpack(pyodide, bytes) {
  const headerSize = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const files = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerSize)));
  const root = pyodide.runPython("import os, sysconfig; os.path.realpath(sysconfig.get_path('purelib'))");
  const made = new Set();
  let offset = 4 + headerSize;
  for (const [name, size] of files) {
    const slash = name.lastIndexOf("/");
    const folder = slash < 0 ? root : `${root}/${name.slice(0, slash)}`;
    if (!made.has(folder)) pyodide.FS.mkdirTree(folder);
    made.add(folder);
    pyodide.FS.createDataFile(folder, name.slice(slash + 1), bytes.subarray(offset, offset + size), true, true, true);
    offset += size;
  }
  // The snapshot's generator of random numbers is everyone's, and its idea of the folders is older than their files.
  pyodide.runPython("import importlib, random; random.seed(); importlib.invalidate_caches()");
}

async function fetchUnzipped(path) {
  const response = await fetchPart(`start/${path}`);
  const unzipped = new Response(response.body.pipeThrough(new DecompressionStream("gzip")));
  return new Uint8Array(await unzipped.arrayBuffer());
}

async function fetchJson(path) {
  return (await fetchPart(path)).json();
}

async function fetchPart(path) {
  const response = await fetch(new URL(path, SITE));
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status} ${response.statusText}`);
  return response;
}
