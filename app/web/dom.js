// Small helpers for the page's elements and for numbers as people read them.

export const byId = (id) => document.getElementById(id);

/** Make an element: create("button", {class: "quiet", onclick}, "text", child). Text is always text, never HTML. */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** An icon of icons.html. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Set an element's text, touching the page only when it changed (a live region speaks at each change). */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const units = ["bytes", "kB", "MB", "GB", "TB"];

export function formatBytes(bytes) {
  let value = bytes, unit = 0;
  while (value >= 999.5 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`;
}

export function formatTime(ms) {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
}

export const formatCount = (number) => Math.round(number).toLocaleString("en-US");

export function formatRate(rate) {
  return rate >= 100 ? formatCount(rate) : rate >= 10 ? rate.toFixed(1) : rate.toFixed(2);
}

export const formatLoss = (loss) => (loss >= 100 ? loss.toFixed(1) : loss.toFixed(4));

export function formatDate(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const days = Math.floor((Date.now() - date) / 86400000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (days < 1 && date.getDate() === new Date().getDate()) return `today ${time}`;
  return date.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/** Give the person a file. */
export function saveFile(name, data, type = "application/zip") {
  const url = URL.createObjectURL(new Blob([data], { type }));
  const link = create("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or not a secure context
  }
}
