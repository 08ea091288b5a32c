// The keyboard's shortcuts, and the list of them.

import { useEffect, useRef } from "preact/hooks";
import { byId, scrollTo } from "../dom";
import { startNow } from "../train/run";
import { pageText } from "../text";
import { Icon } from "./parts";

const isWriting = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");

export function Keys() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
      const { key, target } = event;
      if (key === "Enter" && (event.ctrlKey || event.metaKey) && !(target instanceof HTMLTextAreaElement)) startNow();
      else if (event.ctrlKey || event.metaKey || isWriting(target)) return;
      else if (key === "/") toChat();
      else if (key === "?") dialog.current?.showModal();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  return (
    <dialog id="keys-dialog" aria-labelledby="keys-title" ref={dialog} onClick={(event) => event.target === dialog.current && dialog.current?.close()}>
      <form method="dialog" class="dialog-head">
        <h2 id="keys-title">{pageText.keysTitle}</h2>
        <button class="quiet icon-only" aria-label={pageText.close} value="close"><Icon name="close" /></button>
      </form>
      <dl class="keys-list">
        {pageText.keys.map(([key, what]) => [<dt><kbd>{key}</kbd></dt>, <dd>{what}</dd>])}
      </dl>
    </dialog>
  );
}

function toChat(): void {
  scrollTo("chat");
  byId("chat-input").focus({ preventScroll: true });
}
