// How the page is looked at: which panel a phone shows, light or dark, how much of the settings.

import { effect, signal } from "@preact/signals";

export type Tab = "data" | "train" | "chat";
export type Theme = "auto" | "light" | "dark";

/** The panel that a narrow window shows; a wide one shows all of them. */
export const tab = signal<Tab>("data");
export const theme = signal<Theme>("auto");

const KEPT = "lora-lab look"; // localStorage: {theme, settings}
interface Look {
  readonly theme?: Theme;
  readonly settings?: "open" | "line";
}

/** What the person chose another time. */
export function readLook(): Look {
  try {
    return (JSON.parse(localStorage.getItem(KEPT) ?? "{}") as Look | null) ?? {};
  } catch {
    return {}; // no storage here, or something else wrote there
  }
}

export function keepLook(look: Look): void {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ ...readLook(), ...look }));
  } catch {} // it is as it comes next time
}

/** Tie the page's own element to this. Called once, when the page begins. */
export function setUpLook(): void {
  const kept = readLook().theme;
  if (kept === "light" || kept === "dark") theme.value = kept;
  effect(() => {
    document.body.dataset.tab = tab.value;
  });
  effect(() => {
    if (theme.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
  });
}

const NEXT = { auto: "light", light: "dark", dark: "auto" } as const;

export function nextTheme(): void {
  theme.value = NEXT[theme.peek()];
  keepLook({ theme: theme.peek() });
}
