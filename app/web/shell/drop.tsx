// Files that are dropped anywhere: each goes where it belongs.

import type { NamedBlob } from "../protocol";
import { pageText } from "../text";
import { dragging, useDropAnywhere, type Use } from "./files";

export type Take = (use: Use, files: NamedBlob[]) => void;

export function DropVeil({ take }: { take: Take }) {
  useDropAnywhere(take);
  return <div class="drop-veil" id="drop-veil" hidden={!dragging.value}><p>{pageText.dropAnywhere}</p></div>;
}
