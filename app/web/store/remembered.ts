// What this browser remembers of earlier visits: the newest few values by key, in localStorage. Nothing depends on it.

/** All that is remembered under a name, {key: value}. */
export function readRemembered(name: string): Record<string, unknown> {
  try {
    const all: unknown = JSON.parse(localStorage.getItem(name) ?? "{}");
    return all && typeof all === "object" ? (all as Record<string, unknown>) : {};
  } catch {
    return {}; // no storage here, or something else wrote there
  }
}

/** Remember a value as the newest of at most `most`; null or "" forgets the key. */
export function remember(name: string, key: string, value: unknown, most: number): void {
  const entries = Object.entries(readRemembered(name)).filter(([other]) => other !== key).slice(1 - most);
  if (value) entries.push([key, value]);
  try {
    localStorage.setItem(name, JSON.stringify(Object.fromEntries(entries)));
  } catch {} // not remembered then
}
