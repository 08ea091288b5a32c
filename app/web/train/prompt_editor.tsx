// The prompts that the model is asked while it learns, to be written by a person.

import { useEffect, useRef } from "preact/hooks";
import { focusNext } from "../dom";
import { editing, prompts } from "../store/watch";
import { watchText } from "../text";
import { setPrompts } from "./watching";

const MOST = 3;

export function PromptEditor() {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector("textarea")?.focus(), []);
  const all = prompts.peek()?.all ?? [];
  const close = (): void => {
    editing.value = false;
    focusNext("prompts-edit", "settings-toggle");
  };
  const set = (texts: readonly string[]): void => {
    setPrompts(texts);
    close();
  };
  const save = (event: Event): void => {
    event.preventDefault();
    set([...form.current!.querySelectorAll("textarea")].map(({ value }) => value));
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.stopPropagation(); // elsewhere it starts a run
      save(event);
    }
  };
  return (
    <form class="prompt-editor" ref={form} aria-label={watchText.editor} onSubmit={save} onKeyDown={onKey}>
      {Array.from({ length: Math.max(MOST, all.length) }, (_, index) => (
        <div class="field">
          <label for={`prompt-${index}`}>{watchText.prompt(index + 1)}</label>
          <textarea id={`prompt-${index}`} data-testid="prompt-field" rows={2} defaultValue={all[index]?.prompt ?? ""} />
        </div>
      ))}
      <p class="hint">{watchText.editHint}</p>
      <div class="problem-buttons">
        <button type="submit" class="secondary small" data-testid="prompts-save">{watchText.save}</button>
        <button type="button" class="quiet small" data-testid="prompts-rows" onClick={() => set([])}>{watchText.chooseRows}</button>
        <button type="button" class="quiet small" onClick={close}>{watchText.cancel}</button>
      </div>
    </form>
  );
}
