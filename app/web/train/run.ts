// A run: how it is begun, stopped and gone on with, and what the train worker says of it.

import { train } from "../link/workers";
import { endRunByForce, giveWhatWasLearned } from "../shell/revive";
import { tell, type Area } from "../store/bus";
import { consent } from "../store/data";
import { showProblem, toast } from "../store/problems";
import { fieldProblems, fields, offerTargets, read, view } from "../store/settings";
import {
  curveOf, isRunning, lastStep, learned, mayEnd, outcome, phase, phaseDetail, phaseProgress, plan, stoppedRun, timing, whyNot,
} from "../store/train";
import { common, trainText } from "../text";
import { scrollTo } from "../dom";
import { rememberTime } from "./times";
import { addStep, addValidation, clearCurve, showCurve } from "./curve";
import { forgetPlan, isNewest, isPlanCurrent, isToStart, planNow, startWhenPlanned, takePlan } from "./plan";

const END_AFTER_MS = 5000; // of a stop that shows no effect
let knowsOfStopped = false; // the worker has said whether there is a run to go on with

/** Start is pressed: the run is begun as soon as its plan is the one of the form. */
export function startNow(): void {
  if (whyNot.peek() !== "") return;
  if (!isPlanCurrent()) {
    startWhenPlanned();
    return planNow();
  }
  start();
}

function start(): void {
  const { settings, problems } = read.peek();
  if (!settings) {
    fieldProblems.value = problems;
    return;
  }
  makeRoom();
  train.send("start_training", { settings, accept_problems: consent.peek() });
}

export function resume(): void {
  if (isRunning.peek()) return;
  makeRoom();
  train.send("resume_training");
}

export const discard = (): void => train.send("discard_run");
export const pause = (): void => train.send("pause_training");

function makeRoom(): void {
  showProblem("train-problem", null);
  tell("replies_end", {});
  tell("run_begins", {});
  askToPersist();
}

/** Some browsers ask the person, so only when there is a reason. The worker says what it could store. */
export function askToPersist(): void {
  navigator.storage?.persist?.().catch(() => {}); // not offered here
}

/** Stop is pressed; or pressed again where that has had no effect for a while, which ends the worker. */
export function stop(): void {
  if (phase.peek() === "stopping") return endRunByForce();
  phase.value = "stopping";
  phaseDetail.value = "";
  mayEnd.value = false;
  setTimeout(() => (mayEnd.value = phase.peek() === "stopping"), END_AFTER_MS);
  train.send("stop_training");
}

/** The numbers and the curve of the run before make way. */
function begin(): void {
  if (view.peek() === "open") view.value = "compact"; // room for the curve
  lastStep.value = null;
  curveOf.value = null;
  outcome.value = null;
  clearCurve(plan.peek()?.total_steps ?? 0);
}

export const trainArea: Area = {
  train: {
    training_planned: (event) => {
      if (takePlan(event) && isToStart() && whyNot.peek() === "") start();
    },
    training_timed: (event) => {
      if (!isNewest(event.request)) return;
      timing.value = event.problem === "" ? null : event; // "": overtaken
      if (event.total_ms) rememberTime(event.total_ms);
    },
    training_state: ({ state, detail, done, total }) => {
      if (state === "loading" && !isRunning.peek()) begin();
      phase.value = state;
      phaseDetail.value = detail;
      phaseProgress.value = { done, total };
    },
    training_step: (event) => {
      addStep(event.step, event);
      lastStep.value = event;
      phaseProgress.value = { done: event.step, total: event.total_steps };
    },
    validation_loss: ({ step, loss }) => addValidation(step, loss),
    training_resumed: ({ step, total_steps, loss_curve, validation_curve, differs }) => {
      showCurve(loss_curve, validation_curve, total_steps);
      curveOf.value = null;
      lastStep.value = { step, total_steps, loss: loss_curve.at(-1)?.[1] ?? null }; // a lost GPU may lead to the beginning
      if (differs) toast(trainText.differs(differs));
    },
    stopped_run: (event) => {
      const show = { label: common.show, run: () => scrollTo("stopped-run", "center") };
      if (!knowsOfStopped && event.step) toast(trainText.stoppedAt(event.step, event.total_steps), show);
      knowsOfStopped = true;
      stoppedRun.value = event.step ? event : null;
    },
    adapter_learned: (event) => {
      learned.value = event;
    },
    training_done: ({ adapter, stopped }) => {
      learned.value = null; // it is kept
      outcome.value = { adapterId: adapter.id, stoppedAt: stopped ? adapter.steps : null };
    },
    gpu: ({ state, losses }) => {
      if (state === "found" && losses) planNow();
      if (state === "lost" && isRunning.peek()) phase.value = "error";
    },
    failed: ({ where }) => {
      if (where === "settings") forgetPlan();
      if (where !== "training") return;
      phase.value = "error";
      phaseDetail.value = "";
      giveWhatWasLearned();
    },
  },
  own: {
    model_came: ({ first, model: { targets, chat_format } }) => {
      forgetPlan(first);
      offerTargets(targets);
      fields.chat_format.text.value = chat_format;
    },
    model_stayed: planNow, // settings may have changed meanwhile
    train_gone: () => {
      if (isRunning.peek()) phase.value = "error";
      timing.value = null;
    },
    train_anew: () => {
      phase.value = "idle";
      phaseDetail.value = "";
      mayEnd.value = false;
      timing.value = null;
      forgetPlan();
    },
  },
};
