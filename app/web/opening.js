// Which model is open: one takes another's place only when its files are found good, and the chat has it on the GPU.
//
// The train worker opens models one after another, in the order in which they were asked for.

import { showProblem, toast } from "./problems.js";
import { isRunning, state, update } from "./store.js";

const ownModel = { model_id: null, files: null, title: null, kept: null }; // of the site
const siteModel = { ...ownModel, model_id: new URL(location.href).searchParams.get("model") };
const asked = []; // what the train worker was asked to open and has said nothing of: only the last one counts
let opened = null; // [what was asked for, ModelOpened] of the model that the train worker has open
let proven = null; // what was asked for, of the last model that the chat had on the GPU: what one can go back to
let train, actions;

/** actions: came(event), a model takes the last one's place; stayed(), another one could not. */
export function setUpOpening(link, given) {
  [train, actions] = [link, given];
  train.on("model_opened", (event) => {
    opened = [asked.shift(), event];
    if (!asked.length) takeOpened();
  });
}

/** Open {files, title}, or {kept}. The model that is open stays in use until this one is found good. */
export function openModel(choice) {
  if (isRunning()) return toast("Another model can be opened when the run is over.");
  showProblem("setup-problem", null);
  update({ modelProblem: null, modelProgress: { phase: "read", done: 0, total: 0 } });
  send({ ...ownModel, ...choice });
}

/** Open the site's model that the page began with; the site's own where that one could not be opened. */
export const openSiteModel = () => openModel(state.modelProblem ? {} : siteModel);

/** Open the model to begin with. */
export const openFirst = () => send(siteModel);

function send(choice) {
  asked.push(choice);
  train.send("open_model", choice);
}

/** Whether a model is being opened. */
export const isOpening = () => asked.length > 0;

/** The worker begins anew: what was open is opened again; without `theSame` not what was being opened just now. */
export function openAgain(theSame) {
  const last = opened?.[0] ?? (theSame ? asked.at(-1) ?? siteModel : ownModel);
  asked.length = 0;
  opened = null;
  send(last);
}

/** The train worker has a model open, and no other was asked for meanwhile. */
function takeOpened() {
  const [, event] = opened;
  if (state.model === event) update({ modelProgress: null });
  else actions.came(event);
}

/** A model could not be opened. The one that was open still is. */
export function openingFails(event) {
  asked.shift();
  if (asked.length) return; // another was chosen meanwhile
  if (!opened) {
    update({ model: null, modelProblem: event, modelProgress: null, plan: null, reading: null });
    return showProblem("setup-problem", event);
  }
  takeOpened();
  actions.stayed();
  const message = `That model cannot be used; ${state.model.title} stays open.\n${event.message}`;
  showProblem("setup-problem", { ...event, message });
}

/** The chat has the model on the GPU. */
export function modelIsProven() {
  proven = opened?.[0] ?? proven;
}

/** The chat could not bring a model to the GPU: return to the last one that it had there. False where there is none. */
export function goBack(event) {
  if (!proven || !opened || proven === opened[0] || asked.length || isRunning()) return false;
  const message = `${state.model.title} cannot be used on this GPU; the model before it is opened again.\n${event.message}`;
  openModel(proven);
  showProblem("setup-problem", { ...event, message });
  return true;
}
