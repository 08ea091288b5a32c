// What the page knows of the chat: its model on the GPU, the adapters, what is being written.

import { signal } from "@preact/signals";
import type { AdapterInfo, FetchProgress } from "../protocol";

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
