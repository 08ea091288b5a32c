// Models of the Hugging Face hub: what a repository holds, what a run of one would take, its download; and those that are kept.
//
// The worker asks the hub, and only when it is told to from here.

import { signal } from "@preact/signals";
import { train } from "../../link/workers";
import type { Failed, FetchEnded, HubChecked, HubListed, KeptModel } from "../../protocol";
import { openModel, type ModelChoice } from "../../shell/opening";
import { site } from "../../site";
import type { Area } from "../../store/bus";
import { fetching } from "../../store/chat";
import { modelDialog } from "../../store/page";
import { toast } from "../../store/problems";
import { readSettings } from "../../store/settings";
import { isRunning } from "../../store/train";
import { modelText } from "../../text";
import { askToPersist } from "../../train/run";

const LONG_MS = 20000; // of a notice of something that took long

export const hubName = signal(""); // what stands in the field
export const isLooking = signal(false);
export const hubProblem = signal("");
export const listed = signal<HubListed | null>(null);
export const chosen = signal<string | null>(null); // id of the model that is looked into
export const modelProblem = signal<{ readonly id: string; readonly message: string } | null>(null);
export const checked = signal<ReadonlyMap<string, HubChecked>>(new Map());
export const kept = signal<readonly KeptModel[]>([]);
export const keptProblem = signal("");

/** Close the dialog and open a model. */
export function takeModel(choice: ModelChoice): void {
  modelDialog.value = false;
  openModel(choice);
}

/** Ask what a repository holds. */
export function look(name: string): void {
  if (!name.trim()) return;
  hubProblem.value = "";
  listed.value = chosen.value = modelProblem.value = null;
  isLooking.value = true;
  train.send("look_at_repository", { name });
}

/** Look into a model of the list, or with null into none. */
export function choose(id: string | null): void {
  chosen.value = id;
  modelProblem.value = null;
  const one = listed.peek()?.models.find((model) => model.id === id);
  if (one && !one.refused && checked.peek().get(one.id)?.verdict !== "refused") check(one.id);
}

function check(id: string): void {
  checked.value = new Map([...checked.peek()].filter(([other]) => other !== id));
  train.send("check_hub_model", { id, settings: readSettings() });
}

/** The dialog is opened again: the settings may be others now. The hub is not asked again for that. */
export function checkAgain(): void {
  const id = chosen.peek();
  const known = id === null ? undefined : checked.peek().get(id);
  if (id !== null && known && known.verdict !== "refused" && !fetching.peek()) check(id);
}

export function fetchModel(id: string): void {
  modelProblem.value = null;
  askToPersist();
  fetching.value = { id };
  train.send("fetch_hub_model", { id });
}

export const goOn = (id: string): void => train.send("fetch_hub_model", { id });
export const stopFetching = (): void => train.send("stop_fetching");
export const removeKept = (id: string): void => train.send("remove_kept_model", { id });

/** Something at the hub has failed: it is told beside the model that it is about, else at the field. */
function hubFails({ subject, message }: Failed): void {
  if (fetching.peek()?.id === subject) fetching.value = null;
  if (!modelDialog.peek()) toast(message, null, LONG_MS);
  if (subject && listed.peek()?.models.some(({ id }) => id === subject)) {
    chosen.value = subject;
    modelProblem.value = { id: subject, message };
  } else if (subject && kept.peek().length) {
    keptProblem.value = message;
  } else if (site.hub) {
    isLooking.value = false;
    hubProblem.value = message;
  } else if (modelDialog.peek()) {
    toast(message);
  }
}

function fetchEnded({ id, title, whole }: FetchEnded): void {
  fetching.value = null;
  if (!whole) return;
  if (isRunning.peek()) return toast(modelText.hereDuringRun(title));
  if (modelDialog.peek()) return takeModel({ kept: id });
  toast(modelText.here(title), { label: modelText.openIt, run: () => takeModel({ kept: id }) }, LONG_MS);
}

export const hubArea: Area = {
  train: {
    /** After another start of the worker nothing is fetched any more, and it knows of nothing that was listed. */
    ready: () => {
      listed.value = chosen.value = modelProblem.value = fetching.value = null;
      isLooking.value = false;
    },
    hub_listed: (event) => {
      listed.value = event;
      checked.value = new Map();
      isLooking.value = false;
      choose(event.chosen || null);
    },
    hub_checked: (event) => {
      checked.value = new Map([...checked.peek(), [event.id, event]]);
    },
    fetch_progress: (event) => {
      fetching.value = event;
    },
    fetch_ended: fetchEnded,
    kept_models: ({ models }) => {
      kept.value = models;
      keptProblem.value = "";
      const now = listed.peek();
      const whole = new Set(models.filter((one) => one.whole).map(({ id }) => id));
      if (now) listed.value = { ...now, models: now.models.map((one) => ({ ...one, kept: whole.has(one.id) })) };
    },
    failed: (event) => {
      if (event.where === "hub") hubFails(event);
    },
  },
};
