// A conversation as it is kept, and as the page has it.

import type { Conversation, ConversationGiven, KeptTurn } from "../../protocol";
import { replyFields, SAMPLING, shownWording, system, turns, writer, type Turn, type Wording } from "../../store/chat";
import { model } from "../../store/page";
import { chosenFormat } from "../../store/settings";

/** A conversation as it was at some time. It is held on to only while it stands on the page, so it takes no memory of its own. */
export interface Seen {
  readonly turns: readonly Turn[];
  readonly rest: string;
}

/** What makes it another one than it was: who answers next is no part of that. */
export const seenNow = (): Seen => ({
  turns: turns.peek(), rest: JSON.stringify([system.peek(), ...SAMPLING.map((name) => replyFields[name].text.peek())]),
});
export const isSame = (one: Seen, other: Seen | null): boolean => one.turns === other?.turns && one.rest === other.rest;

/** How a reply is drawn, as the fields stand; a field that cannot be used is left out. */
function samplingNow(): ConversationGiven["sampling"] {
  const entries = SAMPLING.map((name) => {
    const { text, first, isWrong } = replyFields[name];
    const written = text.peek().trim() || first;
    return isWrong.peek() || written === "" ? null : [name, Number(written)] as const;
  });
  return Object.fromEntries(entries.filter((one) => one !== null));
}

/** The conversation as it is now, without what is being written; the store's fields are whoever keeps it to say. */
export function writtenNow(): Omit<ConversationGiven, "id" | "title" | "revision"> {
  const kept = turns.peek().map((turn): KeptTurn => {
    const whole = turn.wordings.filter(({ isWriting }) => !isWriting);
    const chosen = Math.max(0, whole.indexOf(shownWording(turn)));
    return { role: turn.role, chosen, wordings: whole.map(keptWording) };
  });
  return {
    turns: kept.filter(({ wordings }) => wordings.length > 0),
    system: system.peek(),
    sampling: samplingNow(),
    fixed_seed: replyFields.seed.text.peek().trim() !== "" && !replyFields.seed.isWrong.peek(),
    adapters: writer.peek(),
    chat_format: chosenFormat(),
    model: model.peek()?.title ?? "",
  };
}

const keptWording = ({ content, adapters, tokenIds, end, finish, seed }: Wording): KeptTurn["wordings"][number] => ({
  content, adapters, token_ids: tokenIds ?? [], finish_reason: end?.finish_reason ?? finish ?? "", seed: seed ?? null,
});

/** The turns of a kept conversation. */
export function turnsOf(kept: Conversation): Omit<Turn, "key">[] {
  const asked = { system: kept.system.trim(), maxNewTokens: kept.sampling.max_new_tokens, chatFormat: kept.chat_format };
  return kept.turns.filter(({ wordings }) => wordings.length).map(({ role, wordings, chosen }) => ({
    role: role === "user" ? "user" : "assistant",
    chosen: Math.max(0, Math.min(chosen, wordings.length - 1)),
    wordings: wordings.map(({ content, adapters, token_ids, finish_reason, seed }): Wording => role === "user" ? { content, adapters: [] } : {
      content, adapters, tokenIds: token_ids, finish: finish_reason, asked,
      ...(seed === null ? {} : { seed }),
      ...(kept.model ? { model: kept.model } : {}),
    }),
  }));
}

/** Set the reply settings as they were. */
export function setAsWritten({ system: words, sampling, fixed_seed }: Conversation): void {
  system.value = words;
  for (const name of SAMPLING) {
    const field = replyFields[name];
    const value = name === "seed" && !fixed_seed ? "" : String(sampling[name]);
    if (field.text.peek() === value || (Number(field.first) === Number(value) && field.text.peek() === field.first)) continue;
    field.text.value = value;
    field.isWrong.value = false; // it was usable when it was kept
  }
}
