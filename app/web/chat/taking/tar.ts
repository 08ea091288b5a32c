// Several files as one download: a tar (ustar), whose parts stay where they are. It needs no sum over their bytes as a zip
// does, so gigabytes are downloaded without being read here.

import type { NamedBlob } from "../../protocol";

const BLOCK = 512;
const MOST_OCTAL = 8 ** 11;

/** Return the files as one tar, in a folder of this name. */
export function tarOf(folder: string, files: readonly NamedBlob[], now_ms: number): Blob {
  const parts: BlobPart[] = [];
  for (const { name, blob } of files) {
    const { size } = blob as Blob;
    parts.push(header(`${folder}/${name}`, size, now_ms), blob as Blob, new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

/** Return a file's block. Names may have 100 bytes; a size of 8 GiB and more is written as GNU's tar does. */
export function header(name: string, size: number, now_ms: number): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, text: string): void => block.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number): string => `${Math.floor(value).toString(8).padStart(digits, "0")}\0`;
  if (new TextEncoder().encode(name).length > 100) throw new Error(`${name} is too long a name for a tar; wanted at most 100 bytes`);
  put(0, name);
  put(100, octal(0o644, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  if (size < MOST_OCTAL) put(124, octal(size, 11));
  else for (let at = 135, rest = size; at >= 124; at -= 1, rest = Math.floor(rest / 256)) block[at] = at === 124 ? 0x80 : rest % 256;
  put(136, octal(now_ms / 1000, 11));
  put(148, " ".repeat(8)); // what the sum is made with
  put(156, "0");
  put(257, "ustar\0" + "00");
  put(148, `${block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0")}\0 `);
  return block;
}
