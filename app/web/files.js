// Files and folders that are dropped or chosen, as lists of {name, blob}; and which of three uses they are for.

import { byId } from "./dom.js";

/** The files of an <input>, with the folder part of their names where there is one. */
export const fromInput = (input) =>
  [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, blob: file }));

/** The files of a drop, folders walked through. */
export async function fromDrop(transfer) {
  // Entries must be taken before the first await: the transfer is empty afterwards.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ name: file.name, blob: file }));
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

async function walk(entry, folder) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ name: folder + file.name, blob: file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at once
    if (!some.length) break;
    found.push(...some);
  }
  const inside = found.filter((child) => !child.name.startsWith("."));
  return (await Promise.all(inside.map((child) => walk(child, `${folder}${entry.name}/`)))).flat();
}

/** "model", "adapter" or "dataset", by the names of the files. */
export function useOf(files) {
  const names = files.map(({ name }) => name.toLowerCase().split("/").pop());
  const has = (test) => names.some((name) => test.test(name));
  if (has(/^(adapter_config\.json|adapter_model\.safetensors|adapters\.safetensors)$/) || (names.length === 1 && has(/\.zip$/))) return "adapter";
  if (has(/\.gguf$/) || has(/\.safetensors$/) || has(/^config\.json$/)) return "model";
  return "dataset";
}

/** Make `zone` take drops, and its <input> choices; `take(files)` gets them. */
export function dropZone(zone, input, take) {
  input?.addEventListener("change", () => {
    const files = fromInput(input);
    input.value = ""; // so that choosing the same file again is a change too
    if (files.length) take(files);
  });
  let depth = 0;
  const mark = (change) => (event) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0 && hasFiles(event));
  };
  zone.addEventListener("dragenter", mark(1));
  zone.addEventListener("dragleave", mark(-1));
  zone.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    zone.classList.remove("over");
    hideVeil();
    const files = await fromDrop(event.dataTransfer);
    if (files.length) take(files);
  });
}

const hasFiles = (event) => event.dataTransfer?.types?.includes("Files");
let hideVeil = () => {};

/** Let files be dropped anywhere on the page. `take(use, files)`. */
export function dropAnywhere(take) {
  const veil = byId("drop-veil");
  let timer;
  hideVeil = () => (veil.hidden = true);
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
    clearTimeout(timer); // dragover comes several times a second for as long as the drag is over the page
    timer = setTimeout(hideVeil, 400);
  });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    hideVeil();
    const files = await fromDrop(event.dataTransfer);
    if (files.length) take(useOf(files), files);
  });
}
