// A worker that died or hangs: it is ended, told of as what it is, and started anew with what the page knows.
//
// What a fresh train worker is told is the model, and then the data; the settings stand in the page. What the last one was
// busy with when it died is left out, or it would die of it again.

import { saveFile } from "../dom";
import type { Died, Kind } from "../link/link";
import { chat, train } from "../link/workers";
import type { Fatal, Gpu } from "../protocol";
import { tell, type Area } from "../store/bus";
import { chatModel } from "../store/chat";
import { reading, validationReading } from "../store/data";
import { worker } from "../store/page";
import { showProblem, toast, type Shown } from "../store/problems";
import { isRunning, learned } from "../store/train";
import { common, deathText, trainText } from "../text";
import { isOpening, openAgain } from "./opening";

type Death = ({ readonly type: "fatal" } & Fatal) | ({ readonly type: "died" } & Died);

const WITHIN_MS = 300000;
const MOST = 3; // so often a worker is started anew by itself: not for ever
const begun: Record<Kind, number[]> = { train: [], chat: [] }; // when a worker was started anew

function mayRevive(kind: Kind): boolean {
  const now = performance.now();
  begun[kind] = begun[kind].filter((when) => now - when < WITHIN_MS);
  return begun[kind].push(now) <= MOST;
}

/** What became of a worker, in words. */
function deathWords(death: Death, started: boolean): string {
  if (death.type === "fatal") return started ? deathText.died(death.message) : deathText.notStarted(death.message);
  return started ? deathText.hung(death.seconds, death.doing) : deathText.neverStarted(death.seconds);
}

function trainDies(death: Death): void {
  const started = death.type === "died" ? death.started : train.ready;
  const wasReading = Boolean(reading.peek() || validationReading.peek());
  const opening = started && !wasReading && isOpening();
  const words = [deathWords(death, started)];
  if (isRunning.peek()) words.push(deathText.runOver);
  if (wasReading) words.push(deathText.readingLeftOut);
  if (opening) words.push(deathText.openingLeftOut);
  giveWhatWasLearned();
  train.terminate();
  worker.value = { phase: "fatal", done: 0, total: 0, started };
  tell("train_gone", { reading: wasReading });
  const revived = started && mayRevive("train");
  if (revived) restartTrain(!opening);
  const message = (revived ? [...words, deathText.anew] : words).join(" ");
  const restart = { label: deathText.restart, run: () => restartWorkers(!opening) };
  showProblem("setup-problem", { message, details: detailsOf(death) }, revived ? undefined : restart);
}

const detailsOf = (death: Death): string | undefined => (death.type === "fatal" ? death.details : undefined);

/** The chat worker has died or hangs: a fresh one gets the model and the adapter when it is ready; `fail` tells of it otherwise. */
export function chatDies(death: Death, fail: (shown: Shown) => void): void {
  const message = deathWords(death, death.type === "died" ? death.started : chat.ready);
  chat.terminate();
  if (!mayRevive("chat")) return fail({ message, details: detailsOf(death) });
  tell("chat_gone", {});
  chatModel.value = "loading";
  chat.restart();
  showProblem("chat-problem", { message: `${message} ${deathText.chatAnew}`, details: detailsOf(death) });
}

function restartTrain(theSame: boolean): void {
  tell("chat_gone", {});
  tell("train_anew", {});
  train.restart();
  openAgain(theSame);
}

function restartWorkers(theSame = true): void {
  showProblem("setup-problem", null);
  chatModel.value = "none";
  restartTrain(theSame);
  if (chat.begun) chat.restart();
}

/** The GPU is lost and the browser gives no other one. */
function showLost(event: Gpu): void {
  tell("replies_end", {});
  showProblem("setup-problem", event, { label: common.tryAgain, run: () => restartWorkers() });
}

/** What a run has learned and nothing has kept goes to the person. */
export function giveWhatWasLearned(): void {
  const kept = learned.peek();
  if (!kept) return;
  saveFile(kept.file_name, kept.data as BlobPart);
  learned.value = null;
}

/** A stop has had no effect: end the run with its worker. */
export function endRunByForce(): void {
  giveWhatWasLearned();
  restartTrain(true);
  toast(trainText.endedAtOnce);
}

export const reviveArea: Area = {
  train: {
    fatal: (event) => trainDies({ ...event, type: "fatal" }),
    died: (event) => trainDies({ ...event, type: "died" }),
    gpu: (event) => {
      if (event.state === "lost") showLost(event);
    },
  },
};
