// A file of the host as lora_lab's BlobSource reads one: `size`, and slices by way of arrayBuffer(). Node's own Blobs of
// files end at 4 GiB (their size wraps round), and files that are mounted into Pyodide at 2, where its C long does.

import { open, stat } from "node:fs/promises";

export async function openFileBlob(path) {
  const { size } = await stat(path);
  const slice = (begin, end) => ({ arrayBuffer: () => readRange(path, begin, Math.min(end, size)) });
  return { size, slice };
}

async function readRange(path, begin, end) {
  const bytes = new Uint8Array(Math.max(0, end - begin));
  const file = await open(path);
  try {
    for (let done = 0; done < bytes.length;) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, begin + done);
      if (!bytesRead) throw new Error(`${path} ended at byte ${begin + done}`);
      done += bytesRead;
    }
  } finally {
    await file.close();
  }
  return bytes.buffer;
}
