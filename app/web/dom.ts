// What a component cannot say as state: files for the person, the clipboard, the focus, what is in view.

import { tab } from "./store/shell";

/** The element of an id that the page always has. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
}

/** Give the person a file. */
export function saveFile(name: string, data: BlobPart, type = "application/zip"): void {
  const url = URL.createObjectURL(new Blob([data], { type }));
  const link = document.createElement("a");
  [link.href, link.download] = [url, name];
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** Whether the text went to the clipboard; false without permission, or where the context is not secure.
 *
 * A text that is still to come is handed over as such: the press that asked for it must not be forgotten meanwhile.
 */
export async function copyText(text: string | Promise<string>): Promise<boolean> {
  try {
    if (typeof text === "string" || !("ClipboardItem" in globalThis)) await navigator.clipboard.writeText(await text);
    else await navigator.clipboard.write([new ClipboardItem({ "text/plain": text.then((one) => new Blob([one], { type: "text/plain" })) })]);
    return true;
  } catch {
    return false;
  }
}

/** Move the focus once the page shows what has changed; to the first of the ids that is there and can have it. */
export function focusNext(...ids: string[]): void {
  setTimeout(() => {
    const found = ids.map((id) => document.getElementById(id)).find((one) => one?.checkVisibility() && !one.matches(":disabled"));
    found?.focus({ preventScroll: true });
  });
}

/** Whether the focus stands on something that can be seen. */
export const hasVisibleFocus = (): boolean =>
  document.activeElement !== document.body && (document.activeElement?.checkVisibility() ?? false);

export const wantsStill = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** On a narrow window: show the panel that a part of the page is in. */
export function bringToFront(id: string): void {
  const panel = byId(id).closest(".panel")?.id;
  if (panel) tab.value = panel === "data" || panel === "train" ? panel : "chat";
}

/** Bring a part of the page into view; on a narrow window also the panel that it is in. */
export function scrollTo(id: string, block: ScrollLogicalPosition = "start"): void {
  bringToFront(id);
  byId(id).scrollIntoView({ block, behavior: wantsStill() ? "auto" : "smooth" });
}
