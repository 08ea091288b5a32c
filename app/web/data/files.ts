// Files of a dataset before they are read: which of a folder's can be data, several together, pasted text as one of them.

import type { NamedBlob } from "../protocol";
import type { Asked } from "../store/data";
import { showProblem } from "../store/problems";
import { dataText } from "../text";

const READABLE = /\.(jsonl|ndjson|json|csv|tsv|tab|txt|md|gz)$/i;
/** What an <input> for data accepts. */
export const ENDINGS = ".jsonl,.ndjson,.json,.csv,.tsv,.tab,.txt,.md,.gz,application/x-ndjson,application/jsonl";

/** Files of a drop that may be data. Those dropped by themselves all are: their content decides; of a folder's, the
    names do. `[]` when nothing is left, after a word about it. */
export function readable(files: readonly NamedBlob[]): readonly NamedBlob[] {
  const good = files.filter(({ name, blob }) => !name.includes("/") || (READABLE.test(name) && blob.size > 0));
  if (!good.length) showProblem("dataset-problem", { message: dataText.nothingReadable(files.map(({ name }) => name.split("/").pop() ?? "")) });
  return good;
}

/** Pasted text as a file among others. */
export const pasted = (text: string): NamedBlob => ({ name: dataText.pastedText, blob: new Blob([text], { type: "text/plain" }) });

/** What was asked for, as files; the sample is fetched. */
export async function filesOf({ files, text, sample }: Asked): Promise<readonly NamedBlob[]> {
  if (!sample) return files ?? [pasted(text ?? "")];
  const name = `${sample}.jsonl`;
  const answer = await fetch(`samples/${name}`).catch(() => {
    throw new Error(dataText.noAnswer(name));
  });
  if (!answer.ok) throw new Error(dataText.serverAnswered(name, answer.status));
  return [{ name, blob: await answer.blob() }];
}

/** Files and those of `more` that are not among them. */
export function merge(files: readonly NamedBlob[], more: readonly NamedBlob[]): readonly NamedBlob[] {
  const dated = ({ blob }: NamedBlob): number => (blob instanceof File ? blob.lastModified : 0);
  const same = (one: NamedBlob, other: NamedBlob): boolean =>
    one.name === other.name && one.blob.size === other.blob.size && dated(one) === dated(other) && one.blob.type === other.blob.type;
  return [...files, ...more.filter((file) => !dated(file) || !files.some((other) => same(file, other)))];
}
