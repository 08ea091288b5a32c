// A row's tokens as chips, or as its plain text with the trained parts marked. The text that is in the page is always
// the row's own: what shows a space or a line break is drawn by preview.css over it, so that it can be copied and read.

import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { formatCount } from "../format";
import type { RowShown } from "../protocol";
import { dataText } from "../text";
import { markFound } from "./found";
import { row, searched, view } from "./preview";

const words = dataText.preview;
const MANY_TOKENS = 800;
// What cannot be seen, or would turn the text around: drawn as a sign. The two joiners stand inside of words and emoji.
const HIDDEN = /[\0- \x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]/;
const SIGNS: Readonly<Record<string, string>> = {
  " ": "·", "\n": "¶", "\t": "→", "\r": "CR", "\0": "NUL", "\xa0": "nbsp", "\ufeff": "BOM",
};
const JOINERS = /^[\u200c\u200d\ufe0f]+$/;

const told = signal(-1); // the token that is told about

/** The row, in the view that is chosen. */
export function Chips() {
  const box = useRef<HTMLDivElement>(null);
  const before = useRef({ index: -1, scrolled: 0 });
  const now = row.value;
  // What is here is replaced as a whole: the focus on a token would be lost with it.
  const hadFocus = box.current?.contains(document.activeElement) ?? false;
  before.current.scrolled = box.current?.scrollTop ?? 0;
  useLayoutEffect(() => {
    const shown = box.current;
    if (!shown) return;
    told.value = -1;
    shown.scrollTop = now && now.index === before.current.index ? before.current.scrolled : 0;
    before.current.index = now?.index ?? -1;
    if (hadFocus && !shown.contains(document.activeElement)) shown.focus({ preventScroll: true });
    markFound(shown, searched.value);
  }, [now, view.value]);
  return (
    <div class={now && now.texts.length > MANY_TOKENS ? "chips many" : "chips"} id="preview-chips" data-testid="preview-chips" tabIndex={0}
      role="group" aria-label={words.theRow} aria-describedby="preview-keys" ref={box}
      onPointerOver={({ target }) => (told.value = indexOf(target))} onPointerLeave={() => (told.value = focusedToken())}
      onFocusIn={({ target }) => (told.value = indexOf(target))} onFocusOut={() => (told.value = -1)}
      onClick={({ target }) => focusToken(indexOf(target))}>
      {now && (view.value === "tokens" ? <Tokens key={`tokens ${now.request}`} row={now} /> : <Text key={`text ${now.request}`} row={now} />)}
    </div>
  );
}

const indexOf = (element: EventTarget | null): number =>
  element instanceof Element ? Number(element.closest<HTMLElement>(".chip")?.dataset.index ?? -1) : -1;

export const focusedToken = (): number => indexOf(document.activeElement);

/** Move the focus to a token; nothing where there is none. */
export function focusToken(index: number): void {
  document.getElementById("preview-chips")?.querySelector<HTMLElement>(`[data-index="${index}"]`)?.focus();
}

/** What there is to know of the token that is pointed at, or that has the focus. */
export function TokenLine() {
  const [now, index] = [row.value, told.value];
  const text = now?.texts[index];
  return (
    <p class="token-line" id="preview-token" data-testid="preview-token">
      {now && text !== undefined && <><strong>{JSON.stringify(text)}</strong> {about(now, index)}</>}
    </p>
  );
}

function about({ token_ids, texts, special, trained, kept, length }: RowShown, index: number): string {
  const said = [words.id(token_ids[index] ?? -1), words.token(formatCount(index + 1), formatCount(length))];
  if (special[index]) said.push(words.special);
  if (texts[index] === "") said.push(words.partOfCharacter);
  said.push(index >= kept ? words.cutOff : trained[index] ? words.trained : words.onlyRead);
  return said.join(" · ");
}

// --------------------------------------------------------------------------------------------------------- the two views

/** The tokens, with a line where the row is cut. A line of the text is one of the chips: far away ones need no layout. */
function Tokens({ row: { texts, trained, special, kept, length } }: { row: RowShown }) {
  const all: JSX.Element[] = [];
  let line: JSX.Element[] = [];
  const endLine = (): void => {
    if (line.length) all.push(<div class="chip-line">{line}</div>);
    line = [];
  };
  texts.forEach((text, index) => {
    if (index === kept) {
      endLine();
      all.push(<CutLine kept={kept} />);
    }
    const name = index >= kept ? "chip beyond" : trained[index] ? "chip trained" : "chip";
    line.push(
      <span class={special[index] ? `${name} special` : name} data-index={index} tabIndex={-1} dir="auto">{signed(text)}</span>,
    );
    if (text.includes("\n")) endLine();
  });
  endLine();
  return <>{all}<End shown={texts.length} kept={kept} length={length} /></>;
}

/** The same row as plain text. */
function Text({ row: { texts, trained, special, kept, length } }: { row: RowShown }) {
  const kindOf = (index: number): string => {
    const kind = index >= kept ? "beyond" : trained[index] ? "trained" : "";
    return special[index] ? `${kind} special`.trim() : kind;
  };
  const all: JSX.Element[] = [];
  for (let index = 0; index < texts.length;) {
    if (index === kept) all.push(<CutLine kept={kept} />);
    const kind = kindOf(index);
    let end = index + 1;
    while (end < texts.length && end !== kept && kindOf(end) === kind) end += 1;
    const text = texts.slice(index, end).join("");
    all.push(kind.includes("trained") ? <mark class={kind}>{text}</mark> : <span class={kind || undefined}>{text}</span>);
    index = end;
  }
  return <><div class="plain" dir="auto">{all}</div><End shown={texts.length} kept={kept} length={length} /></>;
}

/** What stands behind the tokens: the cut, where none of them is beyond it, and that there are more. */
const End = ({ shown, kept, length }: { shown: number; kept: number; length: number }) => (
  <>
    {kept < length && kept === shown && <CutLine kept={kept} />}
    {shown < length && <p class="hint">{words.firstTokens(formatCount(shown), formatCount(length))}</p>}
  </>
);

const CutLine = ({ kept }: { kept: number }) => (
  <div class="cut-line" data-testid="preview-cut"><span>{words.cutHere(formatCount(kept))}</span></div>
);

/** A token's text, with a sign over each character that cannot be seen. */
function signed(text: string): ComponentChildren {
  if (JOINERS.test(text)) return <Sign text={text} sign={[...text].map(named).join(" ")} />;
  if (!HIDDEN.test(text)) return text;
  const parts: ComponentChildren[] = [];
  let seen = "";
  for (const character of text) {
    if (HIDDEN.test(character)) {
      if (seen) parts.push(seen);
      parts.push(<Sign text={character} sign={SIGNS[character] ?? named(character)} />);
      seen = "";
    } else seen += character;
  }
  if (seen) parts.push(seen);
  return parts;
}

const Sign = ({ text, sign }: { text: string; sign: string }) => <i data-sign={sign} class={sign.length > 1 ? "named" : undefined}>{text}</i>;

const named = (character: string): string => `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
