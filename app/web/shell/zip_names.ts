// The names of a zip's files, from the list at its end: nothing is unpacked.

const END_BYTES = 22;
const MOST_COMMENT_BYTES = 0xffff;
const END = 0x06054b50; // "PK\5\6", the list's end
const ENTRY = 0x02014b50; // "PK\1\2", an entry of it
const ENTRY_BYTES = 46; // before its name

/** The names in a zip's list of files; [] where it has none that can be read. */
export async function zipNames(blob: Blob): Promise<string[]> {
  const tail = await viewOf(blob.slice(Math.max(0, blob.size - END_BYTES - MOST_COMMENT_BYTES)));
  for (let at = tail.byteLength - END_BYTES; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) !== END) continue;
    const [size, start] = [tail.getUint32(at + 12, true), tail.getUint32(at + 16, true)];
    return namesIn(await viewOf(blob.slice(start, start + size)));
  }
  return [];
}

const viewOf = async (part: Blob): Promise<DataView> => new DataView(await part.arrayBuffer());

function namesIn(list: DataView): string[] {
  const names: string[] = [];
  for (let at = 0; at + ENTRY_BYTES <= list.byteLength && list.getUint32(at, true) === ENTRY;) {
    const [name, extra, comment] = [list.getUint16(at + 28, true), list.getUint16(at + 30, true), list.getUint16(at + 32, true)];
    if (at + ENTRY_BYTES + name > list.byteLength) break;
    names.push(new TextDecoder().decode(new Uint8Array(list.buffer, list.byteOffset + at + ENTRY_BYTES, name)));
    at += ENTRY_BYTES + name + extra + comment;
  }
  return names;
}
