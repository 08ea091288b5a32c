// What the page knows of this computer and the model: Python's start, the GPU, what is open, where failures belong.

import { computed, signal } from "@preact/signals";
import { reached, workerPhase } from "../link/startup";
import type { Failed, Gpu, ModelOpened, ModelProgress, Storage } from "../protocol";
import { pageText } from "../text";
import type { Area } from "./bus";
import { showProblem, toast, type Slot } from "./problems";

/** How far the train worker's start is; "fatal": it is gone. */
export interface WorkerState {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly started?: boolean;
}
export type GpuShown = Omit<Gpu, "state"> & { readonly state: Gpu["state"] | "waiting" };

export const NO_GPU_YET: GpuShown = { state: "waiting", name: "", vendor: "", backend: "", is_software: false, message: "", losses: 0 };
export const STARTING: WorkerState = { phase: "starting", done: 0, total: 0 };

export const gpu = signal<GpuShown>(NO_GPU_YET); // the train worker's
export const worker = signal<WorkerState>(STARTING);
export const model = signal<ModelOpened | null>(null);
export const modelProgress = signal<Pick<ModelProgress, "phase" | "done" | "total"> & Partial<ModelProgress> | null>(null);
export const modelProblem = signal<Failed | null>(null);
export const storage = signal<Storage | null>(null);
export const modelDialog = signal(false); // whether the dialog for another model is open

export const hasGpu = computed(() => gpu.value.state === "found");

/** The reason for no GPU that the page itself can see, or null. */
export function missingWebGpu(): string | null {
  if (typeof navigator === "undefined" || navigator.gpu) return null;
  return isSecureContext ? pageText.noWebGpu : pageText.insecure;
}

/** Why there is no Python, in words; "" when there is, or will be. */
export const whyNoPython = computed(() => {
  if (worker.value.phase !== "fatal") return "";
  return worker.value.started ? pageText.pythonDied : pageText.pythonNotStarted;
});

const SLOTS: { readonly [where in Failed["where"]]?: Slot } = {
  device: "setup-problem", worker: "setup-problem", storage: "setup-problem", settings: "train-problem", training: "train-problem",
};

/** A failure that no area has a better place for. */
export const showFailure = (event: Failed): void => showProblem(SLOTS[event.where] ?? "setup-problem", event);

export const pageArea: Area = {
  train: {
    phase: (event) => workerPhase("train", event),
    boot: ({ phase, done, total }) => {
      worker.value = { phase: done < total ? phase : "program", done, total };
    },
    ready: () => {
      worker.value = { phase: "ready", done: 1, total: 1 };
    },
    gpu: (event) => {
      gpu.value = event;
      if (event.losses && event.state !== "lost") toast(event.message);
    },
    notice: ({ message }) => toast(message),
    model_progress: (event) => {
      modelProgress.value = event;
    },
    storage: (event) => {
      storage.value = event;
    },
    failed: (event) => {
      if (event.where in SLOTS) showFailure(event);
    },
  },
  chat: {
    phase: (event) => workerPhase("chat", event),
    notice: ({ message }) => toast(message),
    failed: (event) => {
      if (event.where in SLOTS) showFailure(event);
    },
  },
  own: {
    model_came: ({ model: event }) => {
      model.value = event;
      modelProgress.value = null;
      modelProblem.value = null;
      if (hasGpu.peek()) reached("ready_ms");
    },
    train_anew: () => {
      worker.value = STARTING;
      gpu.value = NO_GPU_YET;
      model.value = null;
      modelProgress.value = null;
      modelProblem.value = null;
    },
  },
};
