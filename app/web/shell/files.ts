// Files and folders that are dropped or chosen, as lists of {name, blob}; and which of three uses they are for.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { NamedBlob } from "../protocol";
import { zipNames } from "./zip_names";

/** The files of an <input>, with the folder part of their names where there is one. */
export const fromInput = (input: HTMLInputElement): NamedBlob[] =>
  [...(input.files ?? [])].map((file) => ({ name: file.webkitRelativePath || file.name, blob: file }));

/** The files of a drop, folders walked through. */
export async function fromDrop(transfer: DataTransfer): Promise<NamedBlob[]> {
  // Entries must be taken before the first await: the transfer is empty afterwards.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  if (!entries.length) return [...transfer.files].map((file) => ({ name: file.name, blob: file }));
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

async function walk(entry: FileSystemEntry, folder: string): Promise<NamedBlob[]> {
  if (entry.isFile) {
    const one = entry as FileSystemFileEntry;
    const file = await new Promise<File>((resolve, reject) => one.file(resolve, reject));
    return [{ name: folder + file.name, blob: file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100
    if (!some.length) break;
    found.push(...some);
  }
  const inside = found.filter((child) => !child.name.startsWith("."));
  return (await Promise.all(inside.map((child) => walk(child, `${folder}${entry.name}/`)))).flat();
}

/** What files are for. */
export type Use = "model" | "adapter" | "dataset";

const ADAPTER = /^(adapter_config\.json|adapter_model\.safetensors|adapters\.safetensors)$/;
const DATA = /\.(jsonl|ndjson|json|csv|tsv|tab|txt|md)$/;
const barely = (name: string): string => name.toLowerCase().split("/").pop() ?? "";
const isZip = (files: readonly NamedBlob[]): boolean => files.length === 1 && barely(files[0]!.name).endsWith(".zip");

/** What files are for, by their names; of one zip, by the names in it. */
export function useOf(files: readonly NamedBlob[], inZip: readonly string[] = []): Use {
  const names = files.map(({ name }) => barely(name));
  const has = (test: RegExp): boolean => names.some((name) => test.test(name));
  if (isZip(files)) return holdsData(inZip.map(barely)) ? "dataset" : "adapter";
  if (has(ADAPTER)) return "adapter";
  if (has(/\.gguf$/) || has(/\.safetensors$/) || has(/^config\.json$/)) return "model";
  return "dataset";
}

/** Whether a zip holds data and nothing of an adapter. A list that cannot be read is the adapters' to complain about. */
const holdsData = (names: readonly string[]): boolean =>
  names.some((name) => DATA.test(name)) && !names.some((name) => ADAPTER.test(name) || /\.(gguf|safetensors)$/.test(name));

/** The same, with a look into a zip. */
export const useOfFiles = async (files: readonly NamedBlob[]): Promise<Use> =>
  useOf(files, isZip(files) ? await zipNames(files[0]!.blob) : []);

const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types?.includes("Files") ?? false;

/** Whether files are being dragged over the page. */
export const dragging = signal(false);

interface DropProps {
  readonly class: string;
  onDragEnter(event: DragEvent): void;
  onDragLeave(event: DragEvent): void;
  onDrop(event: DragEvent): void;
}

/** The attributes of an element of class `name` that takes drops; `take(files)` gets them. */
export function useDrop(name: string, take: (files: NamedBlob[]) => void): DropProps {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const mark = (change: number) => (event: DragEvent) => {
    depth.current = Math.max(0, depth.current + change);
    setOver(depth.current > 0 && hasFiles(event));
  };
  return {
    class: over ? `${name} over` : name,
    onDragEnter: mark(1),
    onDragLeave: mark(-1),
    onDrop: (event) => {
      if (!hasFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      event.stopPropagation();
      depth.current = 0;
      setOver(false);
      dragging.value = false;
      void fromDrop(event.dataTransfer).then((files) => files.length && take(files));
    },
  };
}

/** The handler of an <input type="file">; `take(files)` gets what was chosen. */
export const onChoice = (take: (files: NamedBlob[]) => void) => (event: Event): void => {
  const input = event.currentTarget as HTMLInputElement;
  const files = fromInput(input);
  input.value = ""; // so that choosing the same file again is a change too
  if (files.length) take(files);
};

/** Let files be dropped anywhere on the page. */
export function useDropAnywhere(take: (use: Use, files: NamedBlob[]) => void): void {
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const over = (event: DragEvent): void => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      dragging.value = true;
      clearTimeout(timer); // dragover comes several times a second for as long as the drag is over the page
      timer = setTimeout(() => (dragging.value = false), 400);
    };
    const drop = (event: DragEvent): void => {
      if (!hasFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      dragging.value = false;
      void fromDrop(event.dataTransfer).then(async (files) => files.length && take(await useOfFiles(files), files));
    };
    addEventListener("dragover", over);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("drop", drop);
    };
  }, []);
}
