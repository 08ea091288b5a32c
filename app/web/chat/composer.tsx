// Where a message is written and sent, and why it cannot be.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { byId, focusNext } from "../dom";
import { Icon } from "../shell/parts";
import { Problems } from "../shell/problems";
import { canSend, draft, replying, shownWording, turns, whyNoChat } from "../store/chat";
import { isComparing } from "../store/comparing";
import { chatText } from "../text";
import { askTwice, stopAny } from "./compare/comparison";
import { ask, clear } from "./conversation";
import { grow } from "./turn";

/** The button in the panel's head. What it takes away can be brought back. */
export function ChatTools() {
  const take = (): void => {
    clear();
    focusNext("chat-input");
  };
  return (
    <button type="button" class="quiet small" id="chat-clear" hidden={isComparing.value} disabled={turns.value.length === 0 || replying.value !== null} onClick={take}>
      {chatText.clear}
    </button>
  );
}

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null);
  const recalled = useRef(0); // 1 is the newest of one's own messages, 0 what is being written
  const isWriting = replying.value !== null;
  useLayoutEffect(() => grow(field.current), [draft.value]);
  // Send and Stop stand in each other's place: the focus goes along, or keyboards would lose it.
  const sentByButton = useRef(false);
  const wasWriting = useRef(false);
  useEffect(() => {
    const focused = document.activeElement;
    if (isWriting && sentByButton.current) focusNext("chat-stop");
    if (!isWriting && wasWriting.current && (focused === document.body || focused?.id === "chat-stop")) focusNext("chat-input");
    sentByButton.current = false;
    wasWriting.current = isWriting;
  }, [isWriting]);
  useSignalEffect(() => {
    if (draft.value === "") recalled.current = 0;
  });
  useEffect(() => {
    const panel = byId("chat");
    const end = (event: KeyboardEvent): void => {
      const isHere = event.target === document.body || panel.contains(event.target as Node);
      if (event.key === "Escape" && isHere && !event.isComposing) stopAny();
    };
    document.addEventListener("keydown", end);
    return () => document.removeEventListener("keydown", end);
  }, []);

  const send = (event: Event): void => {
    event.preventDefault();
    sentByButton.current = document.activeElement?.id === "chat-send";
    if (isComparing.peek()) askTwice();
    else ask();
  };

  const recall = (event: KeyboardEvent, step: number): void => {
    const mine = turns.peek().filter(({ role }) => role === "user").map((turn) => shownWording(turn).content).reverse();
    const next = recalled.current + step;
    const isUntouched = draft.peek() === (recalled.current ? mine[recalled.current - 1] : "");
    if (!isUntouched || next < 0 || next > mine.length) return;
    event.preventDefault();
    draft.value = next ? (mine[next - 1] ?? "") : "";
    recalled.current = next;
  };

  const key = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) send(event);
    else if (event.key === "ArrowUp") recall(event, 1);
    else if (event.key === "ArrowDown") recall(event, -1);
  };

  return (
    <>
      <Problems slot="chat-problem" />
      <form class="composer" id="composer" onSubmit={send}>
        <label class="visually-hidden" for="chat-input">{chatText.message}</label>
        <textarea id="chat-input" data-testid="chat-input" rows={1} placeholder={chatText.placeholder} enterkeyhint="send" ref={field} value={draft.value}
          onInput={(event) => (draft.value = event.currentTarget.value)} onKeyDown={key} />
        <button type="submit" class={`${draft.value.trim() ? "primary" : "secondary"} icon-only`} data-testid="chat-send" id="chat-send"
          aria-label={chatText.send} disabled={!canSend.value} hidden={isWriting}>
          <Icon name="send" />
        </button>
        <button type="button" class="stop icon-only" data-testid="chat-stop" id="chat-stop" aria-label={chatText.stopReply} hidden={!isWriting} onClick={stopAny}>
          <Icon name="stop" />
        </button>
      </form>
      <p class="chat-note" id="chat-note" role="status">{whyNoChat.value}</p>
    </>
  );
}
