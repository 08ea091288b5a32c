// What the page knows, in one place. Views subscribe; after changes they are called once, with the whole state.

export const state = {
  gpu: { state: "waiting" }, // the train worker's Gpu event
  worker: { phase: "starting", done: 0, total: 0 }, // how far the train worker's start is; "fatal": it is gone
  learned: null, // {file_name, data}: what a run has learned, until it is kept
  model: null, // ModelOpened
  modelProgress: null,
  modelProblem: null,
  chatModel: "none", // none, loading, ready, released, failed
  chatBytes: 0, // what the chat worker takes on the GPU while its model is there
  dataset: null, // DatasetReady
  reading: null,
  validationReading: null, // {name, done, total, unit} while a validation file is read
  consent: false,
  plan: null, // TrainingPlanned
  timing: null, // TrainingTimed of that plan, or {measuring: true}
  phase: "idle", // data-state of train-status
  phaseDetail: "",
  mayEnd: false, // a stop has had no effect for a while: the run may be ended by force
  stoppedRun: null, // StoppedRun of a run that can be gone on with
  adapters: null, // null: not known yet
  wantedAdapter: null, // id of the adapter that shall be in use
  applied: null, // {id, name}: the one that the chat worker was given
  replying: null, // the turn that is being written
  comparing: false, // a question of the card is being answered
};

const views = new Set();
let scheduled = false;

export function subscribe(view) {
  views.add(view);
  view(state);
}

export function update(changes) {
  Object.assign(state, changes);
  if (scheduled) return;
  scheduled = true;
  queueMicrotask(() => {
    scheduled = false;
    for (const view of views) view(state);
  });
}

/** Has the dataset no row that can be used before somebody says which column is what? */
export const asksForColumns = ({ report }) => report.good === 0 && !report.mapping && report.unknown > 0;

/** Why there is no Python, in words; "" when there is, or will be. */
export const whyNoPython = ({ worker }) => {
  if (worker.phase !== "fatal") return "";
  return worker.started ? "Python has died; see above." : "Python could not start.";
};

/** Is a run going on, in any of its phases? */
export const isRunning = () => ["loading", "compiling", "training", "stopping"].includes(state.phase);
