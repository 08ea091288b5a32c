// Numbers as people read them.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(2)} ${UNITS[unit]}`;
}

export function formatTime(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
}

export const formatCount = (number: number): string => Math.round(number).toLocaleString("en-US");

/** "1 row", "2 rows". */
export const formatNumber = (number: number, word: string): string => `${formatCount(number)} ${word}${number === 1 ? "" : "s"}`;

export function formatRate(rate: number): string {
  return rate >= 100 ? formatCount(rate) : rate >= 10 ? rate.toFixed(1) : rate.toFixed(2);
}

export const formatLoss = (loss: number): string => (loss >= 100 ? loss.toFixed(1) : loss.toFixed(4));

/** A loss in a sentence: 2.91, 0.048. */
export const shortLoss = (loss: number): string => (loss >= 0.1 || loss === 0 ? loss.toFixed(2) : loss.toFixed(3));

/** A difference with its sign: +0.64, −0.02. */
export const formatChange = (change: number): string => `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(2)}`;

/** A learning rate as people write it: 2e-4. */
export const formatLearningRate = (rate: number): string => rate.toExponential().replace(/e([+-])0?/, "e$1").replace("e+", "e");

export function formatDate(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  const days = Math.floor((Date.now() - date.getTime()) / 86400000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (days < 1 && date.getDate() === new Date().getDate()) return `today ${time}`;
  return date.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/** A sentence's first letter large. */
export const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** A perplexity: as precise as it means something. */
export const formatPerplexity = (value: number): string =>
  !Number.isFinite(value) ? "∞" : value >= 1e6 ? value.toExponential(1).replace("e+", "e") : value >= 100 ? formatCount(value) : value.toPrecision(3);

/** A share of 0 to 1. */
export const formatPercent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** The hour of a time (ms as Date.now()), with the day where it is another one. */
export function formatHour(ms: number): string {
  const date = new Date(ms);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })} ${time}`;
}
