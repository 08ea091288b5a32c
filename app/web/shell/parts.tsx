// Small pieces that every panel is made of.

import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { copyText } from "../dom";

/** A part of the page, and the id of the element in templates/ that it is rendered into. */
export type Root = readonly [id: string, Part: ComponentType];

/** An icon of templates/icons.html. */
export const Icon = ({ name, big = false }: { name: string; big?: boolean }) => (
  <svg class={big ? "icon big" : "icon"} aria-hidden="true"><use href={`#i-${name}`} /></svg>
);

/** A bar; `part` is 0 to 1, or null where nobody knows how far it is. An element that once had a value cannot lose it. */
export const Bar = ({ part, label, ...others }: { part: number | null; label: string; id?: string; hidden?: boolean }) =>
  part == null
    ? <progress key="unknown" max="1" aria-label={label} {...others} />
    : <progress key="known" max="1" value={part} aria-label={label} {...others} />;

/** A group of buttons of which one is chosen: one stop of the Tab key, arrows go from one to the next. */
export function Choices({ label, children, ...others }: { label: string; children: ComponentChildren; class: string; id?: string; hidden?: boolean }) {
  const group = useRef<HTMLDivElement>(null);
  const all = (): HTMLButtonElement[] => [...(group.current?.querySelectorAll("button") ?? [])];
  useEffect(() => {
    const buttons = all();
    const stop = buttons.find((one) => one === document.activeElement) ?? buttons.find((one) => one.ariaPressed === "true") ?? buttons[0];
    for (const one of buttons) one.tabIndex = one === stop ? 0 : -1;
  });
  const move = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const buttons = all();
    const place = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (!step || place < 0) return;
    event.preventDefault();
    buttons.at((place + step) % buttons.length)?.focus();
  };
  return <div role="group" aria-label={label} ref={group} onKeyDown={move} {...others}>{children}</div>;
}

/** A button that copies, and says for a moment whether it could. */
export function CopyButton({ label, done, refused, text, icon = false, ...others }: {
  label: string; done: string; refused: string; text: () => string | Promise<string>; icon?: boolean; id?: string; "data-testid"?: string;
}) {
  const [said, say] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async (): Promise<void> => {
    say((await copyText(text())) ? done : refused);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => say(""), 3000);
  };
  return (
    <button type="button" class="quiet small" onClick={copy} {...others}>
      {icon && <Icon name="copy" />}
      <span>{said || label}</span>
    </button>
  );
}

/** A fold that the person opens; `open` is where it begins. */
export const Fold = ({ summary, children, ...others }: { summary: ComponentChildren; children: ComponentChildren; id?: string; class?: string }) => (
  <details {...others} class={`fold ${others.class ?? ""}`.trim()}>
    <summary>{summary}</summary>
    {children}
  </details>
);
