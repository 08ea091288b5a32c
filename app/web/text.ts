// All that the page says, in one place, so that it can be read at one go and translated. Settings' words stand in
// lora_lab/settings.py, the shell's few in templates/; what is said of data and models comes from Python.

import { formatBytes, formatCount, formatDate, formatNumber, formatTime } from "./format";

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
  keys: [["Ctrl Enter", "Start training"], ["/", "Write a message"], ["Esc", "Stop the reply"], ["↑", "Your last message again"], ["?", "This list"]],
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
  offline: { none: "", keeping: "Getting ready to work offline…", kept: "Works offline", update: "A new version is there" },
  otherTabs: (count: number) => `A new version is there: close the ${count === 1 ? "other tab" : `${count} other tabs`} of LoRA Lab first`,
  reload: "Reload",
  otherTrains: (data: string, steps: number) => {
    const what = [data, steps && `${formatCount(steps)} steps`].filter(Boolean).join(", ");
    return `Another tab is training${what ? ` (${what})` : ""}. A run here would share the GPU with it, and could not be resumed.`;
  },
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

const rows = (count: number): string => formatNumber(count, "row");

export const dataText = {
  rows,
  andMore: (count: string) => `… and ${count} more`,
  moreTurns: (count: string) => `… and ${count} more turns`,
  noName: "(no name)",
  notDuringRun: "Another dataset can be read when the run is over.",
  tookItsPlace: "This took the place of what was there.",
  keepBoth: "Keep both",
  closed: (title: string) => `${title} is closed.`,
  leftOut: (name: string) => `${name} is left out.`,
  thereAlready: (count: number) => (count === 1 ? "This file is there already." : "These files are there already."),
  sampleLost: (why: string) => `The sample could not be fetched again: ${why}`,
  noAnswer: (name: string) => `${name}: no answer came; is there a network?`,
  serverAnswered: (name: string, status: number) => `${name}: the server answered ${status}`,
  theSample: "the sample",
  thePastedText: "the pasted text",
  pastedText: "Pasted text",
  files: (count: string) => `${count} files`,
  nothingReadable: (names: readonly string[]) => {
    const found = names.length ? `It holds ${names.slice(0, 3).join(", ")}${names.length > 3 ? " and others" : ""}.` : "It is empty.";
    return `Nothing in this folder can be read as data. ${found} Data is in .jsonl, .json, .csv, .tsv or .txt files, or gzip of them.`;
  },
  input: {
    chooseFiles: "Choose files of a dataset",
    dropHere: "Drop your data here",
    or: "or",
    choose: "choose files",
    kinds: "JSONL, JSON, CSV, text; gzip of these",
    pasteInstead: "Paste text instead",
    trainOnIt: "Train on it",
    whatHappens: (steps: number) => `${steps ? `${steps} steps` : "A run"} on your GPU, then the same questions before and after.`,
    tookHere: (time: string) => `About ${time} here, as measured before.`,
    slowHere: "Without a graphics processor that takes long.",
    usually: "A minute or two on most GPUs.",
    tryIt: "Look at it",
    rows: (count: string) => `${count} rows`,
    whatRows: "What should a row look like?",
    oneExample: "One example a row. The model learns to write what the assistant says; the rest it only reads.",
    forms: [
      {
        name: "Conversation", note: "",
        example: '{"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I keep the light."}]}',
      },
      { name: "Prompt and reply", note: "", example: '{"prompt": "Who are you?", "completion": "I keep the light."}' },
      { name: "Text", note: "All of it is trained.", example: '{"text": "Fog again. Third night."}' },
      { name: "Instruction", note: "Alpaca", example: '{"instruction": "Translate", "input": "la lumière", "output": "the light"}' },
      {
        name: "ShareGPT", note: "",
        example: '{"conversations": [{"from": "human", "value": "Who are you?"}, {"from": "gpt", "value": "I keep the light."}]}',
      },
      { name: "Table", note: "CSV or TSV", example: "prompt,completion\nWho are you?,I keep the light." },
    ],
    anExample: (name: string) => `${name}, an example`,
    otherNames: "Columns of other names are fine: you can say which is which. A plain text file is read paragraph by paragraph.",
    rowsToRead: "Rows to read, in any of the forms below",
    pasteExample: '{"prompt": "Who are you?", "completion": "I keep the light."}',
    readIt: "Read it",
    addToRows: "Add to the rows that are here",
    cancel: "Cancel",
  },
  panel: {
    readingData: "Reading the dataset",
    stop: "Stop",
    stopping: "Stopping…",
    comesNext: (name: string) => `${name} comes next, as soon as Python is there.`,
    counting: "Counting the tokens",
    reading: (name: string) => `Reading ${name}`,
    rowsOf: (done: string, total: string) => `${done} of ${total} rows`,
    bytesOf: (done: string, total: string) => `${done} of ${total}`,
    left: (amount: string, time: string) => `${amount} · about ${time} left`,
    addFiles: "Add files",
    addFilesLong: "Add files to the dataset",
    replace: "Replace",
    leaveOut: (name: string) => `Leave out ${name}`,
  },
  mapping: {
    title: "Which column is what?",
    hint: "Choose, and see below how the first rows are read.",
    hintSome: (unknown: string, all: string) => `${unknown} of ${all} rows have other names. What you choose holds for all rows.`,
    rowIs: "What a row is",
    kinds: { pair: "Prompt and reply", conversation: "Turns", text: "Text" },
    roles: {
      prompt: "Prompt", context: "Context, below", conversation: "Conversation", reply: "Reply, trained", system: "System",
      history: "Earlier turns", label: "Good answers", text: "Text, trained",
    },
    ratedAtLeast: "rated at least",
    noRating: "none: true or false",
    choose: "choose…",
    none: "none",
    firstRows: "The first rows, read so",
    use: "Use these columns",
    cancel: "Cancel",
    readAs: (how: string, remembered: boolean) => `Read as ${how}${remembered ? ", as last time" : ""}.`,
    asItStands: "it stands",
    orBetter: (rating: string) => `, ${rating} or better`,
    otherNames: "Some rows have columns of other names.",
    undo: "Undo",
    change: "Change",
    chooseColumns: "Choose columns",
    forget: "Forget",
  },
  readings: {
    which: "How are the rows to be read?",
    likeThis: "Are the rows to be read like this?",
    byHand: "Choose the columns by hand",
    leavesOut: (names: string) => `Leaves out ${names}.`,
    keep: "Keep it so",
    read: "Read them so",
    notUsed: (count: number) => (count === 1 ? "One column is not used" : `${formatCount(count)} columns are not used`),
    moreColumns: (count: string) => `… and ${count} more. `,
    notUsedEither: (names: string) => `Not used either, numbers or repeats: ${names}.`,
  },
  problems: {
    noRows: "These files hold no rows",
    unusableFile: "This file cannot be used",
    asItStandsNone: "As it stands, no row can be used",
    wrongWithFile: "Something is wrong with the file",
    unusableRows: (bad: number, all: number) => `${formatCount(bad)} of ${rows(all)} cannot be used`,
    count: (count: number) => formatNumber(count, "problem"),
    lines: (count: number, lines: string, more: boolean) => `${count === 1 ? "line" : "lines"} ${lines}${more ? ", …" : ""}`,
    place: (line: string, column: string) => (column ? `Line ${line}, column ${column}` : `Line ${line}`),
    showMore: (count: string) => `Show ${count} more`,
    moreOfThisKind: (count: string) => `… and ${count} more of this kind.`,
    asItIs: "as it is",
    mended: "mended",
    areMended: (count: number) => (count === 1 ? "1 row is mended." : `${formatCount(count)} rows are mended.`),
    canBeMended: (mendable: number, improvable: number) => {
      const can = mendable === 1 ? "One of them can be mended: its meaning is clear."
        : `${formatCount(mendable)} of them can be mended: their meaning is clear.`;
      const better = `${rows(improvable)} can be used as ${improvable === 1 ? "it is" : "they are"}, and would be better mended: see the remarks.`;
      return [...(mendable ? [can] : []), ...(improvable ? [better] : [])].join(" ");
    },
    mend: (count: number) => (count === 1 ? "Mend this row" : `Mend these ${formatCount(count)} rows`),
    leave: "Leave as they are",
    consent: (good: number) => `Leave the bad rows out and go on with the ${formatNumber(good, "good row")}`,
    remarks: "Remarks",
    readAs: (encoding: string) => `Files that are not UTF-8 are read as ${encoding}.`,
    whichEncoding: "Not UTF-8. Which of these reads right?",
    undo: "Undo",
  },
  report: {
    notCounted: "The tokens are not counted: without them there is nothing to train on.",
    countedByModel:
      "Tokens are counted by the model itself: lengths, the share that is trained and the rows as the model reads them come as soon as one is open.",
    count: "Count the tokens",
    more: "More about this data",
    rowsAre: "What the rows are",
    formats: {
      conversational: "conversations (messages)", "prompt-completion": "prompt and completion", text: "plain text",
      alpaca: "Alpaca (instruction, output)", sharegpt: "ShareGPT (from, value)", preference: "preference data: only good answers are trained",
    } as Readonly<Record<string, string>>,
    turns: "Turns",
    roles: { system: "system messages", user: "user messages", assistant: "assistant answers" } as Readonly<Record<string, string>>,
    mostInOne: "most in one row",
    sameRows: "Same rows",
    exactCopies: (count: number) => (count === 1 ? "1 row is an exact copy of an earlier one." : `${formatCount(count)} rows are exact copies of earlier ones.`),
    nearCopies: (count: number) =>
      (count === 1 ? "1 row is nearly the same as an earlier one." : `${formatCount(count)} rows are nearly the same as earlier ones.`),
    noCopies: "No row stands in the data twice.",
    repeats: "repeats",
    inValidation: "Also in the validation file",
    overlap: (count: number, name: string) =>
      `${rows(count)} of the training data ${count === 1 ? "stands" : "stand"} in ${name} too and ${count === 1 ? "is" : "are"} left out of training.`,
    noOverlap: (name: string) => `No row of the training data stands in ${name}.`,
    isThere: "is there line",
    line: (line: string) => `line ${line}`,
    showLine: (line: string) => `Show the row of line ${line}`,
    systemPrompts: "System prompts",
    noPrompts: "None. The model's own template may add one; the preview shows it.",
    prompts: (count: number, some: boolean) =>
      `${count === 1 ? "One" : `${formatCount(count)} different ones`}${some ? ", the most frequent first" : ""}:`,
    writing: "Writing",
    tokens: "Tokens",
    inAll: "in all",
    cutOff: "cut off",
    trained: "trained",
    of: (some: string, all: string) => `${some} of ${all}`,
    padding: "Padding and packing",
    wouldBePadding: (share: string) => `With 8 rows side by side, ${share} of what is computed would be padding.`,
    packingSavesNothing: "Packing short rows together would save nothing more.",
    packingSaves: (share: string) => `Packing short rows together leaves out ${share} of the work; it changes no result.`,
    underOne: "under 1 %",
  },
  histogram: {
    title: "Length of the rows",
    caption: "Rows by their length in tokens",
    tokensHead: "Tokens",
    rowsHead: "Rows",
    tokens: (count: string) => `${count} tokens`,
    tallest: (count: number) => `tallest bar ${rows(count)}`,
    bar: (lengths: string, count: number) => `${lengths} tokens: ${rows(count)}`,
    lines: { p50: "Half up to", p95: "95 % up to", max: "Longest" },
    cutAt: "Cut at",
    leftOutOver: "Left out over",
  },
  cleaned: {
    title: "Save a cleaned file",
    hint: "Every good row as JSON Lines, in the same order.",
    withMended: (count: number) => (count === 1 ? "With the row that can be mended" : `With the ${formatCount(count)} rows that can be mended`),
    writtenAs: "Written as",
    ownForm: "the rows’ own form",
    conversations: "conversations",
    save: "Save",
    writing: "Writing the cleaned file",
    soFar: (done: string, total: string) => `${done} of ${total} rows`,
    saved: (name: string, count: string) => `${name}: ${count}.`,
  },
  validation: {
    title: "Validation file",
    choose: "Choose a file",
    remove: "Remove",
    reading: (name: string) => `Reading ${name}…`,
    ownRows: "Rows of your own to check on, in place of held back ones.",
    dataFirst: "Add a dataset first; then a file of rows to check on can stand beside it.",
    toCheckOn: (good: number, all: number) => {
      const bad = all - good;
      if (!bad) return `${rows(all)} to check on.`;
      return `${formatCount(good)} of ${rows(all)} to check on; the ${bad === 1 ? "other" : `other ${formatCount(bad)}`} cannot be used.`;
    },
    noneInTraining: "None of them stands in the training data.",
    lineThere: (line: string, there: string) => `line ${line} (there line ${there})`,
    inTraining: (count: number, lines: string, more: number) =>
      `${formatNumber(count, "training row")} ${count === 1 ? "stands" : "stand"} in it too and ${count === 1 ? "is" : "are"} left out: `
      + `${lines}${more ? ` and ${formatCount(more)} more` : ""}.`,
  },
  preview: {
    title: "What the model reads",
    showAs: "Show the row as",
    views: { tokens: "Tokens", text: "Text" },
    previous: "Previous row",
    next: "Next row",
    row: "Row",
    of: (count: string) => `of ${count}`,
    showLarge: "Show large",
    showSmall: "Show small",
    place: (line: string, source: string) => `line ${line}${source ? ` of ${source}` : ""}`,
    said: (number: number, count: number, place: string, tokens: number, trained: number) =>
      `Row ${number} of ${count}, ${place}, ${tokens} tokens, ${trained} trained`,
    noSuchRow: (count: string) => `There are rows 1 to ${count}.`,
    goToRow: "Go to the row that is",
    jumps: {
      longest: "Longest", shortest: "Shortest", truncated: "Next cut", random: "Random", "most-trained": "Most trained",
      "least-trained": "Least trained",
    },
    search: "Search in all rows",
    searchHint: "Enter goes to the next row, Shift and Enter to the one before.",
    theRow: "The row",
    marks: "What the marks mean",
    word: "word",
    endToken: "<end>",
    trained: "trained",
    onlyRead: "only read",
    specialToken: "special token",
    special: "special",
    cutOff: "cut off",
    partOfCharacter: "the beginning of a character that the next token ends",
    id: (id: number) => `id ${id}`,
    token: (number: string, count: string) => `token ${number} of ${count}`,
    cutHere: (kept: string) => `cut here, at ${kept} tokens`,
    firstTokens: (shown: string, count: string) => `The first ${shown} of ${count} tokens are shown.`,
    keys: [
      [["←", "→"], "rows"], [["Shift", "→"], "tokens"], [["Home", "End"], "first, last"], [["g"], "go to"], [["/"], "search"], [["r"], "random"],
    ] as readonly (readonly [keys: readonly string[], what: string])[],
    notLoaded: "What shows the rows as tokens could not be loaded. Reload the page when the network is back.",
  },
};

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
  settingsToggle: { open: "Fold settings", compact: "All settings", line: "Edit" },
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
    [`step ${formatCount(step)}`, loss && `loss ${loss}`, validation && `validation ${validation}`].filter(Boolean).join(" · "),
  ended: (detail: string, stoppedAt: number | null, isGone: boolean, verdict: string) => {
    const what = verdict || (stoppedAt === null ? "Done" : `Stopped at step ${formatCount(stoppedAt)}`);
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

/** A run as it is watched. */
export const watchText = {
  title: "What it answers as it learns",
  own: "your own prompts",
  chosen: "rows held back",
  edit: "Edit prompts",
  editor: "Prompts that the model answers while it learns",
  prompt: (number: number) => `Prompt ${number}`,
  editHint: "From the next time on, also in a run that goes on. What the data would answer is known only of its own rows.",
  save: "Ask these",
  chooseRows: "Choose from the rows",
  cancel: "Cancel",
  expected: "In the data",
  atStep: (step: number) => (step === 0 ? "Before training" : `Step ${formatCount(step)}`),
  newest: "newest",
  answers: (prompt: string) => `Answers to: ${prompt}`,
  cut: "Cut short: answers may take only so much of the run's time.",
  empty: {
    before: "While it learns, the model answers a few rows that are held back. Write prompts of your own if you like.",
    ready: "These are asked while the model learns.",
    coming: "The first answers come before the first step.",
    inTime: "The first answers come as soon as they cost no more than 5 % of the run's time.",
    next: "Asked from the next time on.",
    none: "No row is held back, so there is nothing to ask. Write a prompt of your own.",
    off: "Nothing is asked in this run: “Steps between answers” is 0.",
  },
  share: (part: number) => `Answering took ${part < 0.001 ? "less than 0.1" : (100 * part).toFixed(1)} % of the run's time.`,
  elapsed: "Elapsed",
  took: "Took",
  endsAt: "Ends at",
  memory: "GPU memory",
  memoryWords: (planned: string, inUse: string) => [inUse && `${inUse} in use`, planned && `${planned} planned`].filter(Boolean).join(" of "),
  memoryPeak: (peak: string) => `At the most ${peak} so far`,
  validation: "Validation loss",
  perplexity: "Perplexity",
  accuracy: "Token accuracy",
  accuracyHelp: "The share of the held-back rows' tokens that the model held likeliest",
  best: "best",
  learningRate: "Learning rate",
  gradNorm: "Gradient norm",
  tokensPerS: "Tokens/s",
  zoomHint: "Drag over the curves to zoom; a double click shows all again.",
  showAll: "Show all",
  verdicts: {
    diverged: "It diverged", collapsed: "It collapsed", repeats: "It repeats itself", worse: "It got worse", unchanged: "It learned hardly anything",
  } as Record<string, string>,
  looksBad: "Something is wrong with this run",
  change: "Change the settings",
  endedEarly: (step: number) => `Ended early at step ${formatCount(step)}: the validation loss fell no more`,
  kept: "Kept",
  keptBest: (step: number) => `Best · ${step === 0 ? "before training" : `step ${formatCount(step)}`}`,
  keptLast: (step: number) => `Last · step ${formatCount(step)}`,
  keptOne: (isBest: boolean, step: number) => `Kept: step ${formatCount(step)}${isBest ? ", which is the last and the best" : ""}.`,
  keptWhich: "Which of the run's two adapters the chat uses",
  keptHint: "Both are kept: the one with the lowest validation loss, and the last. The chat answers with the one that is chosen.",
  tellMe: "Tell me when it is done",
  willTell: "You will be told",
  mayNot: "This browser lets the page show no notifications; its settings can change that.",
  notice: (state: "done" | "error", verdict: string | null) => ({
    title: state === "error" ? "The run ended with an error" : "The run is done",
    body: verdict ? watchText.verdicts[verdict] ?? watchText.looksBad : state === "error" ? "LoRA Lab says what was wrong." : "The adapter is kept, and in use in the chat.",
  }),
  titleDone: "Done",
};

// -------------------------------------------------------------------------------------------------------------- chat

export const chatText = {
  clear: "Clear",
  noAdapter: "No adapter in use",
  conversation: "Conversation",
  empty: "Ask the model something. After training, switch the adapter on and off to hear the difference.",
  wasCleared: (count: number) => `${formatNumber(count, "message")} taken away.`,
  bringBack: "Bring them back",
  cut: "The conversation outgrew the model's context: it no longer reads what stands above.",
  you: "You",
  baseModel: "Base model",
  withStrength: (name: string, strength: number) => `${name} · strength ${strength.toFixed(2)}`,
  ofModel: (who: string, model: string) => `${who} · ${model}`,
  strength: "Strength",
  nothing: "(nothing)",
  reply: (tokens: number, rate: string, why: string) => `${formatCount(tokens)} tokens · ${rate}/s${why}`,
  seed: (seed: number) => `Seed ${seed}: with it, the same reply comes again`,
  ended: { stop: "", length: ", cut at the longest reply", stopped: ", stopped" } as Record<string, string>,
  copyMessage: "Copy this message",
  copy: "Copy",
  code: "code",
  regenerate: "Answer again",
  edit: "Edit this message",
  editing: "The message, to be sent again",
  sendAgain: "Send again",
  cancel: "Cancel",
  laterGone: (count: number) => `${formatNumber(count, "later message")} made way.`,
  asBefore: "The conversation is as it was before.",
  earlier: "Answer before",
  later: "Next answer",
  wording: (number: number, count: number) => `${number} / ${count}`,
  newest: "To the newest",
  message: "Message",
  placeholder: "Write a message",
  send: "Send",
  stopReply: "Stop the reply",
  badSettings: (labels: string) => `Not sent: ${labels} cannot be used as it stands.`,
  settingsLine: (temperature: string, tokens: string) => `temperature ${temperature}, up to ${tokens} tokens`,
  settingsWrong: (count: number) => `${formatNumber(count, "value")} cannot be used`,
  whyNot: {
    noGpu: "Chatting needs a GPU.",
    gpuLost: "There is no GPU any more.",
    gpuAgain: "The GPU was lost and is asked for anew.",
    rests: "The chat rests while the adapter trains. (More settings can keep it awake.)",
    noModel: "Chatting needs a model.",
    modelComes: "The model is on its way.",
    failed: "The chat could not start; see above.",
    toGpu: "The model is going to the GPU…",
  },
};

/** Adapters that answer together. */
export const mixText = {
  title: "Adapters that answer too",
  add: "Add another adapter, so that both answer together",
  addShort: "+ Add an adapter",
  strengthOf: (name: string) => `Strength of ${name}`,
  remove: (name: string) => `Without ${name}`,
};

/** Replies side by side. */
export const compareText = {
  compare: "Compare",
  what: "Two replies side by side, to the same message and with the same seed",
  title: "Comparison",
  answers: "Compared replies",
  empty: "Ask something, and both answer it: with the same words before it, and the same seed.",
  sides: { left: "Left", right: "Right" },
  together: (names: string) => `As in the chat: ${names}`,
  strengthOf: (side: string) => `${side}: strength`,
  seed: (seed: number) => `Both with seed ${seed}`,
  gone: "An adapter that was to answer is not kept any more.",
};

const percent = (logarithm: number): string => {
  const part = 100 * Math.exp(logarithm);
  return part >= 99.95 && part < 100 ? "> 99.9 %" : part >= 0.1 ? `${part.toFixed(1)} %` : part >= 1e-4 ? `${part.toPrecision(1)} %` : "< 0.0001 %";
};
const factor = (base: number, tuned: number): string => {
  const times = Math.exp(Math.abs(tuned - base));
  if (times < 1.005) return "as likely as before";
  const shown = times >= 1e6 ? "over a million" : times >= 100 ? formatCount(times) : times >= 10 ? times.toFixed(0) : times.toPrecision(3);
  return `${shown} times ${tuned > base ? "likelier" : "less likely"}`;
};

/** What an adapter changed about a reply. */
export const changesText = {
  look: "What the adapter changed",
  title: "What the adapter changed",
  tokens: "The reply's tokens; arrow keys go from one to the next",
  coming: (done: number, total: number) => (total ? `${formatCount(done)} of ${formatNumber(total, "token")} looked at …` : "Looking …"),
  ended: "It was not looked at to the end.",
  summary: (count: number, likelier: number, lessLikely: number) =>
    `${formatCount(likelier)} of ${formatNumber(count, "token")} at least twice as likely with the adapter, ${formatCount(lessLikely)} at most half as likely.`,
  legend: "How much likelier the adapter made a token",
  degree: (degree: number, times: number) => (degree === 0 ? "hardly changed" : degree > 0 ? `${times}× likelier` : `${times}× less`),
  place: (number: string, count: string) => `token ${number} of ${count}`,
  percent,
  factor,
  from: (base: number, tuned: number) => `${percent(base)} by the base model, ${percent(tuned)} with the adapter:`,
  token: (text: string, base: number, tuned: number) => `${text}, ${percent(base)} to ${percent(tuned)}, ${factor(base, tuned)}`,
  baseTop: "Likeliest by the base model",
  tunedTop: "Likeliest with the adapter",
  notLoaded: "What shows the tokens could not be loaded. Try again when the network is back.",
};

/** Conversations that are kept. */
export const keptText = {
  unnamed: "New conversation",
  count: (count: number) => `${formatCount(count)} kept`,
  begin: "New conversation",
  about: (when: string, messages: number, adapters: string) => [when, formatNumber(messages, "message"), adapters].filter(Boolean).join(" · "),
  notKept: (reason: string) => `They will not outlive this page: ${reason}`,
  rename: (title: string) => `Rename “${title}”`,
  delete: (title: string) => `Delete “${title}”`,
  newTitle: (title: string) => `New title for “${title}”`,
  deleted: (title: string) => `“${title}” was deleted.`,
  back: "Picked up where you left off.",
  startFresh: "Start fresh",
  asCopy: (title: string) => `Another tab has changed this conversation. What is here is kept as “${title}”.`,
};

/** The adapters that are kept. */
export const shelfText = {
  title: "Adapters",
  add: "Add from a file",
  looking: "Looking…",
  none: "None yet. What you train here is kept in this browser and listed here. An adapter of PEFT, mlx-lm or llama.cpp (its files, "
    + "the folder, a zip or a GGUF) can be dropped in too.",
  notDuringRun: "An adapter can be added when the run is over.",
  otherModel: "other model",
  madeFor: (model: string) => `Made for another model: ${model}`,
  inUse: "in use",
  waits: "waits for the chat",
  showRun: "Show its run",
  rename: "Rename",
  download: "Download",
  delete: "Delete",
  named: (action: string, name: string) => `${action} ${name}`,
  newName: (name: string) => `New name for ${name}`,
  deleted: (name: string) => `${name} was deleted.`,
  imported: (name: string) => `${name} fits this model and is kept.`,
  remarks: (name: string) => `${name} is kept. Good to know:`,
  fromFile: "added from a file",
  trainedOn: (dataset: string, rows: number, steps: number) => [`${dataset}, ${formatNumber(rows, "row")}`, formatNumber(steps, "step")],
  loss: (loss: number) => `loss ${loss.toFixed(2)}`,
  chatFormat: (format: string) => `chat format: ${format}`,
  rank: (rank: number) => `rank ${rank}`,
  baseModel: "The model’s name on Hugging Face",
  baseModelTerm: "base model",
  baseModelHint: "The file does not say it. Adapters that you download name it, so that PEFT finds the model below them; empty: they "
    + "name none.",
};

/** The dialog for another model. */
export const modelText = {
  title: "Use another model",
  close: "Close",
  inUse: "In use:",
  none: "none",
  builtIn: "Return to the built-in model",
  onSite: "On this site",
  kept: "Kept in this browser",
  isInUse: "in use",
  coming: "coming",
  open: "Open",
  goOn: "Continue",
  partHere: (done: number, total: number) => `${formatBytes(done)} of ${formatBytes(total)} are here`,
  remove: "Remove",
  removeNamed: (title: string) => `Remove ${title}`,
  notRemoved: "In use: open another model first",
  repository: "Hugging Face repository",
  name: "OWNER/NAME",
  look: "Look",
  looking: "Looking…",
  /** Every second part is set in bold. */
  promise: (host: string, hosts: string) => [
    "This is the one thing here that leaves your computer: ", "Look", ", or a model of the list below, asks ", host, " what a repository "
    + `holds, and a download comes from there${hosts && ` and from ${hosts}`}. What is sent is the model’s name, never your data.`,
  ],
  starters: "Good small models to begin with",
  commit: (revision: string) => `commit ${revision}`,
  keptHere: "kept in this browser",
  readingHeader: "Reading its header, to see whether a run fits this GPU…",
  download: (bytes: number) => `Download ${formatBytes(bytes)}`,
  downloadAnyway: "Download it all the same",
  oneAtATime: "One at a time",
  tryAgain: "Try again",
  fetching: "Download",
  asking: "Asking for it…",
  fetched: (done: number, total: number) => `${formatBytes(done)} of ${formatBytes(total)}`,
  brokeOff: "the connection broke off, trying again",
  rate: (bytes: number) => `${formatBytes(bytes)}/s`,
  left: (ms: number) => `${formatTime(ms)} left`,
  stop: "Stop",
  here: (title: string) => `${title} is here.`,
  hereDuringRun: (title: string) => `${title} is here. It can be opened when the run is over.`,
  openIt: "Open it",
  ownFiles: "Your own files",
  drop: "Drop a model",
  /** Every second part is code. */
  dropWhat: ["one ", ".gguf", " or all its parts, or a Hugging Face folder: ", "config.json", ", ", "tokenizer.json", ", ", "*.safetensors"],
  folder: "Choose a folder",
  kinds: "Llama, Mistral, Qwen, Gemma, SmolLM and their kin, in f32, f16, bf16 or GGUF’s Q2_K to Q8_0, IQ4_NL, IQ4_XS. The files are "
    + "read where they lie; nothing is uploaded.",
  files: (count: number) => formatNumber(count, "file"),
  readingFiles: "Reading what it is, to see whether a run fits this GPU…",
  use: "Use this model",
  useAnyway: "Use it all the same",
};

// ------------------------------------------------------------------------- what came of a run, all runs, settings' ways

/** The card after a run. */
export const afterText = {
  numbers: "On rows held back, before and after",
  before: (step: number) => `Before (step ${formatCount(step)})`,
  after: (step: number) => `After (step ${formatCount(step)})`,
  loss: "Loss",
  perplexity: "Perplexity",
  accuracy: "Tokens foreseen",
  notMeasured: "not measured",
  share: (part: number) => `${(100 * part).toFixed(1)} %`,
  elseTitle: "What else changed",
  elseWhat: "Everyday questions and texts that are no part of the data",
  elseLoss: (base: string, tuned: string, rose: string) => `loss ${base} → ${tuned} a token (${rose})`,
  notMeasuredElse: "It was not measured for this run. (More settings can switch it on.)",
  advice: "What helps:",
  answers: (count: number) => `${formatNumber(count, "everyday answer")} side by side`,
  report: "Report",
  reportHint: "One HTML file: the facts, the curves, the answers, the settings",
  json: "JSON",
  jsonHint: "The same as values, with every step",
  allRuns: "All runs",
};

/** The table of runs, and runs beside each other. */
export const runsText = {
  title: "Runs",
  looking: "Looking…",
  notLoaded: "The table could not be loaded; is the network gone? Close it and open it again.",
  none: "No runs yet. Each one that you train is listed here, with what came of it.",
  noMatch: (words: string) => `No run has “${words}” in its name, data, model or notes.`,
  showAll: "Show all",
  search: "Search runs",
  placeholder: "Name, data, model, notes",
  count: (shown: number, all: number) => (shown === all ? formatNumber(all, "run") : `${formatCount(shown)} of ${formatNumber(all, "run")}`),
  columns: {
    name: "Name", dataset: "Data", steps: "Steps", learning_rate: "Learning rate", rank: "Rank", validation_loss: "Validation loss", training_s: "Time",
  },
  sortBy: "Sort by",
  newest: "Newest first",
  notKnown: "–",
  choose: (name: string) => `Compare ${name} with others`,
  compare: (count: number) => (count < 2 ? "Compare" : `Compare ${formatCount(count)}`),
  compareHint: "Tick two runs or more",
  steps: (steps: number, total: number) => (steps === total || !total ? formatCount(steps) : `${formatCount(steps)} of ${formatCount(total)}`),
  line: (parts: readonly string[]) => parts.filter(Boolean).join(" · "),
  rate: (rate: string) => `lr ${rate}`,
  rank: (rank: number) => `rank ${formatCount(rank)}`,
  stepsOf: (steps: string) => `${steps} steps`,
  rows: (rows: number) => formatNumber(rows, "row"),
  noRecord: "Of an older version or another program: little is known of this run.",
  perplexity: (value: string, accuracy: string) => `Perplexity ${value}${accuracy ? `, ${accuracy} of the tokens foreseen` : ""}`,
  rose: (rose: string) => `everyday loss ${rose}`,
  notes: "Notes",
  notesHint: "Kept with the adapter, also when it is exported",
  noteWas: "The notes before were replaced.",
  use: "Use these settings",
  show: "Show its run",
  back: "All runs",
  compared: (count: number) => `${formatCount(count)} runs beside each other`,
  validation: "Validation loss",
  training: "Training loss",
  curves: "Which curve",
  noCurves: "No such curve is known of these runs.",
  chart: (what: string, names: readonly string[]) => `${what} over the steps of ${names.join(", ")}`,
  atStep: (step: number) => `At step ${formatCount(step)}`,
  atEnd: "At the end",
  setting: "Setting",
  differences: "What differs",
  alike: "Model, data and settings are the same.",
};

/** Settings as a link, a file, a command; and such that come by a link. */
export const sharingText = {
  title: "These settings",
  copyLink: "Copy link",
  save: "Save file",
  load: "Load file",
  copyCommand: "Copy command",
  commandHint: "The same run on the command line",
  byHand: "The browser refused to copy. It can be copied from here:",
  used: (name: string) => `The settings of ${name} are in the form.`,
  remarks: (name: string) => `The settings of ${name} are in the form. Good to know:`,
  asBefore: "The settings are as they were before.",
  notDuringRun: "Settings can be changed when the run is over.",
  unreadable: (name: string) => `${name} could not be read. It may have been moved or changed after it was chosen.`,
  theLink: "the link",
  notAnswered: "Python was ended before it could answer. Try again.",
  brought: "This link brings training settings:",
  broughtLooking: "This link brings training settings. Reading them…",
  broughtBad: "The settings of this link cannot be used.",
  usesThem: "Use them",
  leavesThem: "Leave mine",
};

/** An adapter that is taken along to other programs. */
export const takeText = {
  title: "Take along",
  titleOf: (name: string) => `Take ${name} along`,
  close: "Close",
  isWritten: "Being written…",
  kindsTitle: "For which program",
  kinds: {
    ollama: { name: "Ollama", what: "A whole model with its Modelfile, to chat with on your own computer" },
    gguf: { name: "GGUF, merged", what: "A whole model in one file, for llama.cpp, LM Studio, Jan and others" },
    "gguf-adapter": { name: "GGUF adapter", what: "Only what was learned, in one small file: llama.cpp puts it onto the model that you have" },
    peft: { name: "PEFT", what: "Only what was learned, to share on Hugging Face, to train on, or for vLLM beside its model" },
    merged: { name: "Hugging Face folder, merged", what: "A whole model as transformers writes it, to serve with vLLM, SGLang or TGI" },
    mlx: { name: "MLX", what: "Only what was learned, for mlx-lm on a Mac" },
  },
  formTitle: "How numbers are kept",
  forms: {
    same: "as the model has them", f32: "f32, exact", f16: "f16, half the size", bf16: "bf16, half the size", q8_0: "q8_0, a quarter",
  } as Record<string, string>,
  system: "System prompt",
  systemHint: "Stands before every chat in Ollama; empty: none.",
  measuring: "Working out the size…",
  size: (bytes: number, files: number) => `${formatBytes(bytes)} in ${formatNumber(files, "file")}`,
  rounds: "Numbers are rounded to this form, so answers can change a little. lora-lab export with --measure tells the loss before and after.",
  noModel: "The model that it was trained on must be open: the adapter is checked against it, or merged into it.",
  otherModel: (model: string) => `It was made for another model: ${model}. Open that one first.`,
  toFolder: "Write into a folder…",
  download: "Download",
  writing: (name: string) => `Writing ${name}`,
  done: (done: number, total: number) => `${formatBytes(done)} of ${formatBytes(total)}`,
  left: (ms: number) => `about ${formatTime(ms)} left`,
  beginning: "Beginning…",
  stop: "Stop",
  stops: "Stopping…",
  stopped: "Stopped. Nothing of it is left.",
  inFolder: (place: string, bytes: number) => `${formatBytes(bytes)} are in ${place}.`,
  downloaded: (place: string, bytes: number) => `${place}, ${formatBytes(bytes)}, went to your downloads.`,
  downloadAgain: "Download it again",
  keeps: "The browser keeps a copy until the next one.",
  drop: "Remove the copy",
  show: "Show how to use it",
  workerEnded: "The worker has ended, and what was being written with it. Nothing of it is left.",
  folderRefused: (why: string) => `The folder cannot be written to: ${why}`,
  next: "How to use it",
  base: "OWNER/NAME",
  copy: "Copy",
  steps: {
    unpack: "Unpack it",
    ollamaCreate: "Give it to Ollama",
    chat: "Chat with it",
    withBase: "Chat with it; BASE.gguf is the model that it was trained on",
    mlx: "Ask it something",
    serve: "Or serve it",
    transformers: "Ask it something, in Python",
    push: "Share it: OWNER/NAME is what it shall be called on Hugging Face",
    peft: "Load it, in Python",
  },
};
