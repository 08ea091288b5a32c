// How far a run is, for a person who looks elsewhere: the title and the icon of the tab.

import { computed } from "@preact/signals";
import { isRunning, phase, phaseProgress } from "../store/train";
import { verdict } from "../store/watch";
import { trainText, watchText } from "../text";
import { unseen } from "./notice";

const NAME = "LoRA Lab";
const COLOURS = { running: "#3246f5", done: "#1c8048", bad: "#b9273a", warned: "#c07a00" } as const; // on any tab

const percent = computed((): number | null => {
  const { done, total } = phaseProgress.value;
  return ["training", "stopping"].includes(phase.value) && total ? Math.floor((100 * done) / total) : null;
});

export const title = computed((): string => {
  const far = percent.value === null ? "" : `${percent.value} % · `;
  if (isRunning.value) return `${far}${trainText.phases[phase.value]} – ${NAME}`;
  if (!unseen.value) return NAME;
  const bad = verdict.value && (watchText.verdicts[verdict.value.kind] ?? watchText.looksBad);
  return `${phase.value === "error" ? trainText.phases.error : bad || watchText.titleDone} – ${NAME}`;
});

/** The icon as SVG: a ring that fills; "" for the page's own. */
export const icon = computed((): string => {
  if (!isRunning.value && !unseen.value) return "";
  const end = phase.value === "error" ? "bad" : verdict.value ? "warned" : "done";
  const colour = COLOURS[isRunning.value ? "running" : end];
  const part = isRunning.value ? (percent.value ?? 0) : 100;
  const ring = (more: string): string => `<circle cx="16" cy="16" r="12" fill="none" stroke-width="7" ${more}/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${ring('stroke="#9aa0ad" stroke-opacity=".45"')}`
    + `${ring(`stroke="${colour}" pathLength="100" stroke-dasharray="${part} 100" transform="rotate(-90 16 16)"`)}</svg>`;
});

/** Show both. Called by effects. */
export function showTitle(): void {
  document.title = title.value;
}

let own = ""; // the page's icon

export function showIcon(): void {
  const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  if (!link) return;
  own ||= link.href;
  const href = icon.value ? `data:image/svg+xml,${encodeURIComponent(icon.value)}` : own;
  if (link.href !== href) link.href = href;
}
