// Conversations that are kept: written as they change, opened, begun anew, renamed, deleted with undo; the last one comes back.
//
// `open` is the one that is on the page. It is written a moment after it has changed, one writing at a time: the next one must
// know the revision of the one before. Taking all turns away leaves it as it is kept, and begins another one.

import { batch, effect } from "@preact/signals";
import { chat } from "../../link/workers";
import type { Conversation } from "../../protocol";
import type { Area } from "../../store/bus";
import { adapters, isAdapterOn, others, replyFields, replying, strength, system, turns, wantedAdapter, type AdapterUse } from "../../store/chat";
import { conversations, openId, whyNotKept } from "../../store/conversations";
import { gpu } from "../../store/page";
import { toast } from "../../store/problems";
import { readRemembered, remember } from "../../store/remembered";
import { common, keptText } from "../../text";
import { show } from "../conversation";
import { useTogether } from "../mix/mix";
import { isSame, seenNow, setAsWritten, turnsOf, writtenNow, type Seen } from "./written";

/** One that is, or was, on the page, as the store knows it. */
interface Open {
  id: string;
  title: string;
  revision: number;
  seen: Seen | null; // as it was written last
}
interface Writing {
  readonly of: Open;
  readonly written: ReturnType<typeof writtenNow>;
  readonly seen: Seen;
}

const PLACE = "lora-lab workspace"; // localStorage: what was open, {conversation, system, adapters}
const REMEMBERED = 8;
const LATER_MS = 300;

const fresh = (): Open => ({ id: "", title: "", revision: 0, seen: null });
let open = fresh();
let left: { readonly open: Open; readonly first: number } | null = null; // it was taken away and can be brought back
let wanted: { readonly id: string; readonly isReturn: boolean } | null = null; // that was asked for
let waiting: readonly Writing[] = [];
let inFlight: (Writing & { readonly request: number }) | null = null;
let newest = 0; // request
let timer: ReturnType<typeof setTimeout> | undefined;
let reopens = ""; // id of the one that was deleted while it was open

function become(other: Open): void {
  open = other;
  openId.value = other.id;
}

// ------------------------------------------------------------------------------------------------ writing it down

/** Write down what has changed. */
export function keepNow(): void {
  clearTimeout(timer);
  timer = undefined;
  if (turns.peek().length === 0) return;
  const of = open;
  const seen = seenNow();
  const last = waiting.find((one) => one.of === of)?.seen ?? (inFlight?.of === of ? inFlight.seen : of.seen);
  if (isSame(seen, last)) return;
  waiting = [...waiting.filter((one) => one.of !== of), { of, written: writtenNow(), seen }];
  next();
}

function next(): void {
  const first = waiting[0];
  if (inFlight || !first || !chat.ready) return;
  waiting = waiting.slice(1);
  newest += 1;
  inFlight = { ...first, request: newest };
  const { id, title, revision } = first.of;
  chat.send("keep_conversation", { request: newest, conversation: { ...first.written, id, title, revision } });
}

/** Turns have come or gone. */
function turnsChanged(): void {
  const first = turns.peek()[0]?.key;
  if (first === undefined) {
    if (!open.id && !inFlight) return;
    open.seen = null;
    left = { open, first: firstShown };
    become(fresh());
    return;
  }
  if (left?.first === first && !open.id) become(left.open); // brought back
  firstShown = first;
  left = null;
}
let firstShown = 0; // key of the first turn

// ------------------------------------------------------------------------------------------------ what a person does

export function openConversation(id: string): void {
  if (id === open.id || replying.peek() !== null) return;
  keepNow();
  wanted = { id, isReturn: false };
  chat.send("open_conversation", { id });
}

/** Begin another one. The one that is open stays in the list. */
export function newConversation(): void {
  if (replying.peek() !== null) return;
  keepNow();
  wanted = null;
  show([]);
}

export const renameConversation = (id: string, title: string): void => chat.send("rename_conversation", { id, title });

export function deleteConversation(id: string): void {
  if (id === open.id) {
    if (replying.peek() !== null) return;
    clearTimeout(timer);
    reopens = id;
    waiting = waiting.filter(({ of }) => of !== open);
    show([]);
    left = null;
  }
  chat.send("delete_conversation", { id });
}

function restore(id: string): void {
  chat.send("restore_conversation", { id });
  if (reopens === id && turns.peek().length === 0) {
    wanted = { id, isReturn: false };
    chat.send("open_conversation", { id });
  }
}

function opened(kept: Conversation): void {
  if (kept.id !== wanted?.id) return;
  const { isReturn } = wanted;
  wanted = null;
  if (isReturn && turns.peek().length) return; // something was asked meanwhile
  batch(() => {
    const other = { id: kept.id, title: kept.title, revision: kept.revision, seen: null as Seen | null };
    become(other);
    show(turnsOf(kept));
    left = null;
    firstShown = turns.peek()[0]?.key ?? 0;
    setAsWritten(kept);
    if (!isReturn) useTogether(kept.adapters);
    other.seen = seenNow();
  });
  if (isReturn) toast(keptText.back, { label: keptText.startFresh, run: newConversation });
}

// ------------------------------------------------------------------------------------------------ what comes back

/** What the page was left with: asked for once. */
const before = { conversation: "", adapters: null as readonly AdapterUse[] | null, isOn: true };
let isBack = false;

/** Remember what is open, and write down what changes. Called once, when the page begins. */
export function setUpConversations(): void {
  let seen = turns.peek();
  const { conversation, adapters: uses, system: words, isOn } = readRemembered(PLACE);
  before.conversation = typeof conversation === "string" ? conversation : "";
  before.adapters = Array.isArray(uses) ? (uses as AdapterUse[]) : null;
  before.isOn = isOn !== "off";
  if (typeof words === "string" && !system.peek()) system.value = words;
  effect(() => {
    void [turns.value, system.value, replying.value, ...Object.values(replyFields).map(({ text }) => text.value)];
    turnsChanged();
    clearTimeout(timer);
    timer = setTimeout(keepNow, turns.peek() === seen ? LATER_MS : 0); // what is typed may go on
    seen = turns.peek();
  });
  globalThis.addEventListener?.("pagehide", keepNow);
  effect(() => remember(PLACE, "system", system.value, REMEMBERED));
  effect(() => {
    const id = openId.value;
    if (isBack || id) remember(PLACE, "conversation", id, REMEMBERED); // not before it had a chance to come back
  });
  effect(() => {
    const id = wantedAdapter.value;
    const all = id ? [{ id, name: "", strength: strength.value }, ...others.value.map(({ isHere: _, ...one }) => one)] : [];
    if (before.adapters === null) remember(PLACE, "adapters", all.length ? all : null, REMEMBERED);
    if (before.adapters === null) remember(PLACE, "isOn", isAdapterOn.value ? "" : "off", REMEMBERED);
  });
}

/** Have the adapters in use that were, once it is known which fit. */
function adaptersBack(): void {
  const uses = before.adapters;
  if (!uses) return;
  const all = adapters.peek();
  if (wantedAdapter.peek() || gpu.peek().state === "none") return void (before.adapters = null);
  if (!all || !all.some(({ fits }) => fits != null)) return; // no model is open yet
  before.adapters = null;
  useTogether(uses.map((one) => ({ ...one, name: all.find(({ id }) => id === one.id)?.name ?? one.name })));
  if (wantedAdapter.peek()) isAdapterOn.value = before.isOn;
}

/** Stands behind shelfArea and mixArea. */
export const keptArea: Area = {
  train: {
    adapter_list: adaptersBack,
  },
  chat: {
    ready: () => {
      inFlight = null;
      chat.send("list_conversations");
      next();
    },
    conversation_list: ({ conversations: all, reason }) => {
      conversations.value = all;
      whyNotKept.value = reason;
      const own = all.find(({ id }) => id === open.id);
      if (own) open.title = own.title;
      if (isBack) return;
      isBack = true;
      if (turns.peek().length || !all.some(({ id }) => id === before.conversation)) return;
      wanted = { id: before.conversation, isReturn: true };
      chat.send("open_conversation", { id: before.conversation });
    },
    conversation_opened: ({ conversation }) => opened(conversation),
    conversation_kept: ({ request, id, title, revision, as_copy }) => {
      if (inFlight?.request !== request) return;
      const { of, seen } = inFlight;
      inFlight = null;
      Object.assign(of, { id, title, revision, seen: of === open ? seen : null });
      if (of === open) openId.value = id;
      if (as_copy) toast(keptText.asCopy(title));
      next();
    },
    conversation_deleted: ({ id, title }) => {
      toast(keptText.deleted(title), { label: common.undo, run: () => restore(id) });
    },
    failed: ({ where }) => {
      if (where !== "storage" || !inFlight) return;
      inFlight = null; // what could not be written is tried again with the next change
      next();
    },
  },
};
