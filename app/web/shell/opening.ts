// Which model is open: one takes another's place only when its files are found good, and the chat has it on the GPU.
//
// The train worker opens models one after another, in the order in which they were asked for.

import { train } from "../link/workers";
import type { Failed, ModelOpened, NamedBlob } from "../protocol";
import type { Area } from "../store/bus";
import { tell } from "../store/bus";
import { model, modelProblem, modelProgress } from "../store/page";
import { showProblem, toast } from "../store/problems";
import { isRunning } from "../store/train";
import { pageText } from "../text";

/** What can be asked to be opened: one of the site's models, one that is kept, or files. */
export interface ModelChoice {
  readonly model_id?: string | null;
  readonly files?: readonly NamedBlob[] | null;
  readonly title?: string | null;
  readonly kept?: string | null;
}

const ownModel: ModelChoice = { model_id: null, files: null, title: null, kept: null }; // of the site
const siteModel = (): ModelChoice => ({ ...ownModel, model_id: new URL(location.href).searchParams.get("model") });
const asked: ModelChoice[] = []; // what the train worker was asked to open and has said nothing of: only the last one counts
let opened: { choice: ModelChoice; event: ModelOpened } | null = null; // the model that the train worker has open
let proven: ModelChoice | null = null; // the last one that the chat had on the GPU: what one can go back to

/** Open a model. The one that is open stays in use until this one is found good. */
export function openModel(choice: ModelChoice): void {
  if (isRunning.peek()) return toast(pageText.notDuringRun);
  showProblem("setup-problem", null);
  modelProblem.value = null;
  modelProgress.value = { phase: "read", done: 0, total: 0 };
  send({ ...ownModel, ...choice });
}

/** Open the site's model that the page began with; the site's own where that one could not be opened. */
export const openSiteModel = (): void => openModel(modelProblem.peek() ? {} : siteModel());

/** Open the model to begin with. */
export const openFirst = (): void => send(siteModel());

function send(choice: ModelChoice): void {
  asked.push(choice);
  train.send("open_model", choice);
}

/** Whether a model is being opened. */
export const isOpening = (): boolean => asked.length > 0;

/** The worker begins anew: what was open is opened again; without `theSame` not what was being opened just now. */
export function openAgain(theSame: boolean): void {
  const last = opened?.choice ?? (theSame ? (asked.at(-1) ?? siteModel()) : ownModel);
  asked.length = 0;
  opened = null;
  send(last);
}

/** The train worker has a model open, and no other was asked for meanwhile. */
function takeOpened(event: ModelOpened): void {
  if (model.peek() === event) modelProgress.value = null;
  else tell("model_came", { model: event, first: model.peek() === null });
}

/** A model could not be opened. The one that was open still is. */
function openingFails(event: Failed): void {
  asked.shift();
  if (asked.length) return; // another was chosen meanwhile
  if (!opened) {
    model.value = null;
    modelProblem.value = event;
    modelProgress.value = null;
    return showProblem("setup-problem", event);
  }
  takeOpened(opened.event);
  tell("model_stayed", {});
  showProblem("setup-problem", { ...event, message: pageText.cannotBeUsed(opened.event.title, event.message) });
}

/** The chat has the model on the GPU. */
export function modelIsProven(): void {
  proven = opened?.choice ?? proven;
}

/** The chat could not bring a model to the GPU: return to the last one that it had there. False where there is none. */
export function goBack(event: Failed): boolean {
  if (!proven || !opened || proven === opened.choice || asked.length || isRunning.peek()) return false;
  const message = pageText.cannotBeUsedHere(opened.event.title, event.message);
  openModel(proven);
  showProblem("setup-problem", { ...event, message });
  return true;
}

export const openingArea: Area = {
  train: {
    model_opened: (event) => {
      opened = { choice: asked.shift() ?? ownModel, event };
      if (!asked.length) takeOpened(event);
    },
    failed: (event) => {
      if (event.where === "model") openingFails(event);
    },
  },
};
