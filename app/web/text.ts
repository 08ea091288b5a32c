// All that the page says, in one place, so that it can be read at one go and translated. Settings' words stand in
// lora_lab/settings.py, the shell's few in templates/; what is said of data and models comes from Python.

import { formatBytes, formatCount, formatDate, formatTime } from "./format";

export const common = {
  dismiss: "Dismiss",
  copyDetails: "Copy details",
  copied: "Copied",
  copyRefused: "The browser refused to copy",
  more: (count: number) => `… and ${formatCount(count)} more`,
  tryAgain: "Try again",
  show: "Show",
  undo: "Undo",
};

// --------------------------------------------------------------------------------------------------- page and model

export const pageText = {
  tabs: { data: "Data", train: "Train", chat: "Chat" },
  themes: { auto: "Light or dark as the system; press for light", light: "Light; press for dark", dark: "Dark; press for the system's" },
  close: "Close",
  keysTitle: "Keys",
  keys: [["Ctrl Enter", "Start training"], ["/", "Write a message"], ["Esc", "Stop the reply"], ["?", "This list"]],
  gpu: "GPU",
  model: "Model",
  modelLoading: "Model loading",
  otherModel: "Use another model",
  noWebGpu: "WebGPU is switched off or not there in this browser.",
  insecure: "WebGPU works only on https:// pages and on localhost; this page came over plain http://.",
  pythonDied: "Python has died.",
  pythonNotStarted: "Python could not start.",
  boot: { runtime: "Starting Python…", packages: "Loading numpy…", program: "Loading the engine…" } as Record<string, string>,
  starting: "Starting Python…",
  opening: "Opening…",
  notUsable: "Cannot be used",
  toGpu: (about: string) => `${about} · going to the GPU…`,
  fetching: (done: number, total: number, rate: number | null, left_ms: number | null) => {
    const speed = rate ? `, ${formatBytes(rate)}/s` : "";
    const left = left_ms != null && left_ms > 1500 ? `, ${formatTime(left_ms)} left` : "";
    return `Fetching ${formatBytes(done)} of ${formatBytes(total)}${speed}${left}`;
  },
  movingToGpu: (done: number, total: number) => `To the GPU: ${formatBytes(done)} of ${formatBytes(total)}`,
  compiling: "Compiling for this GPU…",
  reading: "Reading…",
  gpuWords: {
    waiting: "Waiting for Python to start",
    looking: "Looking for a GPU…",
    none: "None found",
    again: "Lost; asked for anew…",
    lost: "Lost",
  },
  software: (name: string) => `${name} (software: correct, but slow)`,
  lostAndBack: (times: number) => `, lost ${times === 1 ? "once" : `${times} times`} and back`,
  noGpuTitle: "This browser gives the page no GPU",
  noGpuStill: "You can still check a dataset here. To train and chat, switch WebGPU on:",
  kept: (how: boolean, bytes: number) =>
    `Models and adapters are ${how ? "kept until you delete them" : "kept in this browser"}: ${formatBytes(bytes)}`,
  dropAnywhere: "Drop a dataset, an adapter or a model anywhere",
  report: "Copy report",
  reportCopied: "Copied: no word of your data is in it",
  notDuringRun: "Another model can be opened when the run is over.",
  cannotBeUsed: (kept: string, why: string) => `That model cannot be used; ${kept} stays open.\n${why}`,
  cannotBeUsedHere: (title: string, why: string) =>
    `${title} cannot be used on this GPU; the model before it is opened again.\n${why}`,
};

export type Browser = "chrome" | "edge" | "firefox" | "safari" | "other";
export type System = "android" | "ios" | "linux" | "mac" | "windows";

/** What helps where a browser gives no GPU, step by step; code stands between `…`. */
export function noGpuSteps(browser: Browser, system: System): string[] {
  if (browser === "chrome" || browser === "edge") {
    const [name, scheme] = browser === "edge" ? ["Edge", "edge"] : ["Chrome", "chrome"];
    const linux = `On Linux, open \`${scheme}://flags\` and enable \`#enable-unsafe-webgpu\` and \`#enable-vulkan\`; or start it with `
      + "`--enable-unsafe-webgpu --enable-features=Vulkan`.";
    return [
      `Use ${name} 113 or newer${system === "android" ? " on Android 12 or newer (121 at least)" : ""}.`,
      "Settings → System: switch on “Use graphics acceleration when available”, then restart the browser.",
      ...(system === "linux" ? [linux] : []),
      `Look at \`${scheme}://gpu\`: the line WebGPU should say “Hardware accelerated”.`,
    ];
  }
  if (browser === "firefox") {
    return [
      "Firefox has WebGPU from version 141 on Windows and from 145 on Macs with Apple silicon: update it.",
      "On other systems use Firefox Nightly, or open `about:config` and set `dom.webgpu.enabled` to `true`.",
      "Or open this page in Chrome or Edge, which have it everywhere.",
    ];
  }
  if (browser === "safari") {
    return [
      system === "ios" ? "Safari has WebGPU from iOS and iPadOS 26 on: update the system."
        : "Safari has WebGPU from version 26 on (macOS 26 Tahoe): update the system.",
      "On older ones: Safari → Settings → Feature Flags → WebGPU, then restart Safari.",
      "Or open this page in Chrome 113 or newer on a Mac.",
    ];
  }
  return ["Open this page in a new Chrome, Edge, Firefox or Safari on a computer with a graphics processor."];
}

/** What became of a worker. */
export const deathText = {
  died: (message: string) => `Python has died: ${message}.`,
  notStarted: (message: string) => `Python could not start: ${message}`,
  neverStarted: (seconds: number) => `Python did not start within ${seconds} seconds.`,
  hung: (seconds: number, doing: string) =>
    `Python did not answer for ${seconds} seconds${doing ? ` while ${doing}` : ""}, and was ended.`,
  runOver: "The run that was going on is over.",
  readingLeftOut: "The data that was being read is left out.",
  openingLeftOut: "The model that was being opened is left out.",
  anew: "It was started anew.",
  chatAnew: "The chat was started anew.",
  restart: "Restart",
};

// -------------------------------------------------------------------------------------------------------------- data

export const dataText = {};

// ------------------------------------------------------------------------------------------------------------- train

export const trainText = {
  stoppedAt: (step: number, total: number) => `Run stopped at ${formatCount(step)} of ${formatCount(total)}`,
  stoppedWhat: (dataset: string, model: string, saved_at: string) => `· ${dataset} · ${model} · ${formatDate(saved_at)}`,
  goesOn: "It goes on exactly as if it had never stopped, with the settings it was begun with. A new run takes its place.",
  onceGpu: "It can go on once the GPU is back.",
  onceReady: "It can go on as soon as the model and the GPU are there.",
  resume: "Resume",
  discard: "Discard",
  differs: (what: string) => `It goes on, but not bit for bit as before: ${what}.`,
  noNumber: (field: string) =>
    field === "validation_percent" ? "A number is wanted here; 0 holds nothing back." : "A number is wanted here.",
  notWhole: "A whole number is wanted here.",
  whyNot: {
    running: "A run is going on.",
    noGpu: "Training needs a GPU.",
    gpuLost: "There is no GPU any more.",
    gpuAgain: "The GPU was lost and is asked for anew.",
    noModel: "Training needs a model.",
    noData: "Add a dataset first.",
    modelComes: "The model is on its way.",
    reading: "The dataset is being read.",
    readingValidation: "The validation file is being read.",
    columns: "Say first which column is what.",
    asks: "Say first how the rows are to be read.",
    uncounted: "The tokens are not counted yet.",
    noRow: "The dataset has no row to train on.",
    badRows: "Some rows are bad: mend them, or agree to leave them out.",
    settings: "Some settings cannot be used.",
  },
  phases: {
    idle: "Ready to train.",
    loading: "Loading the model",
    compiling: "Compiling for this GPU",
    training: "Training",
    stopping: "Stopping after this step",
    done: "Done, the adapter is kept",
    error: "Stopped by an error",
  },
  ready: "Ready to train.",
  of: (done: string, total: string) => `${done} of ${total}`,
  kernels: (done: string, total: string) => `${done} of ${total} kernels`,
  start: "Start training",
  startAgain: "Train again",
  pause: "Pause",
  stop: "Stop",
  endAtOnce: "End it at once",
  training: "Training",
  chatAwake: "Chat, kept awake",
  measure: "Measure the time",
  measuring: "Measuring how long it takes …",
  notMeasured: (why: string) => `The time could not be measured: ${why}`,
  takes: (total: string, step: string, rate: string) => `About ${total} on this GPU (measured: ${step} a step, ${rate} tokens/s).`,
  memoryNeeded: "GPU memory needed:",
  recomputes: (twice: number, layers: number) => `, recomputes ${twice} of ${layers} layers`,
  ratePresets: "Learning rate presets",
  gentle: "Gentle",
  usual: "Usual",
  strong: "Strong",
  foldSettings: "Fold",
  editSettings: "Edit",
  presets: "Presets",
  own: (line: string) => `Your own: ${line}`,
  settingsLine: (steps: string, rank: string, rate: string) => `${steps} steps · rank ${rank} · learning rate ${rate}`,
  step: "Step",
  loss: "Loss",
  rate: "Tokens/s",
  left: "Time left",
  trainingLoss: "training loss",
  smoothed: "smoothed",
  validation: "validation",
  chartEmpty: "The loss is drawn here while the adapter learns. Lower is better.",
  noCurve: "Loss over the steps; nothing yet",
  curveLabel: (first: number, from: string, last: number, to: string) => `Loss from ${from} at step ${first} to ${to} at step ${last}`,
  point: (step: number, loss: string, validation: string) =>
    [`step ${step}`, loss && `loss ${loss}`, validation && `validation ${validation}`].filter(Boolean).join(" · "),
  ended: (detail: string, stoppedAt: number | null, isGone: boolean) => {
    const what = stoppedAt === null ? "Done" : `Stopped at step ${formatCount(stoppedAt)}`;
    return detail || (isGone ? `${what}; the adapter was deleted` : `${what}, the adapter is kept`);
  },
  runOf: (name: string) => `The run of ${name}`,
  stoppedEarly: (name: string) => `${name}, stopped early`,
  beforeAndAfter: "Before and after",
  download: "Download adapter",
  without: "Without adapter",
  withAdapter: "With adapter",
  inTheData: "In the data",
  questions: "Questions",
  question: (number: number) => `Question ${number}`,
  emptyAnswer: "(nothing: the reply ended at once)",
  validationFileUsed: "The file is used instead",
  endedAtOnce: "The run was ended at once; what it had learned is gone where it was not kept.",
};

// -------------------------------------------------------------------------------------------------------------- chat

export const chatText = {};
