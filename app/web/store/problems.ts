// What went wrong and is shown in a box where it belongs, and short notices at the foot of the page.

import { signal } from "@preact/signals";

/** The places of the page that show problems; an element with this id stands there. */
export type Slot =
  | "setup-problem" | "dataset-problem" | "validation-problem" | "train-problem" | "adapter-problem" | "export-problem" | "compare-problem" | "chat-problem"
  | "runs-problem" | "sharing-problem";

export interface Action {
  readonly label: string;
  readonly run: () => void;
}

/** `message` may have several lines: the first says what is wrong, each further one is a point of it. */
export interface Shown {
  readonly message: string;
  readonly details?: string | null;
  readonly action?: Action;
  readonly isRemark?: boolean; // nothing is wrong, and it is good to know
}

/** The box of each slot. */
export const problems = signal<{ readonly [slot in Slot]?: Shown }>({});

/** Show a problem, or clear the slot with null. */
export function showProblem(slot: Slot, problem: Shown | null, action?: Action): void {
  if (!problem && !problems.peek()[slot]) return;
  const { [slot]: _, ...others } = problems.peek();
  problems.value = problem ? { ...others, [slot]: action ? { ...problem, action } : problem } : others;
}

/** Show what is good to know in a slot: a title, and a line a remark. */
export function showRemarks(slot: Slot, title: string, remarks: readonly string[]): void {
  showProblem(slot, { message: [title, ...remarks].join("\n"), isRemark: true });
}

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly action: Action | null;
  readonly lasts_ms: number;
}

export const toasts = signal<readonly Toast[]>([]);
let newest = 0;

/** A short notice that goes by itself, but not while the pointer or the focus is on it. */
export function toast(text: string, action: Action | null = null, lasts_ms = 8000): void {
  newest += 1;
  toasts.value = [...toasts.peek(), { id: newest, text, action, lasts_ms }];
}

export function closeToast(id: number): void {
  toasts.value = toasts.peek().filter((one) => one.id !== id);
}
