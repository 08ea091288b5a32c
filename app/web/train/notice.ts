// A notification when a run is over, for a person who looks elsewhere. The browser is asked only by a press.

import { signal } from "@preact/signals";
import { verdict } from "../store/watch";
import { watchText } from "../text";

export type Allowed = NotificationPermission | "missing";
const now = (): Allowed => (typeof Notification === "undefined" ? "missing" : Notification.permission);

export const allowed = signal<Allowed>(now());
export const refused = signal(false); // the person wanted it, and the browser lets the page not
export const wanted = signal(false); // for the run that goes on
export const unseen = signal(false); // a run was over while the person looked elsewhere: the title says so
const isSeen = (): boolean => typeof document === "undefined" || document.visibilityState === "visible";

/** Called once, when the page begins. */
export function setUpNotice(): void {
  document.addEventListener("visibilitychange", () => {
    if (isSeen()) unseen.value = false;
  });
}

/** The person wants it, or no longer. */
export async function wantNotice(): Promise<void> {
  if (wanted.peek()) {
    wanted.value = false;
    return;
  }
  if (now() === "default") await Notification.requestPermission();
  allowed.value = now();
  wanted.value = allowed.peek() === "granted";
  refused.value = !wanted.peek();
}

/** The run is over: say so once, unless the person sees it. */
export function tellEnd(state: "done" | "error"): void {
  const isWanted = wanted.peek();
  wanted.value = false;
  if (isSeen()) return;
  unseen.value = true;
  if (!isWanted) return;
  const words = watchText.notice(state, verdict.peek()?.kind ?? null);
  try {
    const shown = new Notification(words.title, { body: words.body, icon: "assets/icons/any-192.png", tag: "lora-lab-run" });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  } catch {} // a browser of phones that only shows those of a service worker
}
