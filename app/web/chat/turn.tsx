// One turn of the conversation: who says it, what, and what can be done with it.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { copyText, focusNext } from "../dom";
import { formatRate } from "../format";
import { Icon } from "../shell/parts";
import { canSend, shownWording, writing, type AdapterUse, type Turn, type Wording } from "../store/chat";
import { model } from "../store/page";
import { chatText, common } from "../text";
import { ChangesSlot, ChangesTool } from "./changes/slot";
import { askAgain, choose, edit, markup } from "./conversation";
import { whoText } from "./who";

const SAID_MS = 1500;

/** Who has written something, by the names that adapters have now; with the model's where another one is open since. */
function nameOf({ adapters: by, model: of }: Wording): string {
  const who = whoText(by);
  return of && model.value && of !== model.value.title ? chatText.ofModel(who, of) : who;
}

/** How a reply went: how long it is, how quick it was, why it ended. */
const statsOf = ({ end }: Wording): string | undefined =>
  end && chatText.reply(end.new_tokens, formatRate(end.tokens_per_s), chatText.ended[end.finish_reason] ?? "");

/** `by` answers it, or has answered. */
export function TurnView({ turn, by, isLast }: { turn: Turn; by: readonly AdapterUse[]; isLast: boolean }) {
  const [isEdited, setEdited] = useState(false);
  const wording = shownWording(turn);
  const isMine = turn.role === "user";
  const state = wording.isWriting ? "streaming" : "done";
  const who = isMine ? chatText.you : nameOf(wording);
  const adapter = by.length ? "on" : "off";
  const close = (): void => {
    setEdited(false);
    focusNext(`edit-${turn.key}`, "chat-input");
  };
  return (
    <article class="chat-turn" data-role={turn.role} data-adapter={adapter} aria-labelledby={`who-${turn.key}`}>
      <p class={isMine ? "who visually-hidden" : "who"} id={`who-${turn.key}`}>{who}</p>
      {isEdited ? <Editor turn={turn} close={close} /> : (
        <div class="message" data-testid="chat-message" data-role={turn.role} data-adapter={adapter} data-state={state}
          data-stats={statsOf(wording)} aria-busy={wording.isWriting ?? false}>
          <Text wording={wording} isMine={isMine} />
        </div>
      )}
      {!isEdited && (
        <div class="turn-foot" data-state={state}>
          <span class="turn-stats" title={wording.seed === undefined ? undefined : chatText.seed(wording.seed)}>{statsOf(wording)}</span>
          <div class="turn-tools">
            {turn.wordings.length > 1 && <Wordings turn={turn} isOff={wording.isWriting ?? false} />}
            {isLast && !isMine && (
              <Tool name="again" label={chatText.regenerate} testid="chat-again" asks run={askAgain} />
            )}
            {isMine && (
              <Tool name="pen" id={`edit-${turn.key}`} label={chatText.edit} testid="chat-edit" asks run={() => setEdited(true)} />
            )}
            {!isMine && <ChangesTool turn={turn} wording={wording} />}
            <Copy text={wording.content} />
          </div>
        </div>
      )}
      {!isMine && <ChangesSlot turn={turn} />}
    </article>
  );
}

function Text({ wording, isMine }: { wording: Wording; isMine: boolean }) {
  const text = wording.isWriting ? writing.value : wording.content;
  const Markup = isMine ? null : markup.value?.Markup;
  // Nothing stands in it until there is something to read, and what it says of nothing is no reply.
  let shown: ComponentChildren = text;
  if (!isMine && !text && !wording.isWriting) shown = chatText.nothing;
  else if (Markup && text) shown = <Markup text={text} isWriting={wording.isWriting ?? false} />;
  return <div class={Markup ? "message-text" : "message-text plain"}>{shown}</div>;
}

/** The answers to the same question, one of which is shown. */
function Wordings({ turn: { key, chosen, wordings }, isOff }: { turn: Turn; isOff: boolean }) {
  return (
    <span class="wordings" data-testid="chat-wordings">
      <Tool name="left" label={chatText.earlier} isOff={isOff || chosen === 0} run={() => choose(key, chosen - 1)} />
      <span>{chatText.wording(chosen + 1, wordings.length)}</span>
      <Tool name="right" label={chatText.later} isOff={isOff || chosen === wordings.length - 1} run={() => choose(key, chosen + 1)} />
    </span>
  );
}

/** `asks`: it needs a chat that takes a message. */
function Tool({ name, label, isOff = false, asks = false, run, testid, id }: {
  name: string; label: string; isOff?: boolean; asks?: boolean; run: () => void; testid?: string; id?: string;
}) {
  return (
    <button type="button" class="quiet icon-only tool" id={id} data-testid={testid} aria-label={label} title={label}
      disabled={isOff || (asks && !canSend.value)} onClick={run}>
      <Icon name={name} />
    </button>
  );
}

const COPIED = { copy: chatText.copyMessage, check: common.copied, close: common.copyRefused };

function Copy({ text }: { text: string }) {
  const [sign, setSign] = useState<keyof typeof COPIED>("copy");
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const run = async (): Promise<void> => {
    setSign((await copyText(text)) ? "check" : "close");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSign("copy"), SAID_MS);
  };
  return <Tool name={sign} label={COPIED[sign]} testid="chat-copy" run={run} />;
}

/** A message that is written anew. */
function Editor({ turn, close }: { turn: Turn; close: () => void }) {
  const [text, setText] = useState(shownWording(turn).content);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  useLayoutEffect(() => grow(field.current), [text]);
  const send = (): void => {
    if (!text.trim() || !canSend.peek()) return;
    edit(turn.key, text);
    focusNext("chat-input");
  };
  const key = (event: KeyboardEvent): void => {
    if (event.isComposing || (event.key !== "Escape" && (event.key !== "Enter" || event.shiftKey))) return;
    event.preventDefault();
    event.stopPropagation(); // Esc would end a reply
    if (event.key === "Enter") send();
    else close();
  };
  return (
    <div class="editor">
      <textarea ref={field} data-testid="chat-edit-text" aria-label={chatText.editing} value={text} rows={1} onKeyDown={key}
        onInput={(event) => setText(event.currentTarget.value)} />
      <div class="problem-buttons">
        <button type="button" class="primary small" data-testid="chat-edit-send" disabled={!canSend.value} onClick={send}>{chatText.sendAgain}</button>
        <button type="button" class="quiet small" onClick={close}>{chatText.cancel}</button>
      </div>
    </div>
  );
}

const MOST_HEIGHT = 180; // px

/** A field as high as its text. */
export function grow(field: HTMLTextAreaElement | null): void {
  if (!field) return;
  field.style.height = field.value ? "auto" : ""; // an empty one is as high as its rows, also before there is a style
  if (field.value) field.style.height = `${Math.min(field.scrollHeight, MOST_HEIGHT)}px`;
}
