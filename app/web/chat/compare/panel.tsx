// Comparisons: who writes each side, and the questions with their two replies. Narrow, one stands under the other.

import { useEffect, useRef } from "preact/hooks";
import { formatRate } from "../../format";
import { Icon } from "../../shell/parts";
import { adapters, canSend, suggestions, writer } from "../../store/chat";
import { comparisons, isComparing, SIDES, sides, TOGETHER, type ComparedSide, type Comparison, type SideName } from "../../store/comparing";
import { chatText, compareText } from "../../text";
import { markup } from "../conversation";
import { Log } from "../log";
import { StrengthField } from "../mix/strength";
import { whoText } from "../who";
import { askedTwice, askTwice, chooseSide, toggleComparing } from "./comparison";

/** The conversation, or what is compared. */
export const LogOrComparisons = () => (isComparing.value ? <Comparisons /> : <Log />);

/** The button in the panel's head. */
export const CompareTool = () => (
  <button type="button" class="quiet small" id="chat-compare" data-testid="chat-compare" aria-pressed={isComparing.value}
    title={compareText.what} onClick={toggleComparing}>
    <Icon name="columns" /><span>{compareText.compare}</span>
  </button>
);

function Comparisons() {
  const box = useRef<HTMLDivElement>(null);
  const asked = askedTwice.value;
  useEffect(() => {
    const last = box.current?.querySelector<HTMLElement>(".comparison:last-of-type");
    if (last && box.current) box.current.scrollTop = last.offsetTop - 8;
  }, [asked]);
  const all = comparisons.value;
  return (
    <section class="comparing" data-testid="comparing" aria-label={compareText.title}>
      <div class="sides">{SIDES.map((name) => <Who key={name} name={name} />)}</div>
      <div class="comparing-scroll" ref={box} tabIndex={0} role="region" aria-label={compareText.answers}>
        {all.length === 0 && (
          <div class="chat-empty">
            <Icon name="columns" big />
            <p>{compareText.empty}</p>
            <div class="suggestions">
              {suggestions.value.map((question) => (
                <button type="button" class="suggestion" disabled={!canSend.value} onClick={() => askTwice(question)}>{question}</button>
              ))}
            </div>
          </div>
        )}
        <div role="log" aria-live="polite" aria-relevant="additions" aria-label={compareText.answers}>
          {all.map((one) => <OneComparison key={one.turn} one={one} />)}
        </div>
      </div>
    </section>
  );
}

/** Who writes a side. */
function Who({ name }: { name: SideName }) {
  const { who, strength } = sides.value[name];
  const together = writer.value;
  return (
    <div class="side-choice">
      <label class="visually-hidden" for={`who-${name}`}>{compareText.sides[name]}</label>
      <select id={`who-${name}`} data-testid={`compare-${name}`} value={who} onChange={(event) => chooseSide(name, { who: event.currentTarget.value })}>
        <option value="">{chatText.baseModel}</option>
        {together.length > 1 && <option value={TOGETHER}>{compareText.together(together.map((one) => one.name).join(" + "))}</option>}
        {(adapters.value ?? []).filter(({ fits }) => fits !== false).map(({ id, name: called }) => <option key={id} value={id}>{called}</option>)}
      </select>
      {who !== "" && who !== TOGETHER && (
        <StrengthField id={`compare-strength-${name}`} label={compareText.strengthOf(compareText.sides[name])} value={strength}
          set={(value) => chooseSide(name, { strength: value })} />
      )}
    </div>
  );
}

function OneComparison({ one }: { one: Comparison }) {
  return (
    <article class="comparison" data-testid="comparison" data-state={one.isWriting ? "streaming" : "done"}>
      <h3 class="comparison-question">{one.question}</h3>
      <div class="compared">
        {SIDES.map((name) => <Answer key={name} name={name} side={one[name]} isWriting={one.isWriting && !one[name].end} />)}
      </div>
      <p class="turn-stats">{compareText.seed(one.seed)}</p>
    </article>
  );
}

function Answer({ name, side: { by, text, end }, isWriting }: { name: SideName; side: ComparedSide; isWriting: boolean }) {
  const Markup = markup.value?.Markup;
  return (
    <section class="compared-side" data-adapter={by.length ? "on" : "off"} data-testid={`compared-${name}`} data-state={isWriting ? "streaming" : "done"}
      aria-label={compareText.sides[name]} aria-busy={isWriting}>
      <p class="who">{whoText(by)}</p>
      <div class={Markup ? "message-text" : "message-text plain"}>
        {text ? (Markup ? <Markup text={text} isWriting={isWriting} /> : text) : isWriting ? "" : chatText.nothing}
      </div>
      {end && <p class="turn-stats">{chatText.reply(end.tokens, formatRate(end.tokens_per_s), chatText.ended[end.finish_reason] ?? "")}</p>}
    </section>
  );
}
