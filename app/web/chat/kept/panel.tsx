// The list of conversations: folded, it names the one that is open.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { focusNext } from "../../dom";
import { formatDate } from "../../format";
import type { ConversationInfo } from "../../protocol";
import { Icon } from "../../shell/parts";
import { replying } from "../../store/chat";
import { conversations, openId, whyNotKept } from "../../store/conversations";
import { keptText } from "../../text";
import { deleteConversation, newConversation, openConversation, renameConversation } from "./kept";

export function KeptConversations() {
  const fold = useRef<HTMLDetailsElement>(null);
  const all = conversations.value;
  if (!all?.length) return null;
  const own = all.find(({ id }) => id === openId.value);
  const close = (): void => {
    if (fold.current) fold.current.open = false;
    focusNext("chat-input");
  };
  return (
    <details class="fold kept" id="conversations" data-testid="conversations" ref={fold}>
      <summary><span class="kept-title">{own?.title ?? keptText.unnamed}</span> <span class="term">{keptText.count(all.length)}</span></summary>
      <div class="kept-body">
        <button type="button" class="secondary small" data-testid="conversation-new" disabled={replying.value !== null}
          onClick={() => (newConversation(), close())}>
          <Icon name="plus" /><span>{keptText.begin}</span>
        </button>
        {whyNotKept.value && <p class="hint">{keptText.notKept(whyNotKept.value)}</p>}
        <ul class="kept-list" data-testid="conversation-list">
          {all.map((one) => <Item key={one.id} one={one} close={close} />)}
        </ul>
      </div>
    </details>
  );
}

function Item({ one, close }: { one: ConversationInfo; close: () => void }) {
  const { id, title, turns, updated_at, adapters } = one;
  const [isRenamed, setRenamed] = useState(false);
  const isOpen = id === openId.value;
  const isOff = replying.value !== null;
  const remove = (): void => {
    deleteConversation(id);
    focusNext("chat-input");
  };
  return (
    <li data-id={id} data-testid="conversation" data-open={isOpen}>
      {isRenamed ? <Rename id={id} title={title} close={() => setRenamed(false)} /> : (
        <button type="button" class="kept-open" aria-current={isOpen ? "true" : undefined} disabled={isOff && !isOpen} onClick={() => (openConversation(id), close())}>
          <span class="kept-title">{title}</span>
          <span class="term">{keptText.about(formatDate(updated_at), turns, adapters.map(({ name }) => name).join(" + "))}</span>
        </button>
      )}
      <button type="button" class="quiet icon-only" id={`rename-conversation-${id}`} data-testid="conversation-rename"
        aria-label={keptText.rename(title)} title={keptText.rename(title)} onClick={() => setRenamed(true)}><Icon name="pen" /></button>
      <button type="button" class="quiet icon-only" data-testid="conversation-delete" aria-label={keptText.delete(title)}
        title={keptText.delete(title)} disabled={isOff && isOpen} onClick={remove}><Icon name="bin" /></button>
    </li>
  );
}

function Rename({ id, title, close }: { id: string; title: string; close: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const isOver = useRef(false);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (isKept: boolean): void => {
    if (isOver.current) return; // the field loses the focus as it goes
    isOver.current = true;
    const chosen = field.current?.value.trim();
    if (isKept && chosen && chosen !== title) renameConversation(id, chosen);
    close();
  };
  const key = (event: KeyboardEvent): void => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault(); // the focus goes to a button, which the same key press would push
    event.stopPropagation(); // Esc would end a reply
    finish(event.key === "Enter");
    focusNext(`rename-conversation-${id}`);
  };
  return (
    <input type="text" ref={field} defaultValue={title} maxLength={120} aria-label={keptText.newTitle(title)} data-testid="conversation-title"
      onKeyDown={key} onBlur={() => finish(true)} />
  );
}
