// Any row as the model sees it, token by token; walked through by buttons and keys. In the data panel, or large in a dialog.

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { byId } from "../dom";
import { formatCount } from "../format";
import { Icon } from "../shell/parts";
import { dataText } from "../text";
import { Chips, focusedToken, focusToken, TokenLine } from "./chips";
import { find, goTo, goToNumber, isLarge, jump, message, place, row, search, view, walk, type Jump } from "./preview";

const words = dataText.preview;
const JUMPS: readonly Exclude<Jump, "next" | "previous">[] = ["longest", "shortest", "truncated", "random", "most-trained", "least-trained"];
const typed = signal<string | null>(null); // the number that is being typed: no late answer writes over it

const focusRow = (): void => byId("preview-chips").focus({ preventScroll: true });

export function Preview() {
  const dialog = useRef<HTMLDialogElement>(null);
  const wasLarge = useRef(false);
  const large = isLarge.value;
  useLayoutEffect(() => {
    if (large) {
      dialog.current?.showModal();
      focusRow();
    } else if (wasLarge.current) {
      dialog.current?.close();
      byId("preview-enlarge").focus();
    }
    wasLarge.current = large;
  }, [large]);
  useEffect(() => () => void (typed.value = null), []);
  const home = <Section />;
  return (
    <>
      <div id="preview-home">{!large && home}</div>
      <dialog class="preview-dialog" id="preview-dialog" aria-labelledby="preview-title" ref={dialog} onClose={() => (isLarge.value = false)}>
        {large && home}
      </dialog>
    </>
  );
}

const Section = () => (
  <section class="preview" id="preview" data-testid="preview" data-view={view.value} aria-labelledby="preview-title" onKeyDown={onKey}>
    <div class="preview-head">
      <h3 id="preview-title">{words.title}</h3>
      <div class="presets" role="group" aria-label={words.showAs}>
        {(["tokens", "text"] as const).map((one) => (
          <button type="button" id={`preview-${one}`} data-testid={`preview-${one}`} aria-pressed={view.value === one} onClick={() => (view.value = one)}>
            {words.views[one]}
          </button>
        ))}
      </div>
    </div>
    <Walk />
    <Find />
    <p class="preview-message" id="preview-message" data-testid="preview-message" role="status">{message.value}</p>
    <Chips />
    <TokenLine />
    <Legend />
    <ul class="preview-notes" id="preview-notes" data-testid="preview-notes">{row.value?.notes.map((note) => <li>{note}</li>)}</ul>
    <p class="keys" id="preview-keys">
      {words.keys.map(([keys, what]) => <span>{keys.map((key) => <><kbd>{key}</kbd> </>)}{what} </span>)}
    </p>
    <p class="visually-hidden" id="preview-said" data-testid="preview-said" aria-live="polite">{said()}</p>
  </section>
);

function said(): string {
  const now = row.value;
  return now ? words.said(now.index + 1, now.count, place.value, now.length, now.trained.filter(Boolean).length) : "";
}

function Legend() {
  const now = row.value;
  return (
    <div class="legend" role="group" aria-label={words.marks}>
      <span><span class="chip trained" aria-hidden="true">{words.word}</span> {words.trained}</span>{" "}
      <span><span class="chip" aria-hidden="true">{words.word}</span> {words.onlyRead}</span>{" "}
      <span><span class="chip special" aria-hidden="true">{words.endToken}</span> {words.specialToken}</span>{" "}
      <span id="preview-cut-key" hidden={!now || now.kept >= now.length}>
        <span class="chip beyond" aria-hidden="true">{words.word}</span> {words.cutOff}
      </span>
    </div>
  );
}

// --------------------------------------------------------------------------------------------------- walking, finding

function Walk() {
  const now = row.value;
  const large = isLarge.value;
  return (
    <div class="preview-walk">
      <button type="button" class="secondary icon-only small" data-jump="previous" aria-label={words.previous} onClick={() => jump("previous")}>
        <Icon name="left" />
      </button>
      <label for="preview-number">{words.row}</label>
      <input id="preview-number" data-testid="preview-number" inputMode="numeric" autocomplete="off" spellcheck={false}
        aria-describedby="preview-count" value={typed.value ?? (now ? String(now.index + 1) : "")} onKeyDown={onNumberKey}
        onInput={({ currentTarget }) => (typed.value = currentTarget.value)} onFocus={beginTyping} onBlur={() => (typed.value = null)} />
      <span id="preview-count" data-testid="preview-count" class="count">{now && words.of(formatCount(now.count))}</span>
      <button type="button" class="secondary icon-only small" data-jump="next" aria-label={words.next} onClick={() => jump("next")}>
        <Icon name="right" />
      </button>
      <button type="button" class="quiet icon-only" id="preview-enlarge" data-testid="preview-enlarge"
        aria-label={large ? words.showSmall : words.showLarge} title={large ? words.showSmall : words.showLarge}
        onClick={() => (isLarge.value = !isLarge.peek())}>
        <Icon name="expand" /><Icon name="close" />
      </button>
      <span id="preview-place" data-testid="preview-place" class="preview-place">{place.value}</span>
    </div>
  );
}

function beginTyping({ currentTarget }: FocusEvent & { currentTarget: HTMLInputElement }): void {
  typed.value = currentTarget.value;
  currentTarget.select();
}

const Find = () => (
  <div class="preview-find">
    <div class="preview-jumps" role="group" aria-label={words.goToRow}>
      {JUMPS.map((kind) => (
        <button type="button" class="quiet small" data-jump={kind} data-testid={`jump-${kind}`} onClick={() => jump(kind)}>{words.jumps[kind]}</button>
      ))}
    </div>
    <input type="search" id="preview-search" data-testid="preview-search" placeholder={words.search} aria-label={words.search} autocomplete="off"
      spellcheck={false} aria-describedby="preview-search-hint" enterKeyHint="search" value={search.value} onKeyDown={onSearchKey}
      onInput={({ currentTarget }) => (search.value = currentTarget.value)} />
    <span class="visually-hidden" id="preview-search-hint">{words.searchHint}</span>
  </div>
);

// ---------------------------------------------------------------------------------------------------------------- keys

function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).matches("input")) return;
  const keys: Record<string, () => void> = {
    ArrowRight: () => walk(1), j: () => walk(1), ArrowLeft: () => walk(-1), k: () => walk(-1),
    Home: () => goTo(0), End: () => goTo((row.peek()?.count ?? 1) - 1), r: () => jump("random"),
    g: () => byId("preview-number").focus(), "/": () => byId("preview-search").focus(),
  };
  const tokens: Record<string, () => void> = {
    ArrowRight: () => focusToken(focusedToken() + 1), ArrowLeft: () => focusToken(focusedToken() - 1),
  };
  const act = event.shiftKey && event.key !== "/" ? tokens[event.key] : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

type FieldKey = KeyboardEvent & { currentTarget: HTMLInputElement };

function onNumberKey(event: FieldKey): void {
  if (event.key === "Escape") return leaveField(event);
  if (event.key !== "Enter") return;
  const number = event.currentTarget.value;
  leaveField(event);
  goToNumber(number);
}

function onSearchKey(event: FieldKey): void {
  const sought = event.currentTarget.value.trim();
  if (event.key === "Escape" && !sought) return leaveField(event);
  if (event.key === "Escape") { // it empties the field, and does not close the large view
    event.preventDefault();
    search.value = "";
  }
  if (event.key !== "Enter") return;
  event.preventDefault();
  if (!sought) return leaveField(event);
  find(sought, event.shiftKey);
}

/** From a field back to the row. */
function leaveField(event: Event): void {
  event.preventDefault();
  event.stopPropagation();
  focusRow();
}
