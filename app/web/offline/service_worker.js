// The service worker: keeps every file of one version of the site, checked, and answers with them. The build puts `SITE`
// before this (build_tools/offline.py):
//
//   SITE = { files: { NAME: [SHA256, BYTES] }, models: { ID: { NAME: [SHA256, BYTES] } }, headers: { NAME: VALUE } }
//
// A file is kept under its sha256, so that an update fetches what changed and no version sees another's files. A version is
// used when every file of it is here and was right; else the requests go where they would go without a service worker.
// Models are not kept twice: the page's own store has them (lora_lab/workers/storage/downloads.py), and is read here.
//
// What the page asks (offline.js), each with a port for the answer:
//   { type: "state" }        -> { whole, models: [ID, ...] }   whole: all files are here; models: whose files all are
//   { type: "take_over" }    -> { others }                     of the version that waits: it begins if no other tab is open

const SCOPE = new URL(self.registration.scope);
const STORE = `lora-lab ${SCOPE.pathname}`; // caches belong to the origin, which several sites may share
const AT_ONCE = 4;
const RULED = ["document", "iframe", "worker", "sharedworker"]; // what a response's policy counts for
const MODELS = Object.assign({}, ...Object.values(SITE.models));
let checked = null; // the answer to `isWhole`, until something is missed
let mending = null; // while what is missing is fetched anew

const keyOf = (sha256) => new URL(`.kept/${sha256}`, SCOPE).href;
const addressOf = (name) => new URL(name === "index.html" ? "./" : name, SCOPE); // some hosts send away from index.html

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const name = request.method === "GET" ? nameOf(request.url) : null;
  if (name === null) return;
  if (Object.hasOwn(SITE.files, name)) event.respondWith(answerFile(event, name));
  else if (Object.hasOwn(MODELS, name)) event.respondWith(answerModel(request, name));
});

self.addEventListener("message", (event) => {
  const answers = { state: tellState, take_over: takeOver };
  const answer = answers[event.data?.type];
  if (answer) event.waitUntil(answer(event).then((said) => event.ports[0]?.postMessage(said)));
});

/** The name that an address has in the site; null for what is not of it. */
function nameOf(url) {
  const { origin, pathname } = new URL(url);
  if (origin !== SCOPE.origin || !pathname.startsWith(SCOPE.pathname)) return null;
  try {
    return decodeURIComponent(pathname.slice(SCOPE.pathname.length)) || "index.html";
  } catch {
    return null;
  }
}

// -------------------------------------------------------------------------------------------------------- what is kept

/** Have every file of this version here. Fails as a whole where one cannot be had, or is another than it should be. */
async function keepAll() {
  const store = await caches.open(STORE);
  const missing = await missingFrom(store);
  const fetchSome = async () => {
    for (let name; (name = missing.pop());) await keep(store, name);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, fetchSome));
  // The version before may have tidied up just now.
  for (const name of await missingFrom(store)) await keep(store, name);
}

async function keep(store, name) {
  const [sha256, size] = SITE.files[name];
  // The page has just fetched most of them. What a cache on the way holds may be another version's, or an error of before.
  let found = "";
  for (const cache of ["force-cache", "reload"]) {
    const response = await fetch(addressOf(name), { cache, credentials: "same-origin" });
    const bytes = await response.arrayBuffer();
    found = `${bytes.byteLength} bytes of another content`;
    if (!response.ok) found = `an answer ${response.status}`;
    else if (bytes.byteLength === size && await digest(bytes) === sha256) {
      const headers = { "Content-Type": response.headers.get("Content-Type") ?? "application/octet-stream",
        "Content-Length": String(size), "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff" };
      return store.put(keyOf(sha256), new Response(bytes, { headers }));
    }
  }
  throw new Error(`${name}: found ${found}, wanted the ${size} bytes with the sha256 ${sha256}`);
}

/** The browser has thrown some away: until all are back it is as if none were kept, or versions could be mixed. */
function mend() {
  checked = Promise.resolve(false);
  mending ??= keepAll().then(() => { checked = null; }, () => {}).finally(() => { mending = null; });
  return mending;
}

async function digest(bytes) {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function missingFrom(store) {
  const kept = new Set((await store.keys()).map(({ url }) => url));
  return Object.keys(SITE.files).filter((name) => !kept.has(keyOf(SITE.files[name][0])));
}

async function isWhole() {
  checked ??= caches.open(STORE).then(missingFrom).then((missing) => missing.length === 0, () => false);
  return checked;
}

/** Remove what only versions before had. */
async function forgetOthers() {
  const store = await caches.open(STORE);
  const mine = new Set(Object.values(SITE.files).map(([sha256]) => keyOf(sha256)));
  for (const request of await store.keys()) if (!mine.has(request.url)) await store.delete(request);
}

// ----------------------------------------------------------------------------------------------------------- answers

async function answerFile(event, name) {
  const { request } = event;
  const kept = await isWhole() ? await (await caches.open(STORE)).match(keyOf(SITE.files[name][0])) : null;
  if (!kept) {
    if (request.mode === "navigate") event.waitUntil(mend()); // once for each opening of the page
    return fetch(request);
  }
  if (request.headers.has("Range")) return answerPart(await kept.blob(), kept.headers.get("Content-Type"), request);
  if (!RULED.includes(request.destination)) return kept;
  return new Response(kept.body, { headers: { ...Object.fromEntries(kept.headers), ...SITE.headers } });
}

async function answerModel(request, name) {
  const file = await keptModel(...MODELS[name]);
  return file ? answerPart(file, "application/octet-stream", request) : fetch(request);
}

/** A model's file in the page's own store, once it is whole and was found good; null else. */
async function keptModel(sha256, size) {
  try {
    const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
    const folder = await home.getDirectoryHandle("models");
    await folder.getFileHandle(`${sha256}.ok`);
    const file = await (await folder.getFileHandle(`${sha256}.part`)).getFile();
    return file.size === size ? file : null;
  } catch {
    return null; // it is not there, or the browser has no such store
  }
}

/** The whole, or the part that the request asks for (RFC 9110: several parts, or nonsense, may be answered by the whole). */
function answerPart(blob, type, request) {
  const headers = { "Content-Type": type, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff" };
  const range = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(request.headers.get("Range") ?? "");
  const [first, last] = range ? [range[1], range[2]] : ["", ""];
  const isRange = first ? !last || Number(last) >= Number(first) : last !== "";
  if (!isRange) return new Response(blob, { headers: { ...headers, "Content-Length": String(blob.size) } });
  const start = first ? Number(first) : Math.max(0, blob.size - Number(last));
  const end = first && last ? Math.min(blob.size, Number(last) + 1) : blob.size;
  if (start >= end) return new Response(null, { status: 416, headers: { ...headers, "Content-Range": `bytes */${blob.size}` } });
  const part = { "Content-Length": String(end - start), "Content-Range": `bytes ${start}-${end - 1}/${blob.size}` };
  return new Response(blob.slice(start, end), { status: 206, headers: { ...headers, ...part } });
}

// ------------------------------------------------------------------------------------------------ what the page asks

async function tellState() {
  if (!mending) checked = null; // the person may have emptied the browser's storage meanwhile
  const models = [];
  for (const [id, files] of Object.entries(SITE.models)) {
    const kept = await Promise.all(Object.values(files).map(([sha256, size]) => keptModel(sha256, size)));
    if (kept.every(Boolean)) models.push(id);
  }
  return { whole: await isWhole(), models };
}

/** Begin to answer, unless another tab shows the version before: its parts that are still to come must be of that one. */
async function takeOver({ source }) {
  const tabs = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const others = tabs.filter(({ id, url }) => id !== source?.id && nameOf(url) === "index.html").length;
  if (!others) await self.skipWaiting();
  return { others };
}
