// Settings on their way: of the form or a run as a link, a file, a command; of a run, a file or a link into the form.
//
// Python reads and writes them. Each question bears a number; a failure bears none, and counts for all that wait.

import { signal } from "@preact/signals";
import { scrollTo } from "../../dom";
import { train } from "../../link/workers";
import type { SettingsShared, SettingsTaken, TakeSettingsGiven } from "../../protocol";
import { closeRuns, isOpen } from "../../runs/runs";
import type { Area } from "../../store/bus";
import { showProblem, showRemarks, toast, type Slot } from "../../store/problems";
import { fieldProblems, putSettings, readSettings } from "../../store/settings";
import { isRunning } from "../../store/train";
import { common, sharingText } from "../../text";
import { planNow } from "../plan";

type Place = Extract<Slot, "runs-problem" | "sharing-problem">;
type From = Pick<TakeSettingsGiven, "id" | "text" | "link" | "name">;
interface Waiting {
  readonly take?: (event: SettingsTaken) => void;
  readonly share?: (event: SettingsShared) => void;
  readonly fail: (message: string, details: string | null) => void;
}
const waiting = new Map<number, Waiting>();
let request = 0;

function wait(one: Waiting): number {
  request += 1;
  waiting.set(request, one);
  return request;
}

const showIn = (slot: Place) => (message: string, details: string | null): void => showProblem(slot, { message, details });

// ------------------------------------------------------------------------------------------------------- out of the page

/** Whose settings are shared: a run's, or those of the form as it stands. */
export type Shared = { readonly id: string } | "form";

/** Ask for settings as a link's end, a file and a command. It fails where they cannot be used; `slot` says why then. */
export function share(of: Shared, slot: Place): Promise<SettingsShared> {
  showProblem(slot, null);
  const settings = of === "form" ? readSettings() : null;
  return new Promise((resolve, reject) => {
    if (of === "form" && !settings) return reject(new Error("a field is just being filled in, and says so"));
    const number = wait({ share: resolve, fail: (message, details) => {
      showIn(slot)(message, details);
      reject(new Error(message));
    } });
    train.send("share_settings", of === "form" ? { settings, request: number } : { id: of.id, request: number });
  });
}

/** The address of this page with settings behind its #. */
export const linkTo = (fragment: string): string => `${location.origin}${location.pathname}${location.search}#${fragment}`;

// ------------------------------------------------------------------------------------------------------ into the form

/** Ask Python for settings, for the form as it stands. */
function take(from: From, then: (event: SettingsTaken) => void, fail: Waiting["fail"]): void {
  train.send("take_settings", { ...from, current: readSettings(), request: wait({ take: then, fail }) });
}

/** Put settings into the form; what was there comes back at a press. */
function put({ settings, remarks, problems }: SettingsTaken, name: string): void {
  if (isRunning.peek()) return toast(sharingText.notDuringRun);
  const undo = putSettings(settings);
  planNow();
  fieldProblems.value = problems;
  showProblem("sharing-problem", null);
  if (remarks.length) showRemarks("sharing-problem", sharingText.remarks(name), remarks);
  toast(sharingText.used(name), { label: common.undo, run: () => {
    if (isRunning.peek()) return toast(sharingText.notDuringRun);
    undo();
    planNow();
    showProblem("sharing-problem", null);
    toast(sharingText.asBefore);
  } });
  scrollTo("train");
}

/** Use a run's settings again. */
export function useRunSettings({ id, name }: { readonly id: string; readonly name: string }): void {
  if (isRunning.peek()) return toast(sharingText.notDuringRun);
  const slot = isOpen.peek() ? "runs-problem" : "sharing-problem";
  showProblem(slot, null);
  take({ id }, (event) => {
    closeRuns();
    put(event, name);
  }, showIn(slot));
}

/** Use the settings of a file. */
export async function loadSettings(files: readonly { readonly name: string; readonly blob: Blob }[]): Promise<void> {
  const file = files[0];
  if (!file) return;
  if (isRunning.peek()) return toast(sharingText.notDuringRun);
  showProblem("sharing-problem", null);
  const { name } = file;
  try {
    const text = await file.blob.text();
    take({ text, name }, (event) => put(event, name), showIn("sharing-problem"));
  } catch {
    showProblem("sharing-problem", { message: sharingText.unreadable(name) });
  }
}

// ---------------------------------------------------------------------------------------------------- with the address

/** Settings that the page's address has brought, and that nobody has yet decided on: what they are, or why they are none. */
export interface Brought {
  readonly link: string;
  readonly taken: SettingsTaken | null;
  readonly problem: string;
}
export const brought = signal<Brought | null>(null);
const BEGINNING = "#settings=";

/** Look whether the address brings settings. Called once, when the page begins. */
export function setUpSharing(): void {
  lookAtAddress();
  addEventListener("hashchange", lookAtAddress);
}

function lookAtAddress(): void {
  const link = location.hash;
  if (!link.startsWith(BEGINNING)) return;
  brought.value = { link, taken: null, problem: "" };
  const change = (changes: Partial<Brought>): void => {
    if (brought.peek()?.link === link) brought.value = { ...brought.peek()!, ...changes };
  };
  take({ link }, (taken) => change({ taken }), (problem) => change({ problem }));
}

/** The person has decided: the settings go into the form, or nowhere; the address forgets them. */
export function decide(isUsed: boolean): void {
  const now = brought.peek();
  if (!now || (isUsed && isRunning.peek())) return;
  brought.value = null;
  history.replaceState(history.state, "", location.pathname + location.search);
  // Asked once more: the model or the rest of the form may have come meanwhile.
  if (isUsed) take({ link: now.link }, (event) => put(event, sharingText.theLink), showIn("sharing-problem"));
}

const forget = (): void => {
  for (const one of [...waiting.values()]) one.fail(sharingText.notAnswered, null);
  waiting.clear();
};

export const sharingArea: Area = {
  train: {
    settings_shared: (event) => {
      waiting.get(event.request)?.share?.(event);
      waiting.delete(event.request);
    },
    settings_taken: (event) => {
      waiting.get(event.request)?.take?.(event);
      waiting.delete(event.request);
    },
    failed: ({ where, message, details }) => {
      if (where !== "sharing") return;
      const all = [...waiting.values()];
      waiting.clear();
      for (const one of all) one.fail(message, details);
    },
  },
  own: { train_gone: forget },
};
