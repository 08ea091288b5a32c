// What the page knows of the chat: its model on the GPU, the adapters, what is being written.

import { computed, signal, type Signal } from "@preact/signals";
import type { AdapterInfo, FetchProgress, ReplyDone, SamplingGiven } from "../protocol";
import { chatText } from "../text";
import { gpu, missingWebGpu, model, modelProblem, whyNoPython, worker } from "./page";
import { isRunning } from "./train";

export type ChatModel = "none" | "loading" | "ready" | "released" | "failed";

export const chatModel = signal<ChatModel>("none");
export const chatBytes = signal(0); // what the chat worker takes on the GPU while its model is there
export const adapters = signal<readonly AdapterInfo[] | null>(null); // null: not known yet
export const wantedAdapter = signal<string | null>(null); // id of the adapter that shall be in use
export const applied = signal<{ readonly id: string; readonly name: string } | null>(null); // the one that the chat worker was given
export const replying = signal<number | null>(null); // the turn that is being written
export const comparing = signal(false); // a question of the card is being answered

/** The model that is being fetched from the hub; before its first FetchProgress only its id is known. */
export const fetching = signal<(Pick<FetchProgress, "id"> & Partial<FetchProgress>) | null>(null);

// ----------------------------------------------------------------------------------------------- the conversation

/** An adapter that writes, or has written, and how strongly: what a reply is labelled with. */
export interface AdapterUse {
  readonly id: string;
  readonly name: string;
  readonly strength: number;
}

/** What a reply was asked with, besides the messages. */
export interface Asked {
  readonly system: string;
  readonly maxNewTokens: number;
  readonly chatFormat: string;
}

/** One wording of a turn: what a person wrote, or what was answered, and by whom; no adapters: the base model. */
export interface Wording {
  readonly content: string;
  readonly adapters: readonly AdapterUse[];
  readonly model?: string; // what people call the model that answered
  readonly seed?: number;
  readonly isWriting?: boolean; // its text is in `writing`
  readonly end?: Pick<ReplyDone, "new_tokens" | "tokens_per_s" | "finish_reason">;
  readonly finish?: string; // why it ended, where `end` did not outlive the page
  readonly tokenIds?: readonly number[];
  readonly asked?: Asked;
}

/** A turn of the conversation, of whose wordings number `chosen` is shown and read. */
export interface Turn {
  readonly key: number;
  readonly role: "user" | "assistant";
  readonly wordings: readonly Wording[];
  readonly chosen: number;
}

export const turns = signal<readonly Turn[]>([]);
export const cut = signal(0); // so many of the oldest turns the model no longer reads
export const writing = signal(""); // what there is of the reply that is being written
export const draft = signal(""); // what stands in the field
export const cleared = signal<{ readonly count: number; readonly cut: number; readonly packed: Blob } | null>(null); // to be brought back

/** What a run asks its adapter: the suggestions until answers are kept with it. */
export const probesOf = signal<{ readonly adapterId: string; readonly questions: readonly string[] } | null>(null);
const MOST_SUGGESTIONS = 3;

/** Questions to begin with: those of the adapter that is in use. */
export const suggestions = computed((): readonly string[] => {
  const id = wantedAdapter.value;
  const own = probesOf.value?.adapterId === id ? probesOf.value?.questions : undefined;
  const kept = adapters.value?.find((one) => one.id === id)?.sample_answers.map(({ prompt }) => prompt);
  return (own ?? kept ?? []).slice(0, MOST_SUGGESTIONS);
});

export const shownWording = (turn: Turn): Wording => turn.wordings[turn.chosen]!;

// ------------------------------------------------------------------------------------------------ how it is answered

/** A field of the reply settings. `wanted` says which values it takes. */
export interface ReplyField {
  readonly text: Signal<string>;
  readonly isWrong: Signal<boolean>;
  label: string;
  wanted: string;
  first: string; // what an empty field means; "" for the seed: another one each time
}
export const SAMPLING = ["temperature", "max_new_tokens", "top_p", "top_k", "min_p", "repetition_penalty", "seed"] as const;
export type SamplingName = (typeof SAMPLING)[number];

const replyField = (): ReplyField => ({ text: signal(""), isWrong: signal(false), label: "", wanted: "", first: "" });
export const replyFields = Object.fromEntries(SAMPLING.map((name) => [name, replyField()])) as Readonly<Record<SamplingName, ReplyField>>;
export const system = signal(""); // the system message
export const strength = signal(1);
export const isAdapterOn = signal(true); // whether the one in use answers

/** Adapters that answer together with the one in use. `isHere`: the chat worker can be given its files. */
export const others = signal<readonly (AdapterUse & { readonly isHere: boolean })[]>([]);

/** Who answers now. */
export const writer = computed((): readonly AdapterUse[] =>
  applied.value && isAdapterOn.value
    ? [{ ...applied.value, strength: strength.value }, ...others.value.filter(({ isHere }) => isHere).map(({ isHere: _, ...one }) => one)]
    : []);

/** The fields that hold what cannot be used. */
export const wrongFields = computed(() => SAMPLING.map((name) => replyFields[name]).filter(({ isWrong }) => isWrong.value));

const ANY_SEED = 2 ** 31;

/** How a reply is drawn, as the fields stand; null where one of them cannot be used. */
export function readSampling(): SamplingGiven | null {
  if (wrongFields.peek().length) return null;
  const entries = SAMPLING.map((name) => {
    const { text, first } = replyFields[name];
    const written = text.peek().trim() || first;
    return [name, written === "" ? Math.floor(Math.random() * ANY_SEED) : Number(written)];
  });
  return Object.fromEntries(entries) as unknown as SamplingGiven;
}

/** The chat's model made way for a run. */
export const isResting = computed(() => isRunning.value && chatModel.value !== "ready");

/** Whether a message can be sent. */
export const canSend = computed(() => replying.value === null && !isResting.value && ["ready", "released"].includes(chatModel.value));

/** Why no message can be sent, in words; "" when it can, or a reply is being written. */
export const whyNoChat = computed((): string => {
  const words = chatText.whyNot;
  if (worker.value.phase === "fatal") return whyNoPython.value;
  if (missingWebGpu() || gpu.value.state === "none") return words.noGpu;
  if (gpu.value.state === "lost") return words.gpuLost;
  if (gpu.value.state === "again") return words.gpuAgain;
  if (isResting.value) return words.rests;
  if (replying.value !== null) return "";
  if (!model.value) return modelProblem.value ? words.noModel : words.modelComes;
  if (chatModel.value === "failed") return words.failed;
  return ["none", "loading"].includes(chatModel.value) ? words.toGpu : "";
});
